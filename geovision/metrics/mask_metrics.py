"""Metrics of masks: events, scales, probabilities and objects.

Called as ``metric(probability, truth)``, both of shape (sample, 1, y, x), NaN where missing: the probability
of the event, 0 to 1, and 0 or 1. Metrics are pooled over all cells. With ``per_sample=True`` they are the
mean over samples of the metric of each sample, so that a small event weighs as much as a large one.

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
"""Bins of probability in `probability_histogram`."""

RELIABILITY_BINS = 10
"""Bins of probability in `reliability`."""

MAX_DISTANCE = 5.0
"""Default distance within which an object counts as found, in cells. Our choice."""


def _threshold(target: Target, name: str, threshold: float | None = None) -> float:
    if not isinstance(target, MaskTarget):
        raise NotApplicable(f"metric {name!r} is defined for a mask, not for a {target.kind}")
    return target.threshold if threshold is None else threshold


# --- events ---------------------------------------------------------------------------------------


class MaskEvent(SummedMetric):
    """A property of the table of yes and no at the target's threshold."""

    higher_is_better = True

    def __init__(self, name: str, threshold: float) -> None:
        super().__init__()
        self.name, self.threshold = name, threshold

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        # Compared before they become doubles, as `MaskPrediction.mask` does.
        said = prediction >= self.threshold
        _, t, there = mask_pair(prediction, truth)
        table = event_contingency(said, t >= 0.5, there)
        return torch.stack([table.hits, table.false_alarms, table.misses, table.correct_negatives])

    def from_sums(self, sums: Tensor) -> Tensor:
        return getattr(Contingency(*sums), self.name)


class MaskEventError(MaskEvent):
    higher_is_better = False


class MaskEventRatio(MaskEvent):
    higher_is_better = None  # type: ignore[assignment]  # 1 is best


class PerSampleMaskEvent(SummedMetric):
    """Mean over samples of a property of the table of each; those in which it is undefined, as without an
    event in either, do not count."""

    higher_is_better = True
    num_sums = 2

    def __init__(self, name: str, threshold: float) -> None:
        super().__init__()
        self.name, self.threshold = name, threshold

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        _, t, there = mask_pair(prediction, truth)
        tables: list[Contingency] = [
            event_contingency(said, seen >= 0.5, counts)
            for said, seen, counts in zip(prediction >= self.threshold, t, there, strict=True)
        ]
        scores = torch.stack([getattr(table, self.name) for table in tables])
        known = torch.isfinite(scores)
        return torch.stack([scores[known].sum(), known.sum()])

    def from_sums(self, sums: Tensor) -> Tensor:
        return sums[0] / sums[1]


class PerSampleMaskEventError(PerSampleMaskEvent):
    higher_is_better = False


class PerSampleMaskEventRatio(PerSampleMaskEvent):
    higher_is_better = None  # type: ignore[assignment]  # 1 is best


def _event(
    target: Target, name: str, score: str, threshold: float | None, per_sample: bool, better: str = "high"
) -> Metric:
    at = _threshold(target, name, threshold)
    pooled = {"high": MaskEvent, "low": MaskEventError, "one": MaskEventRatio}
    single = {"high": PerSampleMaskEvent, "low": PerSampleMaskEventError, "one": PerSampleMaskEventRatio}
    return single[better](score, at) if per_sample else pooled[better](score, at)


def csi(target: Target, threshold: float | None = None, per_sample: bool = False) -> Metric:
    """Critical success index, 0 to 1: hits over hits, misses and false alarms; also the IoU."""
    return _event(target, "csi", "critical_success_index", threshold, per_sample)


def pod(target: Target, threshold: float | None = None, per_sample: bool = False) -> Metric:
    """Probability of detection, 0 to 1: fraction of the cells with the event that were predicted."""
    return _event(target, "pod", "probability_of_detection", threshold, per_sample)


