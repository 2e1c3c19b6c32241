"""Bootstrap intervals: compared with explicit resampling, with theory, and in edge cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import Tensor
from torchmetrics import MaxMetric

from geovision import metrics
from geovision.errors import OptionError
from geovision.metrics.bootstrap import _resample_counts, bootstrap
from geovision.spec import ClassTarget

TARGET = ClassTarget(("a", "b", "c"))


def sample(n: int = 90, seed: int = 0) -> tuple[Tensor, Tensor, list[str]]:
    generator = torch.Generator().manual_seed(seed)
    probabilities = (torch.randn(n, 3, generator=generator) * 1.5).softmax(dim=1)
    labels = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
    return (
        probabilities,
        labels,
        [f"unit {number}" for number in torch.randint(40, (n,), generator=generator).tolist()],
    )


def estimate(name: str, probabilities: Tensor, labels: Tensor, units: list[str], **options):
    return bootstrap({name: metrics.create(name, TARGET)}, probabilities, labels, units, **options)[name]


@pytest.mark.parametrize("name", ["macro_f1", "calibration_error", "nll", "recall"])
def test_a_resample_is_the_metric_over_the_samples_of_the_drawn_groups(name: str) -> None:
    """Check summed states (macro_f1), gathered ones (calibration_error), means and values per class."""
    probabilities, labels, units = sample()
    found = estimate(name, probabilities, labels, units, n_bootstrap=30, seed=3)
    order = list(dict.fromkeys(units))
    slow = []
    for draw in _resample_counts(len(order), 30, 3).tolist():
        rows = [i for i, unit in enumerate(units) for _ in range(draw[order.index(unit)])]
        slow.append(metrics.create(name, TARGET)(probabilities[rows], labels[rows]).numpy())
    low, high = np.nanpercentile(np.stack(slow), [2.5, 97.5], axis=0)
    assert found.low.numpy() == pytest.approx(low, abs=1e-6)
    assert found.high.numpy() == pytest.approx(high, abs=1e-6)
    expected = metrics.create(name, TARGET)(probabilities, labels)
    assert found.value.numpy() == pytest.approx(expected.numpy(), abs=1e-6)


def test_intervals_match_an_independent_implementation() -> None:
    probabilities, labels, units = sample(400)
    found = estimate("macro_f1", probabilities, labels, units, n_bootstrap=2000)
    random = np.random.default_rng(5)
    rows = {unit: np.flatnonzero(np.array(units) == unit) for unit in set(units)}
    scores = []
    for _ in range(600):
        drawn = np.concatenate([rows[unit] for unit in random.choice(sorted(rows), len(rows))])
        scores.append(f1_score(labels[drawn], probabilities[drawn].argmax(1), average="macro"))
    low, high = np.percentile(scores, [2.5, 97.5])
    assert float(found.low) == pytest.approx(low, abs=0.012)
    assert float(found.high) == pytest.approx(high, abs=0.012)


def test_the_width_is_that_of_the_binomial_where_groups_are_single() -> None:
    right = torch.tensor([1, 0] * 200)
    probabilities = torch.eye(3)[torch.where(right > 0, 0, 1)]
    found = estimate(
        "accuracy", probabilities, torch.zeros(400, dtype=torch.int64), [str(i) for i in range(400)]
    )
    assert float(found.high - found.low) == pytest.approx(2 * 1.96 * (0.25 / 400) ** 0.5, rel=0.08)


def test_copies_within_a_group_do_not_narrow_the_interval() -> None:
    probabilities, labels, _ = sample(100)
    units = [str(i) for i in range(100)]
    single = estimate("accuracy", probabilities, labels, units)
    copied = estimate("accuracy", probabilities.repeat(5, 1), labels.repeat(5), units * 5)
    assert (copied.low, copied.high) == (single.low, single.high)
    blind = estimate("accuracy", probabilities.repeat(5, 1), labels.repeat(5), [str(i) for i in range(500)])
    assert float(blind.high - blind.low) < 0.6 * float(single.high - single.low)


def test_the_seed_determines_the_interval() -> None:
    data = sample()
    assert estimate("accuracy", *data, seed=1) == estimate("accuracy", *data, seed=1)
    assert estimate("brier", *data, seed=1) != estimate("brier", *data, seed=2)


def test_a_class_that_some_resamples_lack_is_scored_on_the_others() -> None:
    # Class c is true in one group of ten: about a third of the resamples lack it.
    labels = torch.tensor([0] * 9 + [2])
    found = estimate("recall", torch.eye(3)[labels], labels, [str(i) for i in range(10)])
    assert found.low[2] == found.high[2] == 1
    assert torch.isnan(torch.stack(found)[:, 1]).all()


def test_no_resamples_give_no_interval_and_leave_the_metric_empty() -> None:
    probabilities, labels, units = sample()
    metric = metrics.create("accuracy", TARGET)
    found = bootstrap({"accuracy": metric}, probabilities, labels, units, n_bootstrap=0)["accuracy"]
    assert torch.isfinite(found.value)
    assert torch.isnan(found.low)
    assert torch.isnan(found.high)
    assert not metric.update_called


def test_nothing_to_resample_is_an_error() -> None:
    probabilities, labels, units = sample()
    with pytest.raises(OptionError, match="90 predictions, 90 targets and 89 groups"):
        estimate("accuracy", probabilities, labels, units[1:])
    with pytest.raises(OptionError, match="at least one"):
        estimate("accuracy", probabilities[:0], labels[:0], [])


def test_a_state_that_cannot_be_merged_by_weights_is_an_error() -> None:
    class Largest(MaxMetric):
        def update(self, prediction: Tensor, target: Tensor) -> None:
            super().update(prediction)

    probabilities, labels, units = sample()
    with pytest.raises(OptionError, match="'max_value' of Largest is not a sum or a list"):
        bootstrap({"largest": Largest()}, probabilities[:, 0], labels, units)
