"""Metrics of fields, as tasks list them.

They are called as ``metric(prediction, target)``, both of shape (sample, 1, y, x), in the unit of the field,
NaN where missing. Metrics whose states are sums have bootstrap intervals. Metrics that need all fields at
once (`FullFieldMetric`) return one number.
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
"""Metrics that compare distributions, so that prediction and target need no common dates."""


# --- events -------------------------------------------------------------------------------------


def csi(target: Target, threshold: float) -> Metric:
    """Compute the critical success index (CSI) of an event, 0 to 1 (best).

    The event occurs where the field reaches the threshold. See
    `geovision.metrics.functional.contingency.Contingency.critical_success_index`.

    Args:
        target: Target with a field.
        threshold: Least value of the event, in the unit of the field.
    """
    return event_score(target, "critical_success_index", threshold)


def pod(target: Target, threshold: float) -> Metric:
    """Compute the probability of detection (POD), 0 to 1 (best).

    The event occurs where the field reaches the threshold. See
    `geovision.metrics.functional.contingency.Contingency.probability_of_detection`.

    Args:
        target: Target with a field.
        threshold: Least value of the event, in the unit of the field.
    """
    return event_score(target, "probability_of_detection", threshold)


def far(target: Target, threshold: float) -> Metric:
    """Compute the false alarm ratio (FAR), 0 (best) to 1.

    The event occurs where the field reaches the threshold. See
    `geovision.metrics.functional.contingency.Contingency.false_alarm_ratio`.

    Args:
        target: Target with a field.
        threshold: Least value of the event, in the unit of the field.
    """
    return event_score(target, "false_alarm_ratio", threshold)


def pofd(target: Target, threshold: float) -> Metric:
    """Compute the probability of false detection (POFD), 0 (best) to 1.

    The event occurs where the field reaches the threshold. See
    `geovision.metrics.functional.contingency.Contingency.probability_of_false_detection`.

    Args:
        target: Target with a field.
        threshold: Least value of the event, in the unit of the field.
    """
    return event_score(target, "probability_of_false_detection", threshold)


def hss(target: Target, threshold: float) -> Metric:
    """Compute the Heidke skill score (HSS), -1 to 1 (best).

    The event occurs where the field reaches the threshold. See
    `geovision.metrics.functional.contingency.Contingency.heidke_skill_score`.

    Args:
        target: Target with a field.
        threshold: Least value of the event, in the unit of the field.
    """
    return event_score(target, "heidke_skill_score", threshold)


def ets(target: Target, threshold: float) -> Metric:
    """Compute the equitable threat score (ETS), -1/3 to 1 (best).

    The event occurs where the field reaches the threshold. See
    `geovision.metrics.functional.contingency.Contingency.equitable_threat_score`.

    Args:
        target: Target with a field.
        threshold: Least value of the event, in the unit of the field.
    """
    return event_score(target, "equitable_threat_score", threshold)


def sedi(target: Target, threshold: float) -> Metric:
    """Compute the symmetric extremal dependence index (SEDI), -1 to 1 (best).

    The event occurs where the field reaches the threshold. See
    `geovision.metrics.functional.contingency.Contingency.symmetric_extremal_dependence_index`.

    Args:
        target: Target with a field.
        threshold: Least value of the event, in the unit of the field.
    """
    return event_score(target, "symmetric_extremal_dependence_index", threshold)


def frequency_bias(target: Target, threshold: float) -> Metric:
    """Compute the frequency bias of an event; 1 is best.

    The event occurs where the field reaches the threshold. See
    `geovision.metrics.functional.contingency.Contingency.frequency_bias`.

    Args:
        target: Target with a field.
        threshold: Least value of the event, in the unit of the field.
    """
    return event_score(target, "frequency_bias", threshold)


# --- all fields at once -------------------------------------------------------------------------


class FullFieldMetric(Metric):
    """Metric of all fields at once.

    Fields must have one shape and be in order of time.

    Args:
        score: Function of prediction and target, shape (sample, 1, y, x) each, and of any further inputs of
            `update`.
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
        """Store a batch.

        Args:
            preds: Predictions, shape (sample, 1, y, x).
            target: Targets, same shape.
        """
        self.prediction.append(preds)
        self.truth.append(target)

    def compute(self) -> Tensor:
        """Return the score of all stored fields."""
        return self.score(dim_zero_cat(self.prediction), dim_zero_cat(self.truth)).double()


class FullFieldSkill(FullFieldMetric):
    """Full-field metric whose higher values are better."""

    higher_is_better = True


class FullFieldBias(FullFieldMetric):
    """Full-field metric whose best value is 0."""

    higher_is_better = None  # type: ignore[assignment]  # 0 is best


