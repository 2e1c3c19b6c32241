"""Metrics of fields, as a task lists them.

Called as ``metric(prediction, truth)``, both of shape (sample, 1, y, x), in the unit of the field, NaN where
missing. Metrics whose states are sums have bootstrap intervals. Metrics that need all fields at once
(`FullFieldMetric`) return one number.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from geovision.errors import OptionError
from geovision.metrics import NotApplicable
from geovision.metrics.functional import extremes, regression, spectra
from geovision.metrics.regression import event_score
from geovision.spec import FieldTarget, Target

__all__ = [
    "DISTRIBUTIONS",
    "FullFieldMetric",
    "csi",
    "ets",
    "far",
    "frequency_bias",
    "hss",
    "ms_ssim",
    "pod",
    "pofd",
    "psnr",
    "quantile_bias",
    "ralsd",
    "rx1day_bias",
    "sdii_bias",
    "sedi",
    "ssim",
    "time_correlation",
    "wasserstein",
    "wet_day_frequency_bias",
]

DISTRIBUTIONS = frozenset(
    (
        "bias",
        "quantile_bias",
        "wet_day_frequency_bias",
        "sdii_bias",
        "rx1day_bias",
        "cdd_bias",
        "cwd_bias",
        "ralsd",
        "wasserstein",
    )
)
"""Names of metrics that compare distributions, so that predictions and truth need no common dates."""


# --- events ---------------------------------------------------------------------------------------


def csi(target: Target, threshold: float) -> Metric:
    """Critical success index of the event that the field reaches a threshold, 0 to 1."""
    return event_score(target, "critical_success_index", threshold)


def pod(target: Target, threshold: float) -> Metric:
    """Probability of detection of the event that the field reaches a threshold, 0 to 1."""
    return event_score(target, "probability_of_detection", threshold)


def far(target: Target, threshold: float) -> Metric:
    """False alarm ratio of the event that the field reaches a threshold, 0 to 1."""
    return event_score(target, "false_alarm_ratio", threshold)


def pofd(target: Target, threshold: float) -> Metric:
    """Probability of false detection of the event that the field reaches a threshold, 0 to 1."""
    return event_score(target, "probability_of_false_detection", threshold)


def hss(target: Target, threshold: float) -> Metric:
    """Heidke skill score of the event that the field reaches a threshold, -1 to 1."""
    return event_score(target, "heidke_skill_score", threshold)


def ets(target: Target, threshold: float) -> Metric:
    """Equitable threat score of the event that the field reaches a threshold, -1/3 to 1."""
    return event_score(target, "equitable_threat_score", threshold)


def sedi(target: Target, threshold: float) -> Metric:
    """Symmetric extremal dependence index of the event that the field reaches a threshold, -1 to 1."""
    return event_score(target, "symmetric_extremal_dependence_index", threshold)


def frequency_bias(target: Target, threshold: float) -> Metric:
    """Frequency bias of the event that the field reaches a threshold; 1 is best."""
    return event_score(target, "frequency_bias", threshold)


# --- all fields at once ---------------------------------------------------------------------------


class FullFieldMetric(Metric):
    """A score of all fields at once, which must be of one shape and in order of time.

    Args:
        score: Function of (prediction, truth), ``(sample, 1, y, x)`` each, and of what else `update` takes.
    """

    is_differentiable = False
    full_state_update = False
    higher_is_better = False
    prediction: list[Tensor]
    truth: list[Tensor]

    def __init__(self, score: Callable[..., Tensor]) -> None:
        super().__init__()
        self.score = score
        self.add_state("prediction", [], dist_reduce_fx="cat")
        self.add_state("truth", [], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor) -> None:
        self.prediction.append(preds)
        self.truth.append(target)

    def compute(self) -> Tensor:
        return self.score(dim_zero_cat(self.prediction), dim_zero_cat(self.truth)).double()


class FullFieldSkill(FullFieldMetric):
    """A full-field metric of which more is better."""

    higher_is_better = True


class FullFieldBias(FullFieldMetric):
    """A full-field metric of which 0 is best."""

    higher_is_better = None  # type: ignore[assignment]  # 0 is best


def _full_field(
    target: Target, name: str, score: Callable[..., Tensor], kind: type[FullFieldMetric]
) -> Metric:
    if not isinstance(target, FieldTarget):
        raise NotApplicable(f"metric {name!r} is defined for a field, not for a {target.kind}")
    return kind(score)


def quantile_bias(target: Target, q: float) -> Metric:
    """Mean over cells of the difference of their quantiles in time, in the unit of the field.

    Args:
        target: A field.
        q: Probability of the quantile, 0 to 1; 0.99 is the P99 bias.
    """
    if not 0 <= q <= 1:
        raise OptionError(f"q={q} is no probability; expected 0 to 1")
    return _full_field(target, "quantile_bias", partial(extremes.quantile_bias, q=q), FullFieldBias)


def wet_day_frequency_bias(target: Target, threshold: float = extremes.WET_DAY) -> Metric:
    """Mean over cells of the difference of the fraction of days that reach a threshold (R01 for 1 mm)."""
    index = partial(extremes.r01, threshold=threshold)
    score = partial(extremes.index_bias, index)
    return _full_field(target, "wet_day_frequency_bias", score, FullFieldBias)


def sdii_bias(target: Target, threshold: float = extremes.WET_DAY) -> Metric:
    """Mean over cells of the difference of the mean of days that reach a threshold (SDII)."""
    index = partial(extremes.sdii, threshold=threshold)
    return _full_field(target, "sdii_bias", partial(extremes.index_bias, index), FullFieldBias)


def rx1day_bias(target: Target) -> Metric:
    """Mean over cells of the difference of the largest daily value (Rx1day), in the unit of the field."""
    score = partial(extremes.index_bias, extremes.rx1day)
    return _full_field(target, "rx1day_bias", score, FullFieldBias)


def time_correlation(target: Target) -> Metric:
    """Pearson correlation in time of each cell, averaged over cells, -1 to 1."""

    def score(prediction: Tensor, truth: Tensor) -> Tensor:
        return regression.correlation(prediction, truth, over="time").nanmean()

    return _full_field(target, "time_correlation", score, FullFieldSkill)


def ralsd(target: Target) -> Metric:
    """Radially averaged log spectral distance, in dB; 0 is best."""
    return _full_field(target, "ralsd", spectra.ralsd, FullFieldMetric)


def wasserstein(target: Target) -> Metric:
    """Wasserstein distance between the distributions of all values, in the unit of the field."""
    return _full_field(target, "wasserstein", regression.wasserstein, FullFieldMetric)


def psnr(target: Target, data_range: float) -> Metric:
    """Peak signal-to-noise ratio, in dB.

    Args:
        target: A field.
        data_range: Difference of the largest and the smallest possible value, in the unit of the field.
    """
    return _full_field(target, "psnr", partial(regression.psnr, data_range=data_range), FullFieldSkill)


def ssim(target: Target, data_range: float) -> Metric:
    """Mean structural similarity without missing cells; NaN on grids smaller than its window of 11 cells.

    Args:
        target: A field.
        data_range: Difference of the largest and the smallest possible value, in the unit of the field.
    """
    return _full_field(target, "ssim", partial(_ssim, data_range=data_range), FullFieldSkill)


def ms_ssim(target: Target, data_range: float) -> Metric:
    """Multi-scale structural similarity in as many scales as the grid allows, at most five.

    Args:
        target: A field.
        data_range: Difference of the largest and the smallest possible value, in the unit of the field.
    """
    return _full_field(target, "ms_ssim", partial(_ms_ssim, data_range=data_range), FullFieldSkill)


_SSIM_WINDOW = 11


def _ssim(prediction: Tensor, truth: Tensor, *, data_range: float) -> Tensor:
    if min(truth.shape[-2:]) < _SSIM_WINDOW:
        return torch.tensor(torch.nan)
    return regression.ssim(prediction, truth, data_range=data_range)


def _ms_ssim(prediction: Tensor, truth: Tensor, *, data_range: float) -> Tensor:
    scales = sum(min(truth.shape[-2:]) // 2**n >= _SSIM_WINDOW for n in range(5))
    if not scales:
        return torch.tensor(torch.nan)
    return regression.multiscale_ssim(prediction, truth, data_range=data_range, scales=scales)
