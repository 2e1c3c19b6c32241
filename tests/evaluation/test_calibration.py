"""Temperature scaling: against another optimizer, known temperatures and its limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

import geovision
from geovision import metrics
from geovision.datasets.ccsn import CCSN
from geovision.errors import InputError
from geovision.evaluation import Predictions, calibrate_classes, collect_predictions, fit_temperature
from geovision.evaluation.calibration import TEMPERATURE_BOUNDS
from geovision.evaluation.cross_validation import calibrate_folds


def sample(n: int, temperature: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits that are calibrated at this temperature, and labels drawn from them."""
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(n, 11, generator=generator)
    labels = torch.multinomial((logits / temperature).softmax(1), 1, generator=generator)[:, 0]
    return logits, labels


def record(logits: torch.Tensor, labels: torch.Tensor, folds: torch.Tensor | None = None) -> Predictions:
    names = tuple(str(number) for number in range(len(labels)))
    classes = geovision.registry.find_task("cloud").target.classes
    return Predictions(classes, logits.softmax(1), labels, names, names, logits=logits, folds=folds)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_of_the_labels_is_recovered(temperature: float) -> None:
    assert fit_temperature(*sample(20000, temperature)) == pytest.approx(temperature, rel=0.03)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), temperature=st.floats(0.3, 6), n=st.integers(50, 300))
def test_no_other_temperature_is_better(seed: int, temperature: float, n: int) -> None:
    logits, labels = sample(n, temperature, seed)

    def loss(log_temperature: float) -> float:
        rows = log_softmax(logits.double().numpy() / np.exp(log_temperature), axis=1)
        return -rows[np.arange(n), labels.numpy()].mean()

    best = minimize_scalar(
        loss, bounds=tuple(np.log(TEMPERATURE_BOUNDS)), method="bounded", options={"xatol": 1e-8}
    )
    assert loss(np.log(fit_temperature(logits, labels))) <= best.fun + 1e-7


def test_correct_predictions_alone_give_the_limit() -> None:
    logits = torch.eye(11)
    assert fit_temperature(logits, torch.arange(11)) == TEMPERATURE_BOUNDS[0]
    assert fit_temperature(-logits, torch.arange(11)) == TEMPERATURE_BOUNDS[1]


def test_calibrating_a_model_sets_its_temperature_and_lowers_the_error() -> None:
    model = geovision.create("cloud-tiny")
    logits, labels = sample(2000, 3.0)
    before = record(logits, labels)
    temperature = calibrate_classes(model, before)
    assert float(model.head.temperature) == pytest.approx(temperature)
    assert temperature > 1
    torch.testing.assert_close(
        model.head.probabilities(logits), before.at_temperature(temperature).probabilities
    )
    error = [
        float(metrics.create("calibration_error", model.target)(each.probabilities, labels))
        for each in (before, before.at_temperature(temperature))
    ]
    assert error[1] < error[0] / 3


def test_a_dataset_calibrates_a_model_and_is_recorded(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("Ci", "Cu"):
        (tmp_path / name).mkdir()
        for number in range(3):
            pixels = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{name}-N{number + 1:03d}.jpg")
    model = geovision.create("cloud-tiny", size=(32, 32))
    data = CCSN(tmp_path).adapt_to(model)
    found = geovision.calibrate(model, data)
    assert found.keys() == {"temperature"}
    assert float(model.head.temperature) == pytest.approx(found["temperature"])
    assert model.training_record["calibration"] == {
        "data": "ccsn",
        "samples": 6,
        "groups": 6,
        "temperature": found["temperature"],
    }
    labels = collect_predictions(model, data).labels
    assert found["temperature"] == pytest.approx(
        fit_temperature(collect_predictions(model, data).logits, labels)
    )


def test_only_logits_of_the_classes_of_the_model_are_accepted() -> None:
    model = geovision.create("cloud-tiny", classes=["a", "b"])
    with pytest.raises(InputError, match="logits of the model's own classes"):
        calibrate_classes(model, record(*sample(20, 1.0)))


def test_no_sample_calibrates_its_own_fold() -> None:
    logits, labels = sample(300, 2.0)
    folds = torch.arange(300) % 3
    _, before = calibrate_folds(record(logits, labels, folds))
    labels = torch.where(folds == 1, (labels + 1) % 11, labels)
    after, temperatures = calibrate_folds(record(logits, labels, folds))
    assert temperatures[1] == before[1]
    assert temperatures[0] != before[0]
    own = folds == 1
    torch.testing.assert_close(after.probabilities[own], (logits[own] / before[1]).softmax(1))