def far(target: Target, threshold: float | None = None, per_sample: bool = False) -> Metric:
    """False alarm ratio, 0 to 1: fraction of the predicted cells without the event."""
    return _event(target, "far", "false_alarm_ratio", threshold, per_sample, "low")


def pofd(target: Target, threshold: float | None = None, per_sample: bool = False) -> Metric:
    """Probability of false detection, 0 to 1: fraction of the cells without the event that were predicted."""
    return _event(target, "pofd", "probability_of_false_detection", threshold, per_sample, "low")


def f1(target: Target, threshold: float | None = None, per_sample: bool = False) -> Metric:
    """F1 of the cells, 0 to 1; also the Dice coefficient."""
    return _event(target, "f1", "f1", threshold, per_sample)


def hss(target: Target, threshold: float | None = None, per_sample: bool = False) -> Metric:
    """Heidke skill score, -1 to 1: accuracy beyond that of chance."""
    return _event(target, "hss", "heidke_skill_score", threshold, per_sample)


def ets(target: Target, threshold: float | None = None, per_sample: bool = False) -> Metric:
    """Equitable threat score, -1/3 to 1: critical success index beyond that of chance."""
    return _event(target, "ets", "equitable_threat_score", threshold, per_sample)


def sedi(target: Target, threshold: float | None = None, per_sample: bool = False) -> Metric:
    """Symmetric extremal dependence index, -1 to 1; informative for rare events as well."""
    return _event(target, "sedi", "symmetric_extremal_dependence_index", threshold, per_sample)


def frequency_bias(target: Target, threshold: float | None = None, per_sample: bool = False) -> Metric:
    """Predicted cells over cells with the event; above 1 the event is predicted too often."""
    return _event(target, "frequency_bias", "frequency_bias", threshold, per_sample, "one")


class MaskContingency(MaskEvent):
    higher_is_better = None  # type: ignore[assignment]  # a table has no better

    def from_sums(self, sums: Tensor) -> Tensor:
        return sums


def contingency(target: Target, threshold: float | None = None) -> Metric:
    """Contingency table of the cells, shape (4,): hits, false alarms, misses, correct negatives."""
    return MaskContingency("", _threshold(target, "contingency", threshold))


class MaskFractionsSkillScore(SummedMetric):
    """`fractions` skill of yes at the target's threshold."""

    higher_is_better = True
    num_sums = 2

    def __init__(self, threshold: float, scale: int) -> None:
        super().__init__()
        if scale < 1:
            raise OptionError(f"scale={scale}: expected 1 cell or more")
        self.threshold, self.scale = threshold, scale

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        _, t, there = mask_pair(prediction, truth)
        said = neighborhood_fractions((prediction >= self.threshold) & there, self.scale)
        seen = neighborhood_fractions((t >= 0.5) & there, self.scale)
        return torch.stack([(said - seen).square().sum(), said.square().sum() + seen.square().sum()])

    def from_sums(self, sums: Tensor) -> Tensor:
        return 1 - sums[0] / sums[1]


def fss(target: Target, scale: int, threshold: float | None = None) -> Metric:
    """Fractions skill score of the mask, 0 to 1.

    Args:
        target: A mask.
        scale: Side of the square window, in cells.
        threshold: Probability from which a cell counts as predicted. Default: the target's.
    """
    return MaskFractionsSkillScore(_threshold(target, "fss", threshold), scale)


# --- probabilities --------------------------------------------------------------------------------


class MaskProbabilityHistogram(SummedMetric):
    """Cells without and with the event in `PROBABILITY_BINS` bins of probability: (no ``(bin,)``, yes
    ``(bin,)``, squared error, cells)."""

    num_sums = 2 * PROBABILITY_BINS + 2

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        p, t, there = mask_pair(prediction, truth)
        at = (p * PROBABILITY_BINS).long().clamp(0, PROBABILITY_BINS - 1)
        yes = t >= 0.5
        counts = [
            torch.bincount(at[cells & there], minlength=PROBABILITY_BINS).to(p) for cells in (~yes, yes)
        ]
        error = torch.where(there, (p - t).square(), torch.zeros_like(p)).sum()
        return torch.cat([*counts, torch.stack([error, there.sum()])])

    def from_sums(self, sums: Tensor) -> Tensor:
        return sums


