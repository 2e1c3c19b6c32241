"""The scores of fields that are of sums alone, as metrics whose states can be merged.

Called as ``metric(prediction, truth)`` with fields ``(sample, …, y, x)`` of one unit, NaN where missing. What
a batch, a process or a unit of a bootstrap adds is a vector of sums, in double precision; scores that need
all values at once, such as quantiles and spectra, are functions of `fields`, `extremes` and `spectra`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from geovision.metrics import NotApplicable
from geovision.metrics._masked import mask_pair
from geovision.metrics.functional.contingency import Contingency, contingency
from geovision.metrics.functional.neighborhood import neighborhood_fractions
from geovision.spec import FieldTarget, Target

__all__ = ["SummedMetric", "bias", "correlation", "event_score", "fss", "mae", "rmse"]


class SummedMetric(Metric):
    """A score of sums over cells: `batch_sums` gives them, `from_sums` takes those of all batches."""

    is_differentiable = False
    full_state_update = False
    higher_is_better = False
    num_sums = 4
    """Of sums."""
    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(self.num_sums, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        self.sums += self.batch_sums(preds, target)

    def compute(self) -> Tensor:
        return self.from_sums(self.sums)

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        """The sums of a batch ``(number,)``: of cells, differences, their sizes and their squares."""
        p, t, there = mask_pair(prediction, truth)
        d = p - t
        return torch.stack([there.sum(), d.sum(), d.abs().sum(), d.square().sum()])

    def from_sums(self, sums: Tensor) -> Tensor:
        raise NotImplementedError


def _check_target(target: Target, metric: str) -> None:
    if not isinstance(target, FieldTarget):
        raise NotApplicable(f"metric {metric!r} scores fields, not a {target.kind}")


# --- differences --------------------------------------------------------------------------------


class Rmse(SummedMetric):
    def from_sums(self, sums: Tensor) -> Tensor:
        return (sums[3] / sums[0]).sqrt()


class Mae(SummedMetric):
    def from_sums(self, sums: Tensor) -> Tensor:
        return sums[2] / sums[0]


class Bias(SummedMetric):
    higher_is_better = None  # type: ignore[assignment]  # 0 is best

    def from_sums(self, sums: Tensor) -> Tensor:
        return sums[1] / sums[0]


class Correlation(SummedMetric):
    higher_is_better = True
    num_sums = 6

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        p, t, there = mask_pair(prediction, truth)
        return torch.stack([there.sum(), p.sum(), t.sum(), (p * p).sum(), (t * t).sum(), (p * t).sum()])

    def from_sums(self, sums: Tensor) -> Tensor:
        n, p, t, pp, tt, pt = sums
        spread = (pp - p * p / n) * (tt - t * t / n)
        found = ((pt - p * t / n) / spread.clamp_min(0).sqrt()).clamp(-1, 1)
        # What rounding leaves of a constant is no variation.
        return torch.where(spread > 1e-12 * pp * tt, found, torch.full_like(found, torch.nan))


def rmse(target: Target) -> Metric:
    """Root of the mean squared difference over all cells, in the unit of the field."""
    _check_target(target, "rmse")
    return Rmse()


def mae(target: Target) -> Metric:
    """Mean absolute difference over all cells, in the unit of the field."""
    _check_target(target, "mae")
    return Mae()


def bias(target: Target) -> Metric:
    """Mean difference over all cells, in the unit of the field; 0 is best."""
    _check_target(target, "bias")
    return Bias()


def correlation(target: Target) -> Metric:
    """Pearson correlation of all cells together, -1 to 1."""
    _check_target(target, "correlation")
    return Correlation()


# --- events -------------------------------------------------------------------------------------


class EventScore(SummedMetric):
    """A property of the table of the event that a threshold is reached."""

    higher_is_better = True

    def __init__(self, name: str, threshold: float) -> None:
        super().__init__()
        self.name, self.threshold = name, threshold

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        table = contingency(prediction, truth, self.threshold)
        return torch.stack([table.hits, table.false_alarms, table.misses, table.correct_negatives])

    def from_sums(self, sums: Tensor) -> Tensor:
        return getattr(Contingency(*sums), self.name)


class EventError(EventScore):
    higher_is_better = False


class EventRatio(EventScore):
    higher_is_better = None  # type: ignore[assignment]  # neither more nor less is better in itself


_EVENT_CLASSES: dict[str, type[EventScore]] = {
    "false_alarm_ratio": EventError,
    "probability_of_false_detection": EventError,
    "frequency_bias": EventRatio,
    "base_rate": EventRatio,
    "total": EventRatio,
}


def event_score(target: Target, name: str, threshold: float) -> Metric:
    """A score of the event that a field reaches a threshold.

    Args:
        name: Of a property of `Contingency`, such as ``"critical_success_index"``.
        threshold: In the unit of the field.
    """
    _check_target(target, name)
    known = [key for key, value in vars(Contingency).items() if isinstance(value, property)]
    if name not in known:
        raise NotApplicable(f"a table of events has no {name!r}; known: {', '.join(known)}")
    return _EVENT_CLASSES.get(name, EventScore)(name, threshold)


class FractionsSkillScore(SummedMetric):
    higher_is_better = True
    num_sums = 2

    def __init__(self, threshold: float, scale: int) -> None:
        super().__init__()
        self.threshold, self.scale = threshold, scale

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        p, t, there = mask_pair(prediction, truth)
        said, seen = (neighborhood_fractions((each >= self.threshold) & there, self.scale) for each in (p, t))
        return torch.stack([(said - seen).square().sum(), said.square().sum() + seen.square().sum()])

    def from_sums(self, sums: Tensor) -> Tensor:
        return 1 - sums[0] / sums[1]


def fss(target: Target, threshold: float, scale: int) -> Metric:
    """Fractions skill score over all fields, 0-1; see `geovision.metrics.functional.neighborhood.fss`."""
    _check_target(target, "fss")
    return FractionsSkillScore(threshold, scale)
