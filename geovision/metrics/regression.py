"""Field metrics computed from sums, whose states can be merged.

They are called as ``metric(prediction, target)``, with fields of shape (sample, ..., y, x) in one unit, NaN
where missing. A batch, a process or a group of a bootstrap adds a vector of sums in double precision. Metrics
that need all values at once, such as quantiles and spectra, are functions of
`geovision.metrics.functional.regression`, `extremes` and `spectra`.
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
    """Metric computed from sums over cells.

    Subclasses implement `batch_sums`, which returns the sums of a batch, and `from_sums`, which computes the
    metric from the sums of all batches.

    Attributes:
        num_sums: Number of sums.
        sums: Sums of all batches, float64, shape (num_sums,).
    """

    is_differentiable = False
    full_state_update = False
    higher_is_better = False
    num_sums = 4
    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(self.num_sums, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add the sums of a batch.

        Args:
            preds: Predictions, shape (sample, ..., y, x).
            target: Targets, same shape.
        """
        self.sums += self.batch_sums(preds, target)

    def compute(self) -> Tensor:
        """Return the metric over all batches."""
        return self.from_sums(self.sums)

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        """Return the sums of a batch, shape (num_sums,).

        Default: number of cells, and sums of differences, absolute differences and squared differences.

        Args:
            prediction: Predictions, shape (sample, ..., y, x).
            truth: Targets, same shape.
        """
        p, t, mask = mask_pair(prediction, truth)
        d = p - t
        return torch.stack([mask.sum(), d.sum(), d.abs().sum(), d.square().sum()])

    def from_sums(self, sums: Tensor) -> Tensor:
        """Return the metric from the sums of all batches.

        Args:
            sums: Sums, shape (num_sums,).
        """
        raise NotImplementedError


def _check_target(target: Target, metric: str) -> None:
    if not isinstance(target, FieldTarget):
        raise NotApplicable(f"metric {metric!r} scores fields, not a {target.kind}")


# --- differences --------------------------------------------------------------------------------


class Rmse(SummedMetric):
    """Root mean squared error."""

    def from_sums(self, sums: Tensor) -> Tensor:
        return (sums[3] / sums[0]).sqrt()


class Mae(SummedMetric):
    """Mean absolute error."""

    def from_sums(self, sums: Tensor) -> Tensor:
        return sums[2] / sums[0]


class Bias(SummedMetric):
    """Mean error."""

    higher_is_better = None  # type: ignore[assignment]  # 0 is best

    def from_sums(self, sums: Tensor) -> Tensor:
        return sums[1] / sums[0]


class Correlation(SummedMetric):
    """Pearson correlation."""

    higher_is_better = True
    num_sums = 6

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        p, t, mask = mask_pair(prediction, truth)
        return torch.stack([mask.sum(), p.sum(), t.sum(), (p * p).sum(), (t * t).sum(), (p * t).sum()])

    def from_sums(self, sums: Tensor) -> Tensor:
        n, p, t, pp, tt, pt = sums
        variances = (pp - p * p / n) * (tt - t * t / n)
        found = ((pt - p * t / n) / variances.clamp_min(0).sqrt()).clamp(-1, 1)
        # The rounding error of a constant is not variation.
        return torch.where(variances > 1e-12 * pp * tt, found, torch.full_like(found, torch.nan))


def rmse(target: Target) -> Metric:
    """Compute the root mean squared error over all cells; 0 is best.

    ``sqrt(mean (x - y)^2)`` of prediction x and target y, in the unit of the field.

    Args:
        target: Target with a field.
    """
    _check_target(target, "rmse")
    return Rmse()


def mae(target: Target) -> Metric:
    """Compute the mean absolute error over all cells; 0 is best.

    ``mean |x - y|`` of prediction x and target y, in the unit of the field.

    Args:
        target: Target with a field.
    """
    _check_target(target, "mae")
    return Mae()


def bias(target: Target) -> Metric:
    """Compute the mean error over all cells; 0 is best.

    ``mean (x - y)`` of prediction x and target y, in the unit of the field.

    Args:
        target: Target with a field.
    """
    _check_target(target, "bias")
    return Bias()


def correlation(target: Target) -> Metric:
    """Compute the Pearson correlation of all cells together, -1 to 1 (best).

    NaN if prediction or target is constant.

    Args:
        target: Target with a field.
    """
    _check_target(target, "correlation")
    return Correlation()


# --- events -------------------------------------------------------------------------------------


class EventScore(SummedMetric):
    """Score of the event that a field reaches a threshold; higher is better.

    Args:
        name: Name of a property of `Contingency`.
        threshold: Least value of the event, in the unit of the field.
    """

    higher_is_better = True

    def __init__(self, name: str, threshold: float) -> None:
        super().__init__()
        self.name, self.threshold = name, threshold

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        table = contingency(prediction, truth, self.threshold)
        return torch.stack([table.hits, table.false_alarms, table.misses, table.correct_negatives])

    def from_sums(self, sums: Tensor) -> Tensor:
        score: Tensor = getattr(Contingency(*sums), self.name)
        return score


class EventError(EventScore):
    """Score of an event whose best value is 0."""

    higher_is_better = False


class EventRatio(EventScore):
    """Score of an event without a better direction."""

    higher_is_better = None  # type: ignore[assignment]  # no direction is better by itself


_EVENT_CLASSES: dict[str, type[EventScore]] = {
    "false_alarm_ratio": EventError,
    "probability_of_false_detection": EventError,
    "frequency_bias": EventRatio,
    "base_rate": EventRatio,
    "total": EventRatio,
}


def event_score(target: Target, name: str, threshold: float) -> Metric:
    """Create a score of the event that a field reaches a threshold.

    Args:
        target: Target with a field.
        name: Name of a property of `Contingency`, such as ``"critical_success_index"``.
        threshold: Least value of the event, in the unit of the field.

    Raises:
        NotApplicable: The target is not a field, or `Contingency` has no such property.
    """
    _check_target(target, name)
    known = [key for key, value in vars(Contingency).items() if isinstance(value, property)]
    if name not in known:
        raise NotApplicable(f"a contingency table has no score {name!r}; known: {', '.join(known)}")
    return _EVENT_CLASSES.get(name, EventScore)(name, threshold)


class FractionsSkillScore(SummedMetric):
    """Fractions skill score of the event that a field reaches a threshold.

    Args:
        threshold: Least value of the event, in the unit of the field.
        scale: Side of the square window, in cells.
    """

    higher_is_better = True
    num_sums = 2

    def __init__(self, threshold: float, scale: int) -> None:
        super().__init__()
        self.threshold, self.scale = threshold, scale

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        p, t, mask = mask_pair(prediction, truth)
        predicted, observed = (
            neighborhood_fractions((each >= self.threshold) & mask, self.scale) for each in (p, t)
        )
        return torch.stack(
            [(predicted - observed).square().sum(), predicted.square().sum() + observed.square().sum()]
        )

    def from_sums(self, sums: Tensor) -> Tensor:
        return 1 - sums[0] / sums[1]


def fss(target: Target, threshold: float, scale: int) -> Metric:
    """Compute the fractions skill score (FSS) over all fields, 0 to 1 (best).

    See `geovision.metrics.functional.neighborhood.fss`.

    Args:
        target: Target with a field.
        threshold: Least value of the event, in the unit of the field.
        scale: Side of the square window, in cells.
    """
    _check_target(target, "fss")
    return FractionsSkillScore(threshold, scale)
