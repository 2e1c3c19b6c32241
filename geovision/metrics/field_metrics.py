"""Scores of fields and masks by name, as a task lists them.

Called as ``metric(answer, truth)`` with ``(sample, 1, y, x)``, NaN where missing: fields in their unit, masks
as the probability of yes over 0 or 1. Those whose states are sums have intervals; those that need all
fields at once (`FullFieldMetric`) have one number.
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
from geovision.metrics._masked import paired
from geovision.metrics.functional import extremes, regression, spectra
from geovision.metrics.functional.contingency import Contingency, contingency_of_events
from geovision.metrics.functional.neighborhood import fractions
from geovision.metrics.regression import FieldScore, event_score, fss
from geovision.spec import FieldTarget, MaskTarget, Target

__all__ = [
    "BINS",
    "DISTRIBUTIONS",
    "FullFieldMetric",
    "MaskTable",
    "csi",
    "csi_1",
    "csi_10",
    "ets",
    "ets_10",
    "far",
    "far_10",
    "frequency_bias",
    "fss_10_5",
    "hss",
    "mask_brier",
    "mask_f1",
    "mask_fss",
    "mask_pr_auc",
    "mask_table",
    "ms_ssim",
    "p95_bias",
    "p99_bias",
    "p999_bias",
    "pod",
    "pod_10",
    "psnr",
    "r01_bias",
    "ralsd",
    "rx1day_bias",
    "sdii_bias",
    "ssim",
    "time_correlation",
    "wasserstein",
]  # fmt: skip

BINS = 100
"""Of probability, in the table of a mask."""

RANGE = 100.0
"""mm/day: the range that PSNR and SSIM of rain are stated with."""


DISTRIBUTIONS = frozenset((
    "bias", "p95_bias", "p99_bias", "p999_bias", "r01_bias", "sdii_bias", "rx1day_bias", "cdd_bias",
    "cwd_bias", "ralsd", "wasserstein",
))  # fmt: skip
"""Scores that mean something where the days of the answers are not those of the truth."""


# --- fields, by sums ------------------------------------------------------------------------------


def csi_1(target: Target) -> Metric:
    """Critical success index of 1 in the unit of the field."""
    return event_score(target, "critical_success_index", 1.0)


def csi_10(target: Target) -> Metric:
    """Critical success index of 10 in the unit of the field."""
    return event_score(target, "critical_success_index", 10.0)


def ets_10(target: Target) -> Metric:
    """Equitable threat score of 10 in the unit of the field."""
    return event_score(target, "equitable_threat_score", 10.0)


def pod_10(target: Target) -> Metric:
    """Probability of detection of 10 in the unit of the field."""
    return event_score(target, "probability_of_detection", 10.0)


def far_10(target: Target) -> Metric:
    """False alarm ratio of 10 in the unit of the field."""
    return event_score(target, "false_alarm_ratio", 10.0)


def fss_10_5(target: Target) -> Metric:
    """Fractions skill score of 10 in the unit of the field, in windows of 5 x 5 cells."""
    return fss(target, 10.0, 5)


# --- fields, all at once --------------------------------------------------------------------------


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


class WholeSkill(FullFieldMetric):
    higher_is_better = True


class WholeDifference(FullFieldMetric):
    higher_is_better = None  # type: ignore[assignment]  # 0 is best


def _whole(
    target: Target, name: str, score: Callable[[Tensor, Tensor], Tensor], kind: type[FullFieldMetric]
) -> Metric:
    if not isinstance(target, FieldTarget):
        raise NotApplicable(f"metric {name!r} scores fields, not a {target.kind}")
    return kind(score)


def p95_bias(target: Target) -> Metric:
    """Mean over cells of the difference of their 95 % quantiles in time, in the unit of the field."""
    return _whole(target, "p95_bias", partial(extremes.quantile_bias, q=0.95), WholeDifference)


def p99_bias(target: Target) -> Metric:
    """Mean over cells of the difference of their 99 % quantiles in time, in the unit of the field."""
    return _whole(target, "p99_bias", partial(extremes.quantile_bias, q=0.99), WholeDifference)


def p999_bias(target: Target) -> Metric:
    """Mean over cells of the difference of their 99.9 % quantiles in time, in the unit of the field."""
    return _whole(target, "p999_bias", partial(extremes.quantile_bias, q=0.999), WholeDifference)


def r01_bias(target: Target) -> Metric:
    """Mean over cells of the difference of the fraction of days with 1 mm or more."""
    return _whole(target, "r01_bias", partial(extremes.index_bias, extremes.r01), WholeDifference)


def sdii_bias(target: Target) -> Metric:
    """Mean over cells of the difference of the mean rain of wet days, mm/day."""
    return _whole(target, "sdii_bias", partial(extremes.index_bias, extremes.sdii), WholeDifference)


def rx1day_bias(target: Target) -> Metric:
    """Mean over cells of the difference of the rain of the wettest day, mm/day."""
    return _whole(target, "rx1day_bias", partial(extremes.index_bias, extremes.rx1day), WholeDifference)


def time_correlation(target: Target) -> Metric:
    """Pearson correlation in time of each cell, averaged over cells, -1 to 1."""

    def score(prediction: Tensor, truth: Tensor) -> Tensor:
        return regression.correlation(prediction, truth, over="time").nanmean()

    return _whole(target, "time_correlation", score, WholeSkill)


def ralsd(target: Target) -> Metric:
    """Radially averaged log spectral distance, dB; 0 where the spectra are one."""
    return _whole(target, "ralsd", spectra.ralsd, FullFieldMetric)


def wasserstein(target: Target) -> Metric:
    """Distance between the distributions of all values, in the unit of the field."""
    return _whole(target, "wasserstein", regression.wasserstein, FullFieldMetric)


def psnr(target: Target) -> Metric:
    """Peak signal-to-noise ratio for a range of 100 in the unit of the field, dB."""
    return _whole(target, "psnr", partial(regression.psnr, data_range=RANGE), WholeSkill)


def ssim(target: Target) -> Metric:
    """Mean structural similarity for a range of 100 in the unit of the field, without missing cells;
    undefined on grids smaller than its window of 11."""
    return _whole(target, "ssim", _similarity, WholeSkill)


def ms_ssim(target: Target) -> Metric:
    """Multi-scale structural similarity for a range of 100 in the unit of the field, in as many scales, five
    at most, as the grid has."""
    return _whole(target, "ms_ssim", _multiscale, WholeSkill)


_WINDOW = 11


def _similarity(prediction: Tensor, truth: Tensor) -> Tensor:
    if min(truth.shape[-2:]) < _WINDOW:
        return torch.tensor(torch.nan)
    return regression.ssim(prediction, truth, data_range=RANGE)


def _multiscale(prediction: Tensor, truth: Tensor) -> Tensor:
    scales = sum(min(truth.shape[-2:]) // 2**n >= _WINDOW for n in range(5))
    if not scales:
        return torch.tensor(torch.nan)
    return regression.multiscale_ssim(prediction, truth, data_range=RANGE, scales=scales)


# --- masks ----------------------------------------------------------------------------------------


def _mask(target: Target, name: str) -> MaskTarget:
    if not isinstance(target, MaskTarget):
        raise NotApplicable(f"metric {name!r} scores masks, not a {target.kind}")
    return target


class MaskEvent(FieldScore):
    """A property of the table of yes and no at the target's threshold."""

    higher_is_better = True

    def __init__(self, name: str, threshold: float) -> None:
        super().__init__()
        self.name, self.threshold = name, threshold

    def of_batch(self, prediction: Tensor, truth: Tensor) -> Tensor:
        # Compared before they become doubles, as `MaskPrediction.mask` does.
        said = prediction >= self.threshold
        _, t, there = paired(prediction, truth)
        table = contingency_of_events(said, t >= 0.5, there)
        return torch.stack([table.hits, table.false_alarms, table.misses, table.correct_negatives])

    def score(self, sums: Tensor) -> Tensor:
        return getattr(Contingency(*sums), self.name)


