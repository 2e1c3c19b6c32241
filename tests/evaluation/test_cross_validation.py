"""Cross-validation with real training: folds, resumption after a kill, and errors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import geovision
from geovision._atomic_io import file_lock
from geovision.datasets.base import GeoDataset
from geovision.datasets.ccsn import CCSN
from geovision.datasets.hail_samples import HailSamples
from geovision.datasets.rain_grids import CoarseRain
from geovision.errors import DatasetError, OptionError
from geovision.evaluation import Report, collect_predictions, cross_validate, predict_batches
from geovision.evaluation.cross_validation import _notes, fold_numbers
from geovision.spec import Recipe, Stage

RECIPE = Recipe(stages=(Stage(epochs=1, batch_size=8, lr=3e-3),))
SIZE = (32, 32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> CCSN:
    """Write six images of each of three genera in CCSN's layout; the last of each copies the first."""
    root = tmp_path_factory.mktemp("ccsn")
    random = np.random.default_rng(0)
    for number, name in enumerate(("Ci", "Cu", "St")):
        (root / name).mkdir()
        for index in range(1, 6):
            coarse = random.uniform(0, 255, (5, 5, 3))
            coarse[..., number] *= 0.3
            image = Image.fromarray(coarse.astype(np.uint8)).resize((48, 48), Image.Resampling.BICUBIC)
            image.save(root / name / f"{name}-N{index:03d}.jpg", quality=95)
        shutil.copy(root / name / f"{name}-N001.jpg", root / name / f"{name}-N006.jpg")
    return CCSN(root, size=SIZE)


def run(data: CCSN, out: Path, **changes) -> Report:
    options = {"folds": 2, "recipe": RECIPE, "size": SIZE, "n_bootstrap": 20, "progress": False} | changes
    return cross_validate("cloud-tiny", data, out=out, **options)


