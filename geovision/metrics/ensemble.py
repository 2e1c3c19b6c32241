"""Ensemble metrics whose states can be merged.

They are called as ``metric(members, target)``, with members of shape (sample, member, y, x) and targets of
shape (sample, 1, y, x), NaN where missing. `geovision.metrics.functional.ensemble` contains the functions for
all samples at once.
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
    """Ensemble metric computed from sums over cells.

    The sums are: number of cells, CRPS, variance of the members, the same times (m + 1) / m for m members,
    and squared error of the ensemble mean.
    """

    num_sums = 5

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        """Return the sums of a batch, shape (5,).

        Args:
            prediction: Members, shape (sample, member, y, x).
            truth: Target, shape (sample, 1, y, x).
        """
        x, y, valid = validate_members(prediction.transpose(0, 1), truth[:, 0])
        count = len(x)
        variance = x.var(0) if count > 1 else torch.zeros_like(y)
        parts = (crps_per_cell(x, y), variance, variance * (count + 1) / count, (x.mean(0) - y).square())
        return torch.stack([valid.sum(), *((part * valid).sum() for part in parts)])


class Crps(EnsembleMetric):
    """Continuous ranked probability score."""

    higher_is_better = False

    def from_sums(self, sums: Tensor) -> Tensor:
        return sums[1] / sums[0]


class Spread(EnsembleMetric):
    """Ensemble spread."""

    higher_is_better = None  # type: ignore[assignment]  # no direction is better by itself

    def from_sums(self, sums: Tensor) -> Tensor:
        return (sums[2] / sums[0]).sqrt()


class SpreadErrorRatio(EnsembleMetric):
    """Ratio of ensemble spread to the error of the ensemble mean."""

    higher_is_better = None  # type: ignore[assignment]  # 1 is best

    def from_sums(self, sums: Tensor) -> Tensor:
        return (sums[3] / sums[4]).sqrt()


def _check_target(target: Target, metric: str) -> None:
    if not isinstance(target, FieldTarget):
        raise NotApplicable(f"metric {metric!r} scores ensembles of fields, not a {target.kind}")


def crps(target: Target) -> Metric:
    """Compute the continuous ranked probability score (CRPS); 0 is best.

    Mean over all cells, in the unit of the field, in the version that is fair to small ensembles; see
    `geovision.metrics.functional.ensemble.crps`.

    Args:
        target: Target with a field.
    """
    _check_target(target, "crps")
    return Crps()


def spread(target: Target) -> Metric:
    """Compute the ensemble spread, in the unit of the field.

    Square root of the mean over cells of the variance of the members about their mean.

    Args:
        target: Target with a field.
    """
    _check_target(target, "spread")
    return Spread()


def spread_error_ratio(target: Target) -> Metric:
    """Compute the ratio of ensemble spread to ensemble-mean error; 1 is best.

    The ratio is 1 if members and target have the same distribution, and below 1 if the ensemble is
    overconfident. See `geovision.metrics.functional.ensemble.spread_skill_ratio`.

    Args:
        target: Target with a field.
    """
    _check_target(target, "spread_error_ratio")
    return SpreadErrorRatio()