class MaskEventError(MaskEvent):
    higher_is_better = False


class MaskEventRatio(MaskEvent):
    higher_is_better = None  # type: ignore[assignment]  # 1 is best


def _event(target: Target, name: str, score: str, kind: type[MaskEvent] = MaskEvent) -> Metric:
    return kind(score, _mask(target, name).threshold)


def csi(target: Target) -> Metric:
    """Critical success index of the cells, 0-1: hits over hits, misses and false alarms; also the
    intersection over the union."""
    return _event(target, "csi", "critical_success_index")


def pod(target: Target) -> Metric:
    """Probability of detection, 0-1: the part of the cells with the event that was found."""
    return _event(target, "pod", "probability_of_detection")


def far(target: Target) -> Metric:
    """False alarm ratio, 0-1: the part of the cells that were said that had no event."""
    return _event(target, "far", "false_alarm_ratio", MaskEventError)


def mask_f1(target: Target) -> Metric:
    """F1 of the cells, 0-1, also the Dice coefficient."""
    return _event(target, "mask_f1", "f1")


def hss(target: Target) -> Metric:
    """Heidke skill score, -1 to 1: accuracy beyond that of chance."""
    return _event(target, "hss", "heidke_skill_score")


def ets(target: Target) -> Metric:
    """Equitable threat score, -1/3 to 1: critical success index beyond that of chance."""
    return _event(target, "ets", "equitable_threat_score")


