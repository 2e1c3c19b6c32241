"""Calibration of mask probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import geovision
from geovision.cli import main
from geovision.datasets.hail_samples import HailSamples
from geovision.errors import InputError
from geovision.evaluation import calibrate, calibrate_mask, fit_platt, predict_batches
from geovision.metrics import create


def test_the_fit_matches_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 3, 4000)
    truth = rng.random(4000) < 1 / (
        1 + np.exp(2.5 - 0.4 * logits)
    )  # overconfident, and biased towards positive cells
    temperature, offset = fit_platt(torch.tensor(logits), torch.tensor(truth))
    other = linear.LogisticRegression(C=np.inf, tol=1e-9, max_iter=1000).fit(logits[:, None], truth)
    assert 1 / temperature == pytest.approx(float(other.coef_[0, 0]), rel=1e-3)
    assert offset == pytest.approx(float(other.intercept_[0]), rel=1e-3)
    with pytest.raises(InputError, match="0 of 5 cells have the event"):
        fit_platt(torch.zeros(5), torch.zeros(5))


def test_calibration_corrects_overestimated_probabilities_and_is_saved(tmp_path: Path) -> None:
    data = HailSamples(HailSamples.synthetic(tmp_path / "hail", 12, seed=7, size=(16, 16), windows=2))
    torch.manual_seed(0)
    model = geovision.create("hail-tiny", model_args={"width": 4, "unet_width": 4})
    truth_rate = float(torch.cat([each.truth for each in predict_batches(model, data)]).nanmean())
    assert truth_rate > 0
    temperature, offset = calibrate_mask(model, data, batch_size=4)
    predicted = torch.cat([each.prediction for each in predict_batches(model, data)])
    truth = torch.cat([each.truth for each in predict_batches(model, data)])
    # At the maximum of the likelihood, the mean probability equals the event frequency.
    assert float(predicted.nanmean()) == pytest.approx(truth_rate, rel=0.02)
    assert float(create("brier_skill", model.target)(predicted, truth)) > -0.01
    model.save(tmp_path / "model")
    again = geovision.load(tmp_path / "model")
    assert (float(again.head.temperature), float(again.head.offset)) == pytest.approx((temperature, offset))
    with pytest.raises(InputError, match=r"does not predict masks; use calibrate_classes\(\) for classes"):
        calibrate_mask(geovision.create("cloud-tiny"), data)


def test_the_end_of_training_and_the_command_fit_the_validation_samples(tmp_path: Path, capsys) -> None:
    root = HailSamples.synthetic(tmp_path / "hail", 24, seed=7, size=(16, 16), windows=2)
    options = ["--dataset", "hail-samples", "--data", str(root)]
    run = tmp_path / "run"
    training = ["train", "hail-tiny", *options, "--recipe", "short", "--epochs", "1", "--out", str(run)]
    assert left_with([*training, "--validation", "0", "--calibrate"]) == 2
    assert "--calibrate requires validation samples" in capsys.readouterr().err
    assert not run.exists()
    assert left_with([*training, "--calibrate"]) == 0
    model = geovision.load(run / "model")
    record = model.training_record["calibration"]
    trained, held_back = HailSamples(root, split="train").group_split(0.1, seed=model.recipe.seed)
    assert not set(trained.groups) & set(held_back.groups)
    assert (record["samples"], record["data"]) == (len(held_back), "hail-samples")
    assert (float(model.head.temperature), float(model.head.offset)) == pytest.approx(
        (record["temperature"], record["offset"])
    )
    card = (run / "model" / "README.md").read_text("utf-8")
    assert f"- calibration:\n  - data: hail-samples\n  - samples: {len(held_back)}\n" in card
    # A new fit ignores the previous one.
    again = geovision.load(run / "model")
    assert calibrate(again, held_back) == pytest.approx(
        {name: record[name] for name in ("temperature", "offset")}, rel=1e-3
    )
    assert left_with(["calibrate", str(run), *options]) == 0
    whole = geovision.load(run / "model")
    assert whole.training_record["calibration"]["samples"] == len(HailSamples(root)) == 24
    assert float(whole.head.offset) != float(model.head.offset)
    predicted = torch.cat([each.prediction for each in predict_batches(whole, HailSamples(root))])
    truth = torch.cat([each.truth for each in predict_batches(whole, HailSamples(root))])
    assert float(predicted.nanmean()) == pytest.approx(float(truth.nanmean()), rel=0.02)


def test_classes_are_calibrated_by_the_same_command(tmp_path: Path, skies: Path) -> None:
    torch.manual_seed(0)
    model = geovision.create("cloud-tiny", size=(32, 32))
    folder = model.save(tmp_path / "model")
    assert left_with(["calibrate", str(folder), "--dataset", "ccsn", "--data", str(skies)]) == 0
    found = geovision.load(folder)
    assert found.training_record["calibration"]["temperature"] == pytest.approx(float(found.head.temperature))
    assert float(found.head.temperature) != 1


def test_fields_without_probabilities_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="predicts a field, which has no probability"):
        calibrate(geovision.create("downscale-unet", model_args={"widths": [4, 6, 8]}), None)


def left_with(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return int(left.value.code or 0)