def _full_field(
    target: Target, name: str, score: Callable[..., Tensor], kind: type[FullFieldMetric]
) -> Metric:
    if not isinstance(target, FieldTarget):
        raise NotApplicable(f"metric {name!r} is defined for a field, not for a {target.kind}")
    return kind(score)


def quantile_bias(target: Target, q: float) -> Metric:
    """Compute the mean bias of a quantile in time, in the field's unit.

    Mean over cells of the quantile of the prediction minus that of the target; 0 is best.

    Args:
        target: Target with a field.
        q: Probability of the quantile, 0 to 1; 0.99 is the P99 bias.

    Raises:
        OptionError: `q` is outside 0 to 1.
    """
    if not 0 <= q <= 1:
        raise OptionError(f"q={q} is not a probability; expected 0 to 1")
    return _full_field(target, "quantile_bias", partial(extremes.quantile_bias, q=q), FullFieldBias)


def wet_day_frequency_bias(target: Target, threshold: float = extremes.WET_DAY) -> Metric:
    """Compute the mean bias of the wet-day frequency; 0 is best.

    Mean over cells of the difference of the fraction of days that reach a threshold (R01 for 1 mm).

    Args:
        target: Target with a field.
        threshold: Least value of a wet day, in the unit of the field.
    """
    index = partial(extremes.r01, threshold=threshold)
    score = partial(extremes.index_bias, index)
    return _full_field(target, "wet_day_frequency_bias", score, FullFieldBias)


def sdii_bias(target: Target, threshold: float = extremes.WET_DAY) -> Metric:
    """Compute the mean bias of the simple daily intensity index (SDII).

    Mean over cells of the difference of the mean over days that reach a threshold, in the unit of the field;
    0 is best.

    Args:
        target: Target with a field.
        threshold: Least value of a wet day, in the unit of the field.
    """
    index = partial(extremes.sdii, threshold=threshold)
    return _full_field(target, "sdii_bias", partial(extremes.index_bias, index), FullFieldBias)


def rx1day_bias(target: Target) -> Metric:
    """Compute the mean bias of the largest daily value (Rx1day).

    Mean over cells of the difference, in the unit of the field; 0 is best.

    Args:
        target: Target with a field.
    """
    score = partial(extremes.index_bias, extremes.rx1day)
    return _full_field(target, "rx1day_bias", score, FullFieldBias)


def time_correlation(target: Target) -> Metric:
    """Compute the mean over cells of the correlation in time.

    Pearson correlation of the time series of each cell, -1 to 1 (best).

    Args:
        target: Target with a field.
    """

    def score(prediction: Tensor, truth: Tensor) -> Tensor:
        return regression.correlation(prediction, truth, over="time").nanmean()

    return _full_field(target, "time_correlation", score, FullFieldSkill)


def ralsd(target: Target) -> Metric:
    """Compute the radially averaged log spectral distance, in dB; 0 is best.

    See `geovision.metrics.functional.spectra.ralsd`.

    Args:
        target: Target with a field.
    """
    return _full_field(target, "ralsd", spectra.ralsd, FullFieldMetric)


def wasserstein(target: Target) -> Metric:
    """Compute the Wasserstein distance between the distributions of all values.

    In the unit of the field; 0 is best. See `geovision.metrics.functional.regression.wasserstein`.

    Args:
        target: Target with a field.
    """
    return _full_field(target, "wasserstein", regression.wasserstein, FullFieldMetric)


def psnr(target: Target, data_range: float) -> Metric:
    """Compute the peak signal-to-noise ratio (PSNR), in dB.

    Higher is better. See `geovision.metrics.functional.regression.psnr`.

    Args:
        target: Target with a field.
        data_range: Difference of the largest and the smallest possible value, in the unit of the field.
    """
    return _full_field(target, "psnr", partial(regression.psnr, data_range=data_range), FullFieldSkill)


def ssim(target: Target, data_range: float) -> Metric:
    """Compute the mean structural similarity (SSIM), -1 to 1 (best).

    Missing cells are excluded. NaN on grids smaller than the window of 11 cells. See
    `geovision.metrics.functional.regression.ssim`.

    Args:
        target: Target with a field.
        data_range: Difference of the largest and the smallest possible value, in the unit of the field.
    """
    return _full_field(target, "ssim", partial(_ssim, data_range=data_range), FullFieldSkill)


def ms_ssim(target: Target, data_range: float) -> Metric:
    """Compute the multi-scale structural similarity (MS-SSIM), 0 to 1 (best).

    The number of scales is the largest that the grid allows, at most five; NaN on grids smaller than the
    window of 11 cells. See `geovision.metrics.functional.regression.multiscale_ssim`.

    Args:
        target: Target with a field.
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