def frequency_bias(target: Target) -> Metric:
    """Cells said over cells with the event; above 1 it is said too often."""
    return _event(target, "frequency_bias", "frequency_bias", MaskEventRatio)


class MaskTable(FieldScore):
    """Cells without and with the event in `BINS` bins of probability: (no ``(bin,)``, yes ``(bin,)``,
    squared error, cells)."""

    number = 2 * BINS + 2

    def of_batch(self, prediction: Tensor, truth: Tensor) -> Tensor:
        p, t, there = paired(prediction, truth)
        at = (p * BINS).long().clamp(0, BINS - 1)
        yes = t >= 0.5
        counts = [
            torch.bincount(at[cells & there], minlength=BINS).to(p) for cells in (~yes, yes)
        ]  # fmt: skip
        error = torch.where(there, (p - t).square(), torch.zeros_like(p)).sum()
        return torch.cat([*counts, torch.stack([error, there.sum()])])

    def score(self, sums: Tensor) -> Tensor:
        return sums


class MaskBrier(MaskTable):
    def score(self, sums: Tensor) -> Tensor:
        return sums[-2] / sums[-1]


class MaskPrecisionRecall(MaskTable):
    higher_is_better = True

    def score(self, sums: Tensor) -> Tensor:
        no, yes = sums[:BINS], sums[BINS : 2 * BINS]
        hits, said = yes.flip(0).cumsum(0), (yes + no).flip(0).cumsum(0)
        # Average precision: what a further bin adds to the recall, times the precision with it.
        precision = torch.where(said > 0, hits / said.clamp_min(1), torch.zeros_like(hits))
        return (precision * yes.flip(0)).sum() / yes.sum()


def mask_table(target: Target) -> Metric:
    """Counts of cells by probability and truth, for figures."""
    _mask(target, "mask_table")
    return MaskTable()


def mask_brier(target: Target) -> Metric:
    """Mean squared difference of the probability from what happened, 0-1."""
    _mask(target, "mask_brier")
    return MaskBrier()


def mask_pr_auc(target: Target) -> Metric:
    """Average precision of the cells, 0-1, over a hundred thresholds; a guess has the frequency of the
    event."""
    _mask(target, "mask_pr_auc")
    return MaskPrecisionRecall()


class MaskFractions(FieldScore):
    """`fractions` skill of yes at the target's threshold."""

    higher_is_better = True
    number = 2

    def __init__(self, threshold: float, scale: int) -> None:
        super().__init__()
        if scale < 1:
            raise OptionError(f"scale={scale}: expected 1 cell or more")
        self.threshold, self.scale = threshold, scale

    def of_batch(self, prediction: Tensor, truth: Tensor) -> Tensor:
        _, t, there = paired(prediction, truth)
        said = fractions((prediction >= self.threshold) & there, self.scale)
        seen = fractions((t >= 0.5) & there, self.scale)
        return torch.stack([(said - seen).square().sum(), said.square().sum() + seen.square().sum()])

    def score(self, sums: Tensor) -> Tensor:
        return 1 - sums[0] / sums[1]


def mask_fss(target: Target) -> Metric:
    """Fractions skill score of the mask in windows of 5 x 5 cells, 0-1."""
    return MaskFractions(_mask(target, "mask_fss").threshold, 5)
