"""Probabilities of masks that mean what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import geovision
from geovision.datasets.hail_samples import HailSamples
from geovision.errors import InputError
from geovision.evaluation import answers, calibrate_mask, fit_platt
from geovision.metrics import create


def test_the_fit_is_that_of_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 3, 4000)
    truth = rng.random(4000) < 1 / (1 + np.exp(2.5 - 0.4 * logits))  # too sure, and yes too often
    temperature, offset = fit_platt(torch.tensor(logits), torch.tensor(truth))
    other = linear.LogisticRegression(C=np.inf, tol=1e-9, max_iter=1000).fit(logits[:, None], truth)
    assert 1 / temperature == pytest.approx(float(other.coef_[0, 0]), rel=1e-3)
    assert offset == pytest.approx(float(other.intercept_[0]), rel=1e-3)
    with pytest.raises(InputError, match="0 of 5 cells have the event"):
        fit_platt(torch.zeros(5), torch.zeros(5))


def test_a_mask_that_says_yes_too_often_is_mended_and_keeps_it(tmp_path: Path) -> None:
    data = HailSamples(HailSamples.synthetic(tmp_path / "hail", 12, seed=7, size=(16, 16), windows=2))
    torch.manual_seed(0)
    model = geovision.create("hail-tiny", arch={"width": 4, "unet_width": 4})
    truth_rate = float(torch.cat([each.truth for each in answers(model, data)]).nanmean())
    assert truth_rate > 0
    temperature, offset = calibrate_mask(model, data, batch_size=4)
    said = torch.cat([each.prediction for each in answers(model, data)])
    truth = torch.cat([each.truth for each in answers(model, data)])
    # The maximum of the likelihood says the event as often as it happens.
    assert float(said.nanmean()) == pytest.approx(truth_rate, rel=0.02)
    assert float(create("mask_brier_skill", model.target)(said, truth)) > -0.01
    model.save(tmp_path / "model")
    again = geovision.load(tmp_path / "model")
    assert (float(again.head.temperature), float(again.head.offset)) == pytest.approx((temperature, offset))
    with pytest.raises(InputError, match=r"no model of masks; calibrate\(\) is for classes"):
        calibrate_mask(geovision.create("cloud-tiny"), data)
