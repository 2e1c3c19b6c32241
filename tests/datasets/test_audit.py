"""Findings, text report and files of an audit."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geovision.datasets.audit import audit
from geovision.datasets.ccsn import CCSN
from geovision.datasets.image_folder import ImageFolderDataset
from geovision.datasets.synthetic import sky
from geovision.errors import StorageError


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two classes: one photo in both, equal pixels twice in one, another size, two bad files."""
    pictures = [Image.fromarray(sky.render("Sc", np.random.default_rng(n), (64, 64))) for n in range(4)]
    for name, picture in {
        "a/1.png": pictures[0],
        "b/1.jpg": pictures[0].resize((96, 96)),
        "a/2.png": pictures[1],
        "a/3.bmp": pictures[1],
        "b/4.png": pictures[2].convert("L"),
        "b/5.png": pictures[3],
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture.save(tmp_path / name)
    (tmp_path / "a" / "bad.jpg").write_text("no picture")
    (tmp_path / "b" / "empty.png").touch()
    return tmp_path


def test_all_planted_problems_are_found(mixed: Path):
    report = audit(ImageFolderDataset(mixed))
    assert report.class_counts == {"a": 3, "b": 3}
    assert set(report.unreadable) == {"a/bad.jpg", "b/empty.png"}
    assert report.groups == {"a/1.png": ["a/1.png", "b/1.jpg"], "a/2.png": ["a/2.png", "a/3.bmp"]}
    assert report.label_conflicts == {"a/1.png": ["a/1.png", "b/1.jpg"]}
    assert report.conflicting_label_pairs == {("a", "b"): 1}
    assert report.exact_duplicates == [["a/2.png", "a/3.bmp"]]
    assert {str(kind): count for kind, count in report.property_counts.items()} == {
        "64x64 RGB PNG": 3,
        "96x96 RGB JPEG": 1,
        "64x64 RGB BMP": 1,
        "64x64 L PNG": 1,
    }


def test_the_text_report_lists_all_problems(mixed: Path):
    text = audit(ImageFolderDataset(mixed)).to_text()
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "photos 6" in lines
    assert "files that cannot be read 2" in lines
    assert "near-duplicate groups 4" in lines
    assert "groups of two or more 2 4 photos" in lines
    assert "groups with the same pixels 1 2 photos" in lines
    assert "groups with different labels 1 2 photos" in lines
    assert "a 3 3 1" in lines
    assert "a b: a/1.png b/1.jpg" in lines
    assert any("bad.jpg: not an image" in line for line in lines)
    assert "several sizes" in text


def test_files_are_written_and_can_be_read(mixed: Path, tmp_path: Path):
    out = tmp_path / "report"
    report = audit(ImageFolderDataset(mixed), out)
    assert sorted(path.name for path in out.iterdir()) == [
        "audit.json",
        "audit.txt",
        "classes.png",
        "groups.csv",
        "label_conflicts.png",
        "sizes.png",
    ]
    assert json.loads((out / "audit.json").read_text()) == report.to_dict()
    assert (out / "audit.txt").read_text() == report.to_text()
    rows = list(csv.DictReader((out / "groups.csv").read_text().splitlines()))
    assert [(row["path"], row["label"], row["labels_disagree"], row["same_pixels_as"]) for row in rows] == [
        ("a/1.png", "a", "1", ""),
        ("b/1.jpg", "b", "1", ""),
        ("a/2.png", "a", "0", "a/2.png"),
        ("a/3.bmp", "a", "0", "a/2.png"),
    ]
    for path in out.glob("*.png"):
        with Image.open(path) as figure:
            assert np.asarray(figure.convert("L")).std() > 1


def test_clean_photos_have_no_findings(tmp_path: Path):
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / name).parent.mkdir()
        noise = np.random.default_rng(ord(name[0])).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / name)
    report = audit(ImageFolderDataset(tmp_path), tmp_path / "out")
    assert not report.groups
    assert not report.exact_duplicates
    assert not (tmp_path / "out" / "label_conflicts.png").exists()
    assert "Groups with different labels" not in report.to_text()


def test_a_data_set_of_bad_files_only_is_reported(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg").touch()
    report = audit(ImageFolderDataset(tmp_path), tmp_path / "out")
    assert list(report.unreadable) == ["a/x.jpg"]
    assert report.to_dict()["photos"] == 0


def test_an_unwritable_path_is_named(mixed: Path, tmp_path: Path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match="taken: could not be written"):
        audit(ImageFolderDataset(mixed), tmp_path / "taken")


@pytest.mark.real_data
def test_the_real_data_set_has_images_with_two_labels(shared_data: Path):
    """Counted on the 2034 photos; every conflicting group was inspected and shows one image."""
    report = audit(CCSN(shared_data / "ccsn"))
    found = report.to_dict()
    assert found["photos"] == 2034
    assert not found["unreadable"]
    # A decoder that rounds differently can move at most one pair across a limit.
    assert found["near_duplicates"]["groups"] == pytest.approx(1891, abs=3)
    assert found["near_duplicates"]["photos_in_them"] == pytest.approx(274, abs=5)
    assert found["labels_disagree"]["groups"] == pytest.approx(100, abs=3)
    assert found["labels_disagree"]["photos"] == pytest.approx(212, abs=5)
    assert ["Ac/Ac-N186.jpg", "As/As-N139.jpg"] in found["exact_duplicates"]
    assert next(iter(found["labels_disagree"]["pairs"])) == "Ns St"