@pytest.fixture(scope="module")
def finished(data: CCSN, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    out = tmp_path_factory.mktemp("runs") / "cv"
    return out, run(data, out)


def test_every_sample_is_predicted_once_by_a_model_not_trained_on_it(
    data: CCSN, finished: tuple[Path, Report]
) -> None:
    out, report = finished
    predictions = report.predictions
    assert sorted(predictions.positions.tolist()) == list(range(18))
    assert [predictions.sources[row] for row in predictions.positions.argsort()] == [
        str(path) for path in data.paths
    ]
    fold_of = dict(zip(predictions.positions.tolist(), predictions.folds.tolist(), strict=True))
    units = {unit: {fold_of[i] for i, u in enumerate(data.groups) if u == unit} for unit in data.groups}
    assert len(units) == 15
    assert all(len(folds) == 1 for folds in units.values())
    for number in (0, 1):
        own = predictions.take(predictions.folds == number)
        model = geovision.load(out / f"fold-{number}" / "training" / "model")
        assert model.training_record["samples"] == 18 - len(own)
        again = collect_predictions(model, data.subset(own.positions.tolist()))
        torch.testing.assert_close(again.logits, own.logits, atol=1e-4, rtol=1e-4)


def test_the_report_describes_its_method(finished: tuple[Path, Report]) -> None:
    out, report = finished
    kept = json.loads((out / "report" / "metrics.json").read_text(encoding="utf-8"))
    assert kept["metrics"]["macro_f1"]["value"] == report.metrics["macro_f1"].value
    facts = kept["provenance"]
    assert facts["recipe"]["stages"][0]["epochs"] == 1
    assert facts["fold_sizes"] == [9, 9]
    assert set(facts["temperatures"]) == {"0", "1"}
    assert "Out of fold, 2 folds; calibrated by the other folds" in kept["notes"][0]
    assert len(kept["notes"]) == 1


def test_finished_folds_are_read_back(data: CCSN, finished: tuple[Path, Report]) -> None:
    out, report = finished
    trained = [out / f"fold-{number}" / "training" / "log.csv" for number in (0, 1)]
    before = [path.stat().st_mtime_ns for path in trained]
    (out / "fold-1" / "predictions.npz").unlink()  # killed between training and prediction
    again = run(data, out)
    assert [path.stat().st_mtime_ns for path in trained] == before
    assert again.metrics == report.metrics


def test_another_cross_validation_does_not_resume_here(data: CCSN, finished: tuple[Path, Report]) -> None:
    out, _ = finished
    with pytest.raises(
        OptionError, match=r"contains another cross-validation with different recipe; choose another"
    ):
        run(data, out, recipe=Recipe(stages=(Stage(epochs=2),)))
    with pytest.raises(OptionError, match="with different sample_digest, fold_digest, fold_sizes"):
        run(data.subset(range(12)), out)


def test_folds_that_split_groups_are_reported(data: CCSN, finished: tuple[Path, Report]) -> None:
    # Predictions of the grouped run under alternating folds: copies fall into different folds.
    fold = [index % 2 for index in range(18)]
    notes = _notes(finished[1].predictions, 2, data, np.array(fold))
    assert notes[1].startswith("The folds split 3 of 15 groups")


def test_folds_are_stratified_and_keep_groups(data: CCSN) -> None:
    fold = fold_numbers(data, 2, seed=1)
    assert [np.bincount(data.labels[fold == number]).max() for number in (0, 1)] == [3, 3]
    assert (fold_numbers(data, 2, seed=1) == fold).all()


class _Plain(CCSN):
    """A dataset with the folds of `GeoDataset`, which are not balanced by class."""

    folds = GeoDataset.folds


def test_a_dataset_without_folds_is_split_by_group(data: CCSN) -> None:
    plain = _Plain(data.root, size=SIZE)
    fold = fold_numbers(plain, 5)
    assert sorted(set(fold.tolist())) == [0, 1, 2, 3, 4]
    assert all(len({fold[i] for i, u in enumerate(plain.groups) if u == unit}) == 1 for unit in plain.groups)
    with pytest.raises(DatasetError, match="15 groups are too few for 16 folds"):
        fold_numbers(plain, 16)


def test_fold_numbers_must_fit(data: CCSN) -> None:
    with pytest.raises(OptionError, match="two folds or more, not 1"):
        fold_numbers(data, 1)
    with pytest.raises(OptionError, match="18 samples need as many fold numbers"):
        fold_numbers(data, [0, 1])
    with pytest.raises(OptionError, match="got 18 numbers of 1 folds"):
        fold_numbers(data, [0] * 18)


def test_early_stopping_uses_training_groups_alone(data: CCSN, tmp_path: Path) -> None:
    recipe = Recipe(stages=(Stage(epochs=1, batch_size=8),), keep="best")
    report = run(data, tmp_path / "cv", recipe=recipe)
    model = geovision.load(tmp_path / "cv" / "fold-0" / "training" / "model")
    held = int((report.predictions.folds == 0).sum())
    assert model.training_record["samples"] < 18 - held


def test_processes_that_share_a_folder_share_the_folds(data: CCSN, tmp_path: Path):
    """While another process holds a fold, this one takes the other and then waits."""
    held_by_other = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time\n"
            "from pathlib import Path\n"
            "from geovision._atomic_io import file_lock\n"
            "with file_lock(Path(sys.argv[1])) as free:\n"
            "    print(free, flush=True)\n"
            "    sys.stdin.readline()\n",
            str(tmp_path / "cv" / "fold-0" / "_lock"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert held_by_other.stdout.readline().strip() == "True"
    with file_lock(tmp_path / "cv" / "fold-0" / "_lock") as free:
        assert not free
    found = []
    thread = threading.Thread(target=lambda: found.append(run(data, tmp_path / "cv")))
    thread.start()
    second = tmp_path / "cv" / "fold-1" / "predictions.npz"
    while thread.is_alive() and not second.is_file():
        time.sleep(0.05)
    assert second.is_file()
    assert not (tmp_path / "cv" / "fold-0" / "predictions.npz").exists()
    held_by_other.communicate("\n")
    thread.join()
    assert (tmp_path / "cv" / "fold-0" / "predictions.npz").is_file()
    assert found


# --- fields and masks -----------------------------------------------------------------------------


def test_gridded_models_are_cross_validated_on_the_grids_of_the_data(tmp_path: Path) -> None:
    data = CoarseRain(CoarseRain.synthetic(tmp_path / "rain", 40, seed=3))
    options = {"folds": 2, "recipe": RECIPE, "n_bootstrap": 10, "progress": False}
    report = geovision.cross_validate("downscale-tiny", data, out=tmp_path / "cv", **options)
    fold = fold_numbers(data, 2)
    truth, error = [], []
    for number in (0, 1):
        model = geovision.load(tmp_path / "cv" / f"fold-{number}" / "training" / "model")
        assert model.config.grids == data.grids
        assert model.config.predictors == data.channels[1:]
        part = data.subset(np.flatnonzero(fold == number).tolist())
        assert model.training_record["samples"] == len(data) - len(part)
        for batch in predict_batches(model, part):
            truth.append(batch.truth)
            error.append((batch.prediction - batch.truth).flatten())
    every = torch.cat(error)
    rmse = float(every[torch.isfinite(every)].square().mean().sqrt())
    assert report.metrics["rmse"].value == pytest.approx(rmse, rel=1e-4)
    assert len(report.groups) == len(data) == sum(map(len, truth))
    assert report.notes[0] == "Out of fold, 2 folds."
    kept = json.loads((tmp_path / "cv" / "report" / "metrics.json").read_text(encoding="utf-8"))
    assert kept["provenance"]["fold_sizes"] == np.bincount(fold).tolist()

    logs = [tmp_path / "cv" / f"fold-{number}" / "training" / "log.csv" for number in (0, 1)]
    before = [path.stat().st_mtime_ns for path in logs]
    again = geovision.cross_validate("downscale-tiny", data, out=tmp_path / "cv", **options)
    assert [path.stat().st_mtime_ns for path in logs] == before
    assert again.metrics["rmse"] == report.metrics["rmse"]
    with pytest.raises(OptionError, match="with different predictors"):
        geovision.cross_validate("downscale-tiny", data, out=tmp_path / "cv", predictors=[], **options)


def test_a_closed_form_model_takes_the_channels_that_it_uses(tmp_path: Path) -> None:
    data = CoarseRain(CoarseRain.synthetic(tmp_path / "rain", 30, seed=3))
    report = geovision.cross_validate(
        "downscale-quantile-mapping", data, out=tmp_path / "cv", folds=2, n_bootstrap=0, progress=False
    )
    model = geovision.load(tmp_path / "cv" / "fold-0" / "training" / "model")
    assert model.config.predictors == ()
    assert np.isfinite(report.metrics["rmse"].value)


def test_masks_are_cross_validated_as_trained(tmp_path: Path) -> None:
    root = HailSamples.synthetic(tmp_path / "hail", 12, seed=7, size=(16, 16), windows=2)
    report = geovision.cross_validate(
        "hail-tiny",
        HailSamples(root),
        out=tmp_path / "cv",
        folds=2,
        n_bootstrap=0,
        progress=False,
        recipe=Recipe(stages=(Stage(epochs=1, batch_size=4),)),
        model_args={"width": 4, "unet_width": 4},
    )
    assert report.notes[0] == "Out of fold, 2 folds; probabilities as trained."
    assert len(report.groups) == len(HailSamples(root))
    model = geovision.load(tmp_path / "cv" / "fold-1" / "training" / "model")
    assert (model.config.model_args["width"], model.config.model_args["unet_width"]) == (4, 4)