class MaskBrier(MaskProbabilityHistogram):
    def from_sums(self, sums: Tensor) -> Tensor:
        return sums[-2] / sums[-1]


class MaskAveragePrecision(MaskProbabilityHistogram):
    higher_is_better = True

    def from_sums(self, sums: Tensor) -> Tensor:
        no, yes = sums[:PROBABILITY_BINS], sums[PROBABILITY_BINS : 2 * PROBABILITY_BINS]
        hits, said = yes.flip(0).cumsum(0), (yes + no).flip(0).cumsum(0)
        # Average precision: what a further bin adds to the recall, times the precision with it.
        precision = torch.where(said > 0, hits / said.clamp_min(1), torch.zeros_like(hits))
        return (precision * yes.flip(0)).sum() / yes.sum()


def probability_histogram(target: Target) -> Metric:
    """Counts of cells without and with the event in `PROBABILITY_BINS` bins of probability, for figures."""
    _threshold(target, "probability_histogram")
    return MaskProbabilityHistogram()


def brier(target: Target) -> Metric:
    """Brier score of the cells, 0 (best) to 1: mean squared difference of probability and outcome."""
    _threshold(target, "brier")
    return MaskBrier()


def pr_auc(target: Target) -> Metric:
    """Average precision of the cells over `PROBABILITY_BINS` thresholds, 0 to 1; chance is the base rate."""
    _threshold(target, "pr_auc")
    return MaskAveragePrecision()


class BrierSkillScore(SummedMetric):
    """``1 - BS / (f (1 - f))``, with the frequency f of the event in these very cells."""

    higher_is_better = True
    num_sums = 3

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        p, t, there = mask_pair(prediction, truth)
        return torch.stack([(p - t).square().sum(), t.sum(), there.sum()])

    def from_sums(self, sums: Tensor) -> Tensor:
        frequency = sums[1] / sums[2]
        return 1 - sums[0] / sums[2] / (frequency * (1 - frequency))


def brier_skill(target: Target) -> Metric:
    """Brier skill score over the frequency of the event in the cells that are scored, up to 1; 0 is no better
    than always saying that frequency. NaN where the event is nowhere or everywhere."""
    _threshold(target, "brier_skill")
    return BrierSkillScore()


class ReliabilityCurve(NamedTuple):
    """By tenths of probability, ``(bin,)``: the mean of what was said, how often it happened, how many cells;
    NaN where nothing was said."""

    forecast: Tensor
    observed: Tensor
    counts: Tensor


class MaskCalibrationError(SummedMetric):
    """Of each tenth the cells, those with the event, and the sum of what was said."""

    num_sums = 3 * RELIABILITY_BINS

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        p, t, there = mask_pair(prediction, truth)
        said, happened = p[there], t[there]
        at = (said * RELIABILITY_BINS).long().clamp(0, RELIABILITY_BINS - 1)
        weights = (torch.ones_like(said), happened, said)
        return torch.cat([torch.bincount(at, each, minlength=RELIABILITY_BINS) for each in weights])

    def from_sums(self, sums: Tensor) -> Tensor:
        """Mean over cells of the difference between what a tenth says and how often it happens."""
        cells, happened, said = sums.view(3, RELIABILITY_BINS)
        return (happened - said).abs().sum() / cells.sum()


class ReliabilityTable(MaskCalibrationError):
    higher_is_better = None  # type: ignore[assignment]  # a table has no better

    def from_sums(self, sums: Tensor) -> Tensor:
        return sums.view(3, RELIABILITY_BINS)


