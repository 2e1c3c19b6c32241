"""Means of many explanations, compared with a manual calculation and grouped by terrain."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import ran

import geovision
from geovision.attribution import (
    AttributionConfig,
    AttributionSummary,
    Completeness,
    Explanation,
    InputMap,
    InputWindow,
)
from geovision.attribution.aggregate import ABLATION
from geovision.datasets.hail_samples import HailSamples


def explanation(
    red: float, green: float, *, total: float = 1.0, lost: dict[str, float] | None = None
) -> Explanation:
    values = np.zeros((2, 2, 2))
    values[:, 0, 0] = red, green
    image = InputMap(values, "channel y x", InputWindow(0, 0, 2, 2), np.zeros((2, 2, 2)), ("red", "green"))
    return Explanation(
        source="",
        model="",
        label="yes",
        logit=0.0,
        probability=None,
        config=AttributionConfig("integrated-gradients"),
        inputs={"image": image},
        completeness=Completeness(total, 1.0),
        ablation=lost or {},
    )


def test_means_equal_a_manual_calculation():
    tally = AttributionSummary()
    tally.add(explanation(1.0, -2.0, lost={"image": 3.0}), "plain")
    tally.add(explanation(3.0, 4.0), "plain")
    tally.add(explanation(100.0, 100.0, total=1.06), "plain")  # completeness error above 5 %
    tally.add(explanation(7.0, 8.0, total=1.04), "complex")
    rows = {(row["group"], row["method"], row["channel"]): row for row in tally.rows()}
    red, green = (rows["plain", "integrated-gradients", f"image {name}"] for name in ("red", "green"))
    assert (red["mean"], red["mean_size"], green["mean"], green["mean_size"]) == (2, 2, 1, 3)
    assert (red["samples"], red["asked"], red["incomplete"]) == (2, 3, 1)
    assert red["largest_error"] == pytest.approx(0.06)
    assert rows["complex", "integrated-gradients", "image red"]["mean"] == 7
    assert rows["plain", ABLATION, "image"]["mean"] == 3
    assert ("complex", ABLATION, "image") not in rows
    assert len(tally.plot().axes) == 2


def test_a_source_is_averaged_over_samples_that_contain_it():
    tally = AttributionSummary()
    both, one = explanation(1.0, 2.0), explanation(3.0, 4.0)
    other = dataclasses.replace(both.inputs["image"], channels=("height", "slope"))
    tally.add(dataclasses.replace(both, inputs={**both.inputs, "ground": other}), "plain")
    tally.add(one, "plain")
    tally.add(one, "complex")
    rows = {(row["group"], row["channel"]): row for row in tally.rows()}
    assert (rows["plain", "image red"]["mean"], rows["plain", "image red"]["samples"]) == (2, 2)
    assert (rows["plain", "ground slope"]["mean"], rows["plain", "ground slope"]["samples"]) == (2, 1)
    assert ("complex", "ground slope") not in rows
    assert tally.num_samples == 3
    (axes,) = tally.plot().axes
    drawn = {label.get_text() for label in axes.get_yticklabels()}
    assert drawn == {"image red", "image green", "ground height", "ground slope"}


def test_there_is_no_mean_without_complete_explanations(tmp_path: Path):
    tally = AttributionSummary()
    tally.add(explanation(1.0, 2.0, total=2.0))
    table, picture = tally.save(tmp_path)
    (row, _) = csv.DictReader(table.read_text("utf-8").splitlines())
    assert (row["mean"], row["samples"], row["incomplete"]) == ("", "0", "1")
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def hail(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("hail")
    samples = HailSamples.synthetic(root / "samples", 12, seed=1, size=(16, 16), windows=2)
    arch = {"width": 4, "kernel": 3, "unet_width": 4, "source_dropout": 0.0}
    geovision.create("hail-hinet", model_args=arch).save(root / "model")
    return root / "model", samples


def test_the_command_groups_by_terrain(hail, tmp_path: Path, capsys):
    model, samples = hail
    out = tmp_path / "why"
    code, output, messages = ran(
        capsys,
        "explain",
        model,
        samples,
        "--method",
        "deeplift",
        "--group-by",
        "terrain",
        "--out",
        out,
        "--format",
        "jsonl",
    )
    assert code == 0
    assert f"means over 12 files: {out / 'means.deeplift.csv'}, {out / 'means.deeplift.png'}" in messages
    each = {Path(found["source"]): found for found in map(json.loads, output.splitlines())}
    data = HailSamples(samples)
    kinds = dict(zip(data.paths, data.terrain, strict=True))
    assert set(kinds.values()) == {"plain", "complex"}
    rows = list(csv.DictReader((out / "means.deeplift.csv").read_text("utf-8").splitlines()))
    assert {row["group"] for row in rows} == {"plain", "complex"}
    for row in rows:
        own = [found for path, found in each.items() if kinds[path] == row["group"]]
        if row["method"] == ABLATION:
            parts = [found["ablation"][row["channel"]] for found in own]
        else:
            whole = [found for found in own if found["completeness"]["relative_error"] <= 0.05]
            parts = [found["contributions"]["radar"][row["channel"]] for found in whole]
        assert int(row["samples"]) == len(parts)
        if parts:
            assert float(row["mean"]) == pytest.approx(np.mean(parts), rel=1e-3, abs=1e-6)
    assert len([row for row in rows if row["method"] == "deeplift"]) == 2 * 16


def test_a_missing_attribute_is_reported(hail, tmp_path: Path, capsys):
    model, samples = hail
    file = next(samples.glob("*.nc"))
    code, _, messages = ran(
        capsys, "explain", model, file, "--method", "deeplift", "--group-by", "colour", "--out", tmp_path
    )
    assert code == 1
    assert "no attribute 'colour'; known: 'Conventions', 'terrain'" in messages
    assert not list(tmp_path.iterdir())


def test_images_have_no_attributes(tmp_path: Path, capsys):
    from PIL import Image

    Image.new("RGB", (32, 32)).save(tmp_path / "sky.png")
    code, _, messages = ran(
        capsys,
        "explain",
        "cloud-mobilenetv2",
        tmp_path / "sky.png",
        "--group-by",
        "terrain",
        "--out",
        tmp_path,
    )
    assert code == 2
    assert "files of 'image' have no attributes, such as 'terrain'" in messages
