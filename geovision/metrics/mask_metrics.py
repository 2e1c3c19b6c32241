"""Metrics of masks: events, scales, probabilities and objects.

They are called as ``metric(probability, target)``, both of shape (sample, 1, y, x), NaN where missing: the
probability of the event, 0 to 1, and the target, 0 or 1. Metrics are pooled over all cells. With
``per_sample=True`` they are the mean over samples of the metric of each sample, so that a small event has the
same weight as a large one.

The default of ``threshold`` is the probability threshold of the target.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from geovision.errors import OptionError
from geovision.metrics import NotApplicable
from geovision.metrics._masked import mask_pair
from geovision.metrics.functional.contingency import Contingency, event_contingency
from geovision.metrics.functional.neighborhood import neighborhood_fractions
from geovision.metrics.functional.objects import match_objects
from geovision.metrics.regression import SummedMetric
from geovision.spec import MaskTarget, Target

__all__ = [
    "MAX_DISTANCE",
    "PROBABILITY_BINS",
    "RELIABILITY_BINS",
    "ReliabilityCurve",
    "brier",
    "brier_skill",
    "calibration_error",
    "contingency",
    "csi",
    "ets",
    "f1",
    "far",
    "frequency_bias",
    "fss",
    "hss",
    "object_distance",
    "object_far",
    "object_pod",
    "pod",
    "pofd",
    "pr_auc",
    "probability_histogram",
    "reliability",
    "reliability_curve",
    "reliability_from_sums",
    "sedi",
]

PROBABILITY_BINS = 100
"""Number of bins of probability in `probability_histogram`."""

RELIABILITY_BINS = 10
"""Number of bins of probability in `reliability`."""

MAX_DISTANCE = 5.0
"""Default distance within which two objects match, in cells; chosen for this library."""


def _threshold(target: Target, name: str, threshold: float | None = None) -> float:
    """Return the threshold, by default that of the target, and check the kind of target."""
    if not isinstance(target, MaskTarget):
        raise NotApplicable(f"metric {name!r} is defined for a mask, not for a {target.kind}")
    return target.threshold if threshold is None else threshold


# --- events -------------------------------------------------------------------------------------


class MaskEvent(SummedMetric):
    """Contingency score of the cells at a probability threshold; higher is better.

    Args:
        name: Name of a property of `Contingency`.
        threshold: Least probability of a predicted cell.
    """

    higher_is_better = True

    def __init__(self, name: str, threshold: float) -> None:
        super().__init__()
        self.name, self.threshold = name, threshold

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        # Compare in the original precision, as `MaskPrediction.mask` does.
        predicted = prediction >= self.threshold
        _, t, mask = mask_pair(prediction, truth)
        table = event_contingency(predicted, t >= 0.5, mask)
        return torch.stack([table.hits, table.false_alarms, table.misses, table.correct_negatives])

    def from_sums(self, sums: Tensor) -> Tensor:
        score: Tensor = getattr(Contingency(*sums), self.name)
        return score


class MaskEventError(MaskEvent):
    """Contingency score whose best value is 0."""

    higher_is_better = False


class MaskEventRatio(MaskEvent):
    """Contingency score whose best value is 1."""

    higher_is_better = None  # type: ignore[assignment]  # 1 is best


class PerSampleMaskEvent(SummedMetric):
    """Mean over samples of a contingency score; higher is better.

    Samples in which the score is undefined, for example without an event in prediction and target, are
    excluded.

    Args:
        name: Name of a property of `Contingency`.
        threshold: Least probability of a predicted cell.
    """

    higher_is_better = True
    num_sums = 2

    def __init__(self, name: str, threshold: float) -> None:
        super().__init__()
        self.name, self.threshold = name, threshold

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        _, t, mask = mask_pair(prediction, truth)
        tables: list[Contingency] = [
            event_contingency(forecast, observed >= 0.5, valid)
            for forecast, observed, valid in zip(prediction >= self.threshold, t, mask, strict=True)
        ]
        scores = torch.stack([getattr(table, self.name) for table in tables])
        known = torch.isfinite(scores)
        return torch.stack([scores[known].sum(), known.sum()])

    def from_sums(self, sums: Tensor) -> Tensor:
        return sums[0] / sums[1]


class PerSampleMaskEventError(PerSampleMaskEvent):
    """Mean over samples of a contingency score whose best value is 0."""

    higher_is_better = False


class PerSampleMaskEventRatio(PerSampleMaskEvent):
    """Mean over samples of a contingency score whose best value is 1."""

    higher_is_better = None  # type: ignore[assignment]  # 1 is best


def _event(
    target: Target, name: str, score: str, threshold: float | None, per_sample: bool, better: str = "high"
) -> Metric:
    """Create the pooled or per-sample metric of a contingency score."""
    at = _threshold(target, name, threshold)
    pooled = {"high": MaskEvent, "low": MaskEventError, "one": MaskEventRatio}
    single = {"high": PerSampleMaskEvent, "low": PerSampleMaskEventError, "one": PerSampleMaskEventRatio}
    return single[better](score, at) if per_sample else pooled[better](score, at)


def csi(target: Target, threshold: float | None = None, per_sample: bool = False) -> Metric:
    """Compute the critical success index (CSI), or IoU, 0 to 1 (best).

    See `geovision.metrics.functional.contingency.Contingency.critical_success_index`.

    Args:
        target: Target with a mask.
        threshold: Least probability of a predicted cell. Default: the target's threshold.
        per_sample: Whether to average the metric over samples instead of pooling all cells. Default: False.
    """
    return _event(target, "csi", "critical_success_index", threshold, per_sample)


def pod(target: Target, threshold: float | None = None, per_sample: bool = False) -> Metric:
    """Compute the probability of detection (POD), 0 to 1 (best).

    See `geovision.metrics.functional.contingency.Contingency.probability_of_detection`.

    Args:
        target: Target with a mask.
        threshold: Least probability of a predicted cell. Default: the target's threshold.
        per_sample: Whether to average the metric over samples instead of pooling all cells. Default: False.
    """
    return _event(target, "pod", "probability_of_detection", threshold, per_sample)


def far(target: Target, threshold: float | None = None, per_sample: bool = False) -> Metric:
    """Compute the false alarm ratio (FAR), 0 (best) to 1.

    See `geovision.metrics.functional.contingency.Contingency.false_alarm_ratio`.

    Args:
        target: Target with a mask.
        threshold: Least probability of a predicted cell. Default: the target's threshold.
        per_sample: Whether to average the metric over samples instead of pooling all cells. Default: False.
    """
    return _event(target, "far", "false_alarm_ratio", threshold, per_sample, "low")


def pofd(target: Target, threshold: float | None = None, per_sample: bool = False) -> Metric:
    """Compute the probability of false detection (POFD), 0 (best) to 1.

    See `geovision.metrics.functional.contingency.Contingency.probability_of_false_detection`.

    Args:
        target: Target with a mask.
        threshold: Least probability of a predicted cell. Default: the target's threshold.
        per_sample: Whether to average the metric over samples instead of pooling all cells. Default: False.
    """
    return _event(target, "pofd", "probability_of_false_detection", threshold, per_sample, "low")


def f1(target: Target, threshold: float | None = None, per_sample: bool = False) -> Metric:
    """Compute the F1 score, or Dice coefficient, of the cells, 0 to 1 (best).

    See `geovision.metrics.functional.contingency.Contingency.f1`.

    Args:
        target: Target with a mask.
        threshold: Least probability of a predicted cell. Default: the target's threshold.
        per_sample: Whether to average the metric over samples instead of pooling all cells. Default: False.
    """
    return _event(target, "f1", "f1", threshold, per_sample)


def hss(target: Target, threshold: float | None = None, per_sample: bool = False) -> Metric:
    """Compute the Heidke skill score (HSS), -1 to 1 (best).

    See `geovision.metrics.functional.contingency.Contingency.heidke_skill_score`.

    Args:
        target: Target with a mask.
        threshold: Least probability of a predicted cell. Default: the target's threshold.
        per_sample: Whether to average the metric over samples instead of pooling all cells. Default: False.
    """
    return _event(target, "hss", "heidke_skill_score", threshold, per_sample)


def ets(target: Target, threshold: float | None = None, per_sample: bool = False) -> Metric:
    """Compute the equitable threat score (ETS), -1/3 to 1 (best).

    See `geovision.metrics.functional.contingency.Contingency.equitable_threat_score`.

    Args:
        target: Target with a mask.
        threshold: Least probability of a predicted cell. Default: the target's threshold.
        per_sample: Whether to average the metric over samples instead of pooling all cells. Default: False.
    """
    return _event(target, "ets", "equitable_threat_score", threshold, per_sample)


def sedi(target: Target, threshold: float | None = None, per_sample: bool = False) -> Metric:
    """Compute the symmetric extremal dependence index (SEDI), -1 to 1 (best).

    See `geovision.metrics.functional.contingency.Contingency.symmetric_extremal_dependence_index`.

    Args:
        target: Target with a mask.
        threshold: Least probability of a predicted cell. Default: the target's threshold.
        per_sample: Whether to average the metric over samples instead of pooling all cells. Default: False.
    """
    return _event(target, "sedi", "symmetric_extremal_dependence_index", threshold, per_sample)


def frequency_bias(target: Target, threshold: float | None = None, per_sample: bool = False) -> Metric:
    """Compute the frequency bias of the cells; 1 is best.

    See `geovision.metrics.functional.contingency.Contingency.frequency_bias`.

    Args:
        target: Target with a mask.
        threshold: Least probability of a predicted cell. Default: the target's threshold.
        per_sample: Whether to average the metric over samples instead of pooling all cells. Default: False.
    """
    return _event(target, "frequency_bias", "frequency_bias", threshold, per_sample, "one")


class MaskContingency(MaskEvent):
    """Contingency table of the cells."""

    higher_is_better = None  # type: ignore[assignment]  # a table has no direction

    def from_sums(self, sums: Tensor) -> Tensor:
        return sums


def contingency(target: Target, threshold: float | None = None) -> Metric:
    """Compute the contingency table of the cells, shape (4,).

    Numbers of hits, false alarms, misses and correct negatives.

    Args:
        target: Target with a mask.
        threshold: Least probability of a predicted cell. Default: the target's threshold.
    """
    return MaskContingency("", _threshold(target, "contingency", threshold))


class MaskFractionsSkillScore(SummedMetric):
    """Fractions skill score of a mask at a probability threshold.

    Args:
        threshold: Least probability of a predicted cell.
        scale: Side of the square window, in cells.

    Raises:
        OptionError: `scale` is below 1.
    """

    higher_is_better = True
    num_sums = 2

    def __init__(self, threshold: float, scale: int) -> None:
        super().__init__()
        if scale < 1:
            raise OptionError(f"scale={scale}; expected 1 cell or more")
        self.threshold, self.scale = threshold, scale

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        _, t, mask = mask_pair(prediction, truth)
        predicted = neighborhood_fractions((prediction >= self.threshold) & mask, self.scale)
        observed = neighborhood_fractions((t >= 0.5) & mask, self.scale)
        return torch.stack(
            [(predicted - observed).square().sum(), predicted.square().sum() + observed.square().sum()]
        )

    def from_sums(self, sums: Tensor) -> Tensor:
        return 1 - sums[0] / sums[1]


def fss(target: Target, scale: int, threshold: float | None = None) -> Metric:
    """Compute the fractions skill score (FSS) of the mask, 0 to 1 (best).

    See `geovision.metrics.functional.neighborhood.fss`.

    Args:
        target: Target with a mask.
        scale: Side of the square window, in cells.
        threshold: Least probability of a predicted cell. Default: the target's threshold.
    """
    return MaskFractionsSkillScore(_threshold(target, "fss", threshold), scale)


# --- probabilities ------------------------------------------------------------------------------


class MaskProbabilityHistogram(SummedMetric):
    """Histogram of the probabilities of cells without and with the event.

    The sums are: cells without the event in each of `PROBABILITY_BINS` bins, cells with the event in each
    bin, the sum of squared errors, and the number of cells.
    """

    num_sums = 2 * PROBABILITY_BINS + 2

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        p, t, mask = mask_pair(prediction, truth)
        at = (p * PROBABILITY_BINS).long().clamp(0, PROBABILITY_BINS - 1)
        with_event = t >= 0.5
        counts = [
            torch.bincount(at[cells & mask], minlength=PROBABILITY_BINS).to(p)
            for cells in (~with_event, with_event)
        ]
        error = torch.where(mask, (p - t).square(), torch.zeros_like(p)).sum()
        return torch.cat([*counts, torch.stack([error, mask.sum()])])

    def from_sums(self, sums: Tensor) -> Tensor:
        return sums


class MaskBrier(MaskProbabilityHistogram):
    """Brier score of the cells."""

    def from_sums(self, sums: Tensor) -> Tensor:
        return sums[-2] / sums[-1]


class MaskAveragePrecision(MaskProbabilityHistogram):
    """Average precision of the cells, from the histogram of probabilities."""

    higher_is_better = True

    def from_sums(self, sums: Tensor) -> Tensor:
        without_event, with_event = sums[:PROBABILITY_BINS], sums[PROBABILITY_BINS : 2 * PROBABILITY_BINS]
        hits, predicted = with_event.flip(0).cumsum(0), (with_event + without_event).flip(0).cumsum(0)
        # Average precision: increase of the recall by each bin, times the precision including it.
        precision = torch.where(predicted > 0, hits / predicted.clamp_min(1), torch.zeros_like(hits))
        return (precision * with_event.flip(0)).sum() / with_event.sum()


def probability_histogram(target: Target) -> Metric:
    """Count cells by probability, without and with the event, for figures.

    The result has shape (2 * PROBABILITY_BINS + 2,): cells without the event in each bin, cells with the
    event in each bin, the sum of squared errors, and the number of cells.

    Args:
        target: Target with a mask.
    """
    _threshold(target, "probability_histogram")
    return MaskProbabilityHistogram()


def brier(target: Target) -> Metric:
    """Compute the Brier score of the cells, 0 (best) to 1.

    ``BS = mean (p - o)^2`` of probability p and outcome o, 0 or 1.

    Args:
        target: Target with a mask.
    """
    _threshold(target, "brier")
    return MaskBrier()


def pr_auc(target: Target) -> Metric:
    """Compute the average precision of the cells, 0 to 1 (best).

    The sum over `PROBABILITY_BINS` thresholds of the increase of recall times the precision; chance is the
    base rate.

    Args:
        target: Target with a mask.
    """
    _threshold(target, "pr_auc")
    return MaskAveragePrecision()


class BrierSkillScore(SummedMetric):
    """Brier skill score against the event frequency.

    ``1 - BS / (f (1 - f))``, with the frequency f of the event in the same cells.
    """

    higher_is_better = True
    num_sums = 3

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        p, t, mask = mask_pair(prediction, truth)
        return torch.stack([(p - t).square().sum(), t.sum(), mask.sum()])

    def from_sums(self, sums: Tensor) -> Tensor:
        frequency = sums[1] / sums[2]
        return 1 - sums[0] / sums[2] / (frequency * (1 - frequency))


def brier_skill(target: Target) -> Metric:
    """Compute the Brier skill score of the cells, up to 1 (best).

    ``BSS = 1 - BS / (f (1 - f))`` with the Brier score BS and the frequency f of the event in the same cells.
    0 is no better than always predicting that frequency. NaN if the event occurs nowhere or everywhere.

    Args:
        target: Target with a mask.
    """
    _threshold(target, "brier_skill")
    return BrierSkillScore()


class ReliabilityCurve(NamedTuple):
    """Reliability of probabilities in bins of 0.1, shape (bin,) each.

    Attributes:
        forecast: Mean forecast probability of the bin, 0 to 1; NaN in an empty bin.
        observed: Observed frequency of the event in the bin, 0 to 1; NaN in an empty bin.
        counts: Number of cells in the bin.
    """

    forecast: Tensor
    observed: Tensor
    counts: Tensor


class MaskCalibrationError(SummedMetric):
    """Expected calibration error of the cells.

    The sums of each bin of probability are: cells, cells with the event, and sum of probabilities.
    """

    num_sums = 3 * RELIABILITY_BINS

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        p, t, mask = mask_pair(prediction, truth)
        forecast, observed = p[mask], t[mask]
        at = (forecast * RELIABILITY_BINS).long().clamp(0, RELIABILITY_BINS - 1)
        weights = (torch.ones_like(forecast), observed, forecast)
        return torch.cat([torch.bincount(at, each, minlength=RELIABILITY_BINS) for each in weights])

    def from_sums(self, sums: Tensor) -> Tensor:
        """Return the mean over cells of |forecast - observed frequency| of their bin."""
        cells, observed, forecast = sums.view(3, RELIABILITY_BINS)
        error: Tensor = (observed - forecast).abs().sum() / cells.sum()
        return error


class ReliabilityTable(MaskCalibrationError):
    """Sums of the reliability curve."""

    higher_is_better = None  # type: ignore[assignment]  # a table has no direction

    def from_sums(self, sums: Tensor) -> Tensor:
        return sums.view(3, RELIABILITY_BINS)


def reliability(target: Target) -> Metric:
    """Compute the sums of the reliability curve, shape (3, bin).

    The rows are: cells, cells with the event, and sum of probabilities, in bins of 0.1 of probability; see
    `reliability_from_sums`.

    Args:
        target: Target with a mask.
    """
    _threshold(target, "reliability")
    return ReliabilityTable()


def reliability_from_sums(sums: Tensor) -> ReliabilityCurve:
    """Return the reliability curve from the sums of `reliability`.

    Args:
        sums: Sums, shape (3, bin).
    """
    cells, observed, forecast = sums
    return ReliabilityCurve(forecast / cells, observed / cells, cells)


def reliability_curve(probability: Tensor, truth: Tensor) -> ReliabilityCurve:
    """Compute the reliability curve of probabilities.

    Args:
        probability: Probability of the event, 0 to 1, any shape; NaN where missing.
        truth: Target, 0 or 1, same shape; NaN where missing.
    """
    return reliability_from_sums(
        MaskCalibrationError().batch_sums(probability, truth).view(3, RELIABILITY_BINS)
    )


def calibration_error(target: Target) -> Metric:
    """Compute the expected calibration error of the cells, 0 (best) to 1.

    ``ECE = sum_b n_b / n |observed frequency_b - mean probability_b|`` over bins of 0.1, with n_b of the n
    cells in bin b. For a rare event it is small for any prediction with mostly low probabilities; inspect
    `reliability` with its counts as well.

    Args:
        target: Target with a mask.
    """
    _threshold(target, "calibration_error")
    return MaskCalibrationError()


# --- objects ------------------------------------------------------------------------------------


class ObjectDetectionProbability(SummedMetric):
    """Fraction of observed objects that are detected, over all masks.

    The sums are those of `geovision.metrics.functional.objects.match_objects`. Missing cells contain no
    objects.

    Args:
        threshold: Least probability of a predicted cell.
        max_distance: Largest distance between two matching objects, in cells.
    """

    higher_is_better = True
    num_sums = 5

    def __init__(self, threshold: float, max_distance: float) -> None:
        super().__init__()
        self.threshold, self.max_distance = threshold, max_distance

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        _, t, mask = mask_pair(prediction, truth)
        predicted = ((prediction >= self.threshold) & mask).flatten(0, -3).cpu().numpy()
        observed = ((t >= 0.5) & mask).flatten(0, -3).cpu().numpy()
        sums = torch.zeros(self.num_sums, dtype=torch.float64, device=t.device)
        for each_predicted, each_observed in zip(predicted, observed, strict=True):
            hits = match_objects(each_predicted, each_observed, self.max_distance)
            sums += sums.new_tensor(
                [hits.observed, hits.hits, hits.predicted, hits.false_alarms, hits.distance]
            )
        return sums

    def from_sums(self, sums: Tensor) -> Tensor:
        return sums[1] / sums[0]


class ObjectFalseAlarmRatio(ObjectDetectionProbability):
    """Fraction of predicted objects without an observed object within the distance."""

    higher_is_better = False

    def from_sums(self, sums: Tensor) -> Tensor:
        return sums[3] / sums[2]


class ObjectDistance(ObjectDetectionProbability):
    """Mean distance from detected objects to the prediction, in cells."""

    higher_is_better = False

    def from_sums(self, sums: Tensor) -> Tensor:
        return sums[4] / sums[1]


def object_pod(target: Target, threshold: float | None = None, max_distance: float = MAX_DISTANCE) -> Metric:
    """Compute the fraction of observed objects that are detected, 0 to 1 (best).

    An object is a connected area with the event. It is detected if a predicted cell is within the distance.

    Args:
        target: Target with a mask.
        threshold: Least probability of a predicted cell. Default: the target's threshold.
        max_distance: Largest distance between the two areas, in cells.
    """
    return ObjectDetectionProbability(_threshold(target, "object_pod", threshold), max_distance)


def object_far(target: Target, threshold: float | None = None, max_distance: float = MAX_DISTANCE) -> Metric:
    """Compute the fraction of predicted objects that are false, 0 (best) to 1.

    An object is a connected predicted area. It is false if no cell with the event is within the distance.

    Args:
        target: Target with a mask.
        threshold: Least probability of a predicted cell. Default: the target's threshold.
        max_distance: Largest distance between the two areas, in cells.
    """
    return ObjectFalseAlarmRatio(_threshold(target, "object_far", threshold), max_distance)


def object_distance(
    target: Target, threshold: float | None = None, max_distance: float = MAX_DISTANCE
) -> Metric:
    """Compute the mean distance of detected objects, in cells; 0 is best.

    Mean over detected objects of the least distance to the prediction; 0 where they overlap.

    Args:
        target: Target with a mask.
        threshold: Least probability of a predicted cell. Default: the target's threshold.
        max_distance: Largest distance between the two areas, in cells.
    """
    return ObjectDistance(_threshold(target, "object_distance", threshold), max_distance)