def reliability(target: Target) -> Metric:
    """By tenths of probability ``(3, bin)``: cells, those with the event, and the sum of what was said of
    them; see `reliability_from_sums`."""
    _threshold(target, "reliability")
    return ReliabilityTable()


def reliability_from_sums(sums: Tensor) -> ReliabilityCurve:
    """What happened when something was said, from the sums of `reliability`."""
    cells, happened, said = sums
    return ReliabilityCurve(said / cells, happened / cells, cells)


def reliability_curve(probability: Tensor, truth: Tensor) -> ReliabilityCurve:
    """What happened when something was said.

    Args:
        probability, truth: Of one shape; cells that are NaN in either do not count.
    """
    return reliability_from_sums(
        MaskCalibrationError().batch_sums(probability, truth).view(3, RELIABILITY_BINS)
    )


def calibration_error(target: Target) -> Metric:
    """Expected calibration error of the cells, 0-1, over tenths of probability. Where the event is rare it is
    small for any answer that is mostly no; look at the reliability with its counts too."""
    _threshold(target, "calibration_error")
    return MaskCalibrationError()


# --- objects --------------------------------------------------------------------------------------


class ObjectDetectionProbability(SummedMetric):
    """Sums of `object_hits` over all masks; what is missing has no objects."""

    higher_is_better = True
    num_sums = 5

    def __init__(self, threshold: float, max_distance: float) -> None:
        super().__init__()
        self.threshold, self.max_distance = threshold, max_distance

    def batch_sums(self, prediction: Tensor, truth: Tensor) -> Tensor:
        _, t, there = mask_pair(prediction, truth)
        said = ((prediction >= self.threshold) & there).flatten(0, -3).cpu().numpy()
        seen = ((t >= 0.5) & there).flatten(0, -3).cpu().numpy()
        sums = torch.zeros(self.num_sums, dtype=torch.float64, device=t.device)
        for one, other in zip(said, seen, strict=True):
            hits = match_objects(one, other, self.max_distance)
            sums += sums.new_tensor(
                [hits.observed, hits.hits, hits.predicted, hits.false_alarms, hits.distance]
            )
        return sums

    def from_sums(self, sums: Tensor) -> Tensor:
        return sums[1] / sums[0]


class ObjectFalseAlarmRatio(ObjectDetectionProbability):
    higher_is_better = False

    def from_sums(self, sums: Tensor) -> Tensor:
        return sums[3] / sums[2]


class ObjectDistance(ObjectDetectionProbability):
    higher_is_better = False

    def from_sums(self, sums: Tensor) -> Tensor:
        return sums[4] / sums[1]


def object_pod(target: Target, threshold: float | None = None, max_distance: float = MAX_DISTANCE) -> Metric:
    """Fraction of the connected areas with the event that were predicted within a distance, 0 to 1.

    Args:
        target: A mask.
        threshold: Probability from which a cell counts as predicted. Default: the target's.
        max_distance: Largest distance between the two areas, in cells.
    """
    return ObjectDetectionProbability(_threshold(target, "object_pod", threshold), max_distance)


def object_far(target: Target, threshold: float | None = None, max_distance: float = MAX_DISTANCE) -> Metric:
    """Fraction of the predicted connected areas without the event within a distance, 0 to 1.

    Args:
        target: A mask.
        threshold: Probability from which a cell counts as predicted. Default: the target's.
        max_distance: Largest distance between the two areas, in cells.
    """
    return ObjectFalseAlarmRatio(_threshold(target, "object_far", threshold), max_distance)


def object_distance(
    target: Target, threshold: float | None = None, max_distance: float = MAX_DISTANCE
) -> Metric:
    """Mean distance from found areas to the prediction, in cells; 0 where they overlap.

    Args:
        target: A mask.
        threshold: Probability from which a cell counts as predicted. Default: the target's.
        max_distance: Largest distance between the two areas, in cells.
    """
    return ObjectDistance(_threshold(target, "object_distance", threshold), max_distance)
