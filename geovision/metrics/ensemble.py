"""The scores of ensembles as metrics whose states can be merged.

Called as ``metric(members, truth)`` with ``(sample, member, y, x)`` and ``(sample, 1, y, x)``, NaN where
missing. What they are over all samples at once, `geovision.metrics.functional.ensemble` gives.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from geovision.metrics import NotApplicable
from geovision.metrics.functional.ensemble import crps_per_cell, validate_members
from geovision.metrics.regression import SummedMetric
from geovision.spec import FieldTarget, Target

__all__ = ["EnsembleMetric", "crps", "spread", "spread_error_ratio"]


class EnsembleMetric(SummedMetric):
    """A score of sums over cells: of cells, CRPS, variances of the members, the same times (m + 1) / m for
    m members, and squared errors of their mean."""

    num_sums = 5

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        x, y, there = validate_members(prediction.transpose(0, 1), truth[:, 0])
        count = len(x)
        variance = x.var(0) if count > 1 else torch.zeros_like(y)
        parts = (crps_per_cell(x, y), variance, variance * (count + 1) / count, (x.mean(0) - y).square())
        return torch.stack([there.sum(), *((part * there).sum() for part in parts)])


class Crps(EnsembleMetric):
    higher_is_better = False

    def from_sums(self, sums: Tensor) -> Tensor:
        return sums[1] / sums[0]


class Spread(EnsembleMetric):
    higher_is_better = None  # type: ignore[assignment]  # neither more nor less is better in itself

    def from_sums(self, sums: Tensor) -> Tensor:
        return (sums[2] / sums[0]).sqrt()


class SpreadErrorRatio(EnsembleMetric):
    higher_is_better = None  # type: ignore[assignment]  # 1 is best

    def from_sums(self, sums: Tensor) -> Tensor:
        return (sums[3] / sums[4]).sqrt()


def _check_target(target: Target, metric: str) -> None:
    if not isinstance(target, FieldTarget):
        raise NotApplicable(f"metric {metric!r} scores ensembles of fields, not a {target.kind}")


def crps(target: Target) -> Metric:
    """Continuous ranked probability score over all cells, in its unit, fair to small ensembles."""
    _check_target(target, "crps")
    return Crps()


def spread(target: Target) -> Metric:
    """Root of the mean variance of the members about their mean, in the unit of the field."""
    _check_target(target, "spread")
    return Spread()


def spread_error_ratio(target: Target) -> Metric:
    """Spread over the error of the members' mean; 1 where members and truth are of one distribution, below 1
    where the ensemble is too sure."""
    _check_target(target, "spread_error_ratio")
    return SpreadErrorRatio()
