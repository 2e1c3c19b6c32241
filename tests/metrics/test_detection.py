"""Scores of the positive class: compared with scikit-learn and worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics as oracle
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geovision import metrics
from geovision.metrics.bootstrap import bootstrap
from geovision.spec import ClassTarget

TARGET = ClassTarget(("neg", "pos"), positive="pos")
SCORES = ("positive_f1", "positive_precision", "positive_recall", "pr_auc", "roc_auc")
COUNTS = ("errors", "missed", "false_alarms")


def sample(n: int = 300, seed: int = 0, *, ties: bool = False) -> tuple[Tensor, Tensor]:
    """Return probabilities of a rare class, and labels that agree more often than by chance."""
    generator = torch.Generator().manual_seed(seed)
    probability = torch.sigmoid(torch.randn(n, generator=generator) * 2 - 1)
    labels = (torch.rand(n, generator=generator) < probability).long()
    if ties:
        probability = (probability * 8).round() / 8
    return torch.stack([1 - probability, probability], dim=1), labels


def value(name: str, probabilities: Tensor, labels: Tensor, target: ClassTarget = TARGET) -> float:
    return float(metrics.create(name, target)(probabilities, labels))


ORACLES = {
    "positive_f1": lambda p, y: oracle.f1_score(y, p.argmax(1)),
    "positive_precision": lambda p, y: oracle.precision_score(y, p.argmax(1)),
    "positive_recall": lambda p, y: oracle.recall_score(y, p.argmax(1)),
    "pr_auc": lambda p, y: oracle.average_precision_score(y, p[:, 1]),
    "roc_auc": lambda p, y: oracle.roc_auc_score(y, p[:, 1]),
    "errors": lambda p, y: len(y) - oracle.accuracy_score(y, p.argmax(1), normalize=False),
    "missed": lambda p, y: oracle.confusion_matrix(y, p.argmax(1))[1, 0],
    "false_alarms": lambda p, y: oracle.confusion_matrix(y, p.argmax(1))[0, 1],
}


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("ties", [False, True])
def test_agrees_with_scikit_learn(name: str, ties: bool) -> None:
    probabilities, labels = sample(ties=ties)
    expected = ORACLES[name](probabilities.numpy(), labels.numpy())
    assert value(name, probabilities, labels) == pytest.approx(expected, abs=1e-6)


def test_one_class_of_several_is_scored_against_all_others() -> None:
    generator = torch.Generator().manual_seed(1)
    probabilities = (torch.randn(200, 3, generator=generator) * 2).softmax(1)
    labels = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
    target = ClassTarget(("a", "b", "c"), positive="b")
    truth, predicted = labels.numpy() == 1, probabilities.argmax(1).numpy() == 1
    assert value("positive_f1", probabilities, labels, target) == pytest.approx(
        oracle.f1_score(truth, predicted)
    )
    expected = oracle.average_precision_score(truth, probabilities[:, 1])
    assert value("pr_auc", probabilities, labels, target) == pytest.approx(expected, abs=1e-6)
    wrong = (probabilities.argmax(1) != labels).sum()
    assert value("errors", probabilities, labels, target) == wrong


def test_the_published_error_counts_give_the_published_score() -> None:
    """64 of 435 images show a low: 3 missed and 3 false alarms are F1 0.953, 4 and 3 are 0.945."""
    for missed, alarms, expected in ((3, 3, 0.953), (4, 3, 0.945)):
        labels = torch.tensor([1] * 64 + [0] * 371)
        predicted = labels.clone()
        predicted[:missed], predicted[64 : 64 + alarms] = 0, 1
        assert value("positive_f1", torch.eye(2)[predicted], labels) == pytest.approx(expected, abs=5e-4)
        assert value("errors", torch.eye(2)[predicted], labels) == missed + alarms


@pytest.mark.parametrize("name", SCORES)
def test_without_a_positive_sample_or_prediction_a_score_is_undefined(name: str) -> None:
    assert math.isnan(value(name, torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.zeros(2, dtype=torch.long)))


def test_a_score_without_a_negative_sample() -> None:
    probabilities, labels = torch.tensor([[0.4, 0.6], [0.8, 0.2]]), torch.ones(2, dtype=torch.long)
    assert math.isnan(value("roc_auc", probabilities, labels))
    assert value("pr_auc", probabilities, labels) == 1
    assert value("positive_recall", probabilities, labels) == 0.5


def test_a_target_without_a_positive_class_has_no_detection_score() -> None:
    plain = ClassTarget(("neg", "pos"))
    assert list(metrics.applicable((*SCORES, *COUNTS), plain)) == ["errors"]
    with pytest.raises(metrics.NotApplicable, match="names its positive class"):
        metrics.create("pr_auc", plain)
    with pytest.raises(ValueError, match="positive class 'low' is unknown"):
        ClassTarget(("neg", "pos"), positive="low")


_few = settings(max_examples=15, deadline=None)


@pytest.mark.parametrize("name", [*SCORES, *COUNTS])
@_few
@given(seed=st.integers(0, 2**31), n=st.integers(8, 60))
def test_batches_add_up_and_the_order_does_not_matter(name: str, seed: int, n: int) -> None:
    probabilities, labels = sample(n, seed)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    metric = metrics.create(name, TARGET)
    for batch in order.split(7):
        metric.update(probabilities[batch], labels[batch])
    expected = value(name, probabilities, labels)
    assert float(metric.compute()) == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("name", [*SCORES, *COUNTS])
def test_certain_and_right_predictions_have_the_best_score(name: str) -> None:
    labels = torch.tensor([0, 0, 0, 1, 1])
    metric = metrics.create(name, TARGET)
    assert float(metric(torch.eye(2)[labels], labels)) == (1.0 if metric.higher_is_better else 0.0)


def test_intervals_resample_satellite_passes() -> None:
    """Compare with explicit resampling: passes are drawn with all their images."""
    probabilities, labels = sample(60, 3)
    units = [f"pass {index // 6}" for index in range(60)]
    found = bootstrap(
        metrics.applicable((*SCORES, *COUNTS), TARGET), probabilities, labels, units, n_bootstrap=200, seed=0
    )
    rng, values = np.random.default_rng(0), []
    for _ in range(2000):
        rows = np.concatenate([np.arange(6) + 6 * unit for unit in rng.integers(0, 10, 10)])
        values.append(oracle.f1_score(labels.numpy()[rows], probabilities.numpy()[rows].argmax(1)))
    low, high = np.quantile(values, [0.025, 0.975])
    estimate = found["positive_f1"]
    assert float(estimate.low) == pytest.approx(low, abs=0.06)
    assert float(estimate.high) == pytest.approx(high, abs=0.06)
    for name, each in found.items():
        assert float(each.low) <= float(each.value) <= float(each.high), name
