"""Further scores of masks by name: rare events, scales, skill and reliability of probabilities, objects.

As in `geovision.metrics.field_metrics`: ``metric(probability, truth)`` with ``(sample, 1, y, x)``, NaN where
missing. Scores are pooled over all cells unless they say ``per_sample``: that is the mean over samples of the
score of each, so that a small storm counts as much as a large one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from geovision.metrics import NotApplicable
from geovision.metrics._masked import paired
from geovision.metrics.field_metrics import MaskEvent, MaskEventError, MaskFractions
from geovision.metrics.functional.contingency import Contingency, contingency_of_events
from geovision.metrics.functional.objects import object_hits
from geovision.metrics.regression import FieldScore
from geovision.spec import MaskTarget, Target

__all__ = [
    "REACH", "TENTHS", "Reliability", "csi_per_sample", "far_per_sample", "mask_brier_skill",
    "mask_calibration_error", "mask_contingency", "mask_f1_per_sample", "mask_fss_1", "mask_fss_11",
    "mask_fss_21", "mask_fss_41", "mask_reliability", "object_distance", "object_far", "object_pod",
    "pod_per_sample", "pofd", "reliability", "reliability_of", "sedi",
]  # fmt: skip

TENTHS = 10
"""Bins of probability in reliability."""

REACH = 5.0
"""Cells within which an object counts as found: about 5 km on a grid of 0.01 degree. Our choice."""


def _threshold(target: Target, name: str) -> float:
    if not isinstance(target, MaskTarget):
        raise NotApplicable(f"metric {name!r} scores masks, not a {target.kind}")
    return target.threshold


# --- yes and no, rare events, scales ---------------------------------------------------------------


class MaskContingency(MaskEvent):
    higher_is_better = None  # type: ignore[assignment]  # a table has no better

    def score(self, sums: Tensor) -> Tensor:
        return sums


def mask_contingency(target: Target) -> Metric:
    """Cells by what was said and what was there ``(4,)``: hits, false alarms, misses, correct negatives."""
    return MaskContingency("", _threshold(target, "mask_contingency"))


def pofd(target: Target) -> Metric:
    """Probability of false detection, 0-1: the part of the cells without the event that was said to have
    it. Not the false alarm ratio, which is ``far``."""
    return MaskEventError("probability_of_false_detection", _threshold(target, "pofd"))


def sedi(target: Target) -> Metric:
    """Symmetric extremal dependence index, -1 to 1, which does not fade for rare events."""
    return MaskEvent("symmetric_extremal_dependence_index", _threshold(target, "sedi"))


def mask_fss_1(target: Target) -> Metric:
    """Fractions skill score of the mask cell by cell, 0-1."""
    return MaskFractions(_threshold(target, "mask_fss_1"), 1)


def mask_fss_11(target: Target) -> Metric:
    """Fractions skill score of the mask in windows of 11 x 11 cells, 0-1."""
    return MaskFractions(_threshold(target, "mask_fss_11"), 11)


def mask_fss_21(target: Target) -> Metric:
    """Fractions skill score of the mask in windows of 21 x 21 cells, 0-1."""
    return MaskFractions(_threshold(target, "mask_fss_21"), 21)


def mask_fss_41(target: Target) -> Metric:
    """Fractions skill score of the mask in windows of 41 x 41 cells, 0-1."""
    return MaskFractions(_threshold(target, "mask_fss_41"), 41)


# --- probabilities --------------------------------------------------------------------------------


class BrierSkill(FieldScore):
    """``1 - BS / (f (1 - f))``, with the frequency f of the event in these very cells."""

    higher_is_better = True
    number = 3

    def of_batch(self, prediction: Tensor, truth: Tensor) -> Tensor:
        p, t, there = paired(prediction, truth)
        return torch.stack([(p - t).square().sum(), t.sum(), there.sum()])

    def score(self, sums: Tensor) -> Tensor:
        frequency = sums[1] / sums[2]
        return 1 - sums[0] / sums[2] / (frequency * (1 - frequency))


def mask_brier_skill(target: Target) -> Metric:
    """Brier skill score over the frequency of the event in the cells that are scored, up to 1; 0 is no better
    than always saying that frequency. NaN where the event is nowhere or everywhere."""
    _threshold(target, "mask_brier_skill")
    return BrierSkill()


class Reliability(NamedTuple):
    """By tenths of probability, ``(bin,)``: the mean of what was said, how often it happened, how many cells;
    NaN where nothing was said."""

    said: Tensor
    happened: Tensor
    cells: Tensor


class ReliabilitySums(FieldScore):
    """Of each tenth the cells, those with the event, and the sum of what was said."""

    number = 3 * TENTHS

    def of_batch(self, prediction: Tensor, truth: Tensor) -> Tensor:
        p, t, there = paired(prediction, truth)
        said, happened = p[there], t[there]
        at = (said * TENTHS).long().clamp(0, TENTHS - 1)
        weights = (torch.ones_like(said), happened, said)
        return torch.cat([torch.bincount(at, each, minlength=TENTHS) for each in weights])

    def score(self, sums: Tensor) -> Tensor:
        """Mean over cells of the difference between what a tenth says and how often it happens."""
        cells, happened, said = sums.view(3, TENTHS)
        return (happened - said).abs().sum() / cells.sum()


class ReliabilityTable(ReliabilitySums):
    higher_is_better = None  # type: ignore[assignment]  # a table has no better

    def score(self, sums: Tensor) -> Tensor:
        return sums.view(3, TENTHS)


def mask_reliability(target: Target) -> Metric:
    """By tenths of probability ``(3, bin)``: cells, those with the event, and the sum of what was said of
    them; see `reliability_of`."""
    _threshold(target, "mask_reliability")
    return ReliabilityTable()


def reliability_of(sums: Tensor) -> Reliability:
    """What happened when something was said, from the sums of `mask_reliability`."""
    cells, happened, said = sums
    return Reliability(said / cells, happened / cells, cells)


def reliability(probability: Tensor, truth: Tensor) -> Reliability:
    """What happened when something was said.

    Args:
        probability, truth: Of one shape; cells that are NaN in either do not count.
    """
    return reliability_of(ReliabilitySums().of_batch(probability, truth).view(3, TENTHS))


def mask_calibration_error(target: Target) -> Metric:
    """Expected calibration error of the cells, 0-1, over tenths of probability. Where the event is rare it is
    small for any answer that is mostly no; look at the reliability with its counts too."""
    _threshold(target, "mask_calibration_error")
    return ReliabilitySums()


# --- objects --------------------------------------------------------------------------------------


class ObjectScore(FieldScore):
    """Sums of `object_hits` over all masks; what is missing has no objects."""

    higher_is_better = True
    number = 5

    def __init__(self, threshold: float, reach: float) -> None:
        super().__init__()
        self.threshold, self.reach = threshold, reach

    def of_batch(self, prediction: Tensor, truth: Tensor) -> Tensor:
        _, t, there = paired(prediction, truth)
        said = ((prediction >= self.threshold) & there).flatten(0, -3).cpu().numpy()
        seen = ((t >= 0.5) & there).flatten(0, -3).cpu().numpy()
        sums = torch.zeros(self.number, dtype=torch.float64, device=t.device)
        for one, other in zip(said, seen, strict=True):
            hits = object_hits(one, other, self.reach)
            sums += sums.new_tensor([hits.seen, hits.found, hits.said, hits.false, hits.distance])
        return sums

    def score(self, sums: Tensor) -> Tensor:
        return sums[1] / sums[0]


class ObjectFalse(ObjectScore):
    higher_is_better = False

    def score(self, sums: Tensor) -> Tensor:
        return sums[3] / sums[2]


class ObjectDistance(ObjectScore):
    higher_is_better = False

    def score(self, sums: Tensor) -> Tensor:
        return sums[4] / sums[1]


def object_pod(target: Target) -> Metric:
    """The part of the connected areas with the event within 5 cells of which it was said, 0-1."""
    return ObjectScore(_threshold(target, "object_pod"), REACH)


def object_far(target: Target) -> Metric:
    """The part of the connected areas that were said within 5 cells of which it was nowhere, 0-1."""
    return ObjectFalse(_threshold(target, "object_far"), REACH)


def object_distance(target: Target) -> Metric:
    """Mean distance from the connected areas that were found to what was said, cells; 0: they overlap."""
    return ObjectDistance(_threshold(target, "object_distance"), REACH)


# --- sample by sample -----------------------------------------------------------------------------


class PerSample(FieldScore):
    """Mean over samples of a property of the table of each; those in which it is undefined, as without an
    event in either, do not count."""

    higher_is_better = True
    number = 2

    def __init__(self, name: str, threshold: float) -> None:
        super().__init__()
        self.name, self.threshold = name, threshold

    def of_batch(self, prediction: Tensor, truth: Tensor) -> Tensor:
        _, t, there = paired(prediction, truth)
        tables: list[Contingency] = [
            contingency_of_events(said, seen >= 0.5, counts)
            for said, seen, counts in zip(prediction >= self.threshold, t, there, strict=True)
        ]
        scores = torch.stack([getattr(table, self.name) for table in tables])
        known = torch.isfinite(scores)
        return torch.stack([scores[known].sum(), known.sum()])

    def score(self, sums: Tensor) -> Tensor:
        return sums[0] / sums[1]


def csi_per_sample(target: Target) -> Metric:
    """Mean over samples of the critical success index of each, 0-1; samples without hits, misses and false
    alarms do not count."""
    return PerSample("critical_success_index", _threshold(target, "csi_per_sample"))


def mask_f1_per_sample(target: Target) -> Metric:
    """Mean over samples of the F1 of each, 0-1; those without hits, misses and false alarms do not count."""
    return PerSample("f1", _threshold(target, "mask_f1_per_sample"))


def pod_per_sample(target: Target) -> Metric:
    """Mean over samples of the probability of detection of each, 0-1; without the event, one does not
    count."""
    return PerSample("probability_of_detection", _threshold(target, "pod_per_sample"))


class PerSampleError(PerSample):
    higher_is_better = False


def far_per_sample(target: Target) -> Metric:
    """Mean over samples of the false alarm ratio of each, 0-1; where nothing was said, one does not count."""
    return PerSampleError("false_alarm_ratio", _threshold(target, "far_per_sample"))
