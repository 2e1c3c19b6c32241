"""Scores of the one class that is looked for: whether it is found where it is, and only there.

All take probabilities ``(sample, class)`` and labels ``(sample,)``, and need a target that names its
`positive` class. An answer is positive where that class is the likeliest one. What is undefined, for
want of a positive sample or answer, is NaN.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import (
    BinaryAUROC,
    BinaryAveragePrecision,
    BinaryF1Score,
    BinaryPrecision,
    BinaryRecall,
)
from torchmetrics.utilities import dim_zero_cat

from geovision.metrics import NotApplicable
from geovision.metrics.classification import class_target
from geovision.spec import Target

__all__ = [
    "errors",
    "false_alarms",
    "missed",
    "positive_f1",
    "positive_precision",
    "positive_recall",
    "pr_auc",
    "roc_auc",
]

# torchmetrics fills an undefined ratio with any number, but its check of arguments allows 0 and 1 only.
_UNDEFINED = math.nan


def _positive(target: Target, metric: str) -> int:
    """Column of the class that is looked for."""
    classes = class_target(target, metric)
    if not classes.positive:
        raise NotApplicable(f"metric {metric!r} needs a target that names its positive class")
    return classes.classes.index(classes.positive)


# --- of the answers -----------------------------------------------------------------------------


class _BinaryDecision:
    """Turns answers into yes or no before a binary metric sees them."""

    column: int

    def _binary(self, preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return (preds.argmax(dim=1) == self.column).long(), (target == self.column).long()


class PositiveF1(_BinaryDecision, BinaryF1Score):
    """F1 of one column."""

    def __init__(self, column: int) -> None:
        super().__init__(zero_division=_UNDEFINED, validate_args=False)
        self.column = column

    def update(self, preds: Tensor, target: Tensor) -> None:
        super().update(*self._binary(preds, target))


class PositivePrecision(_BinaryDecision, BinaryPrecision):
    """Precision of one column."""

    def __init__(self, column: int) -> None:
        super().__init__(zero_division=_UNDEFINED, validate_args=False)
        self.column = column

    def update(self, preds: Tensor, target: Tensor) -> None:
        super().update(*self._binary(preds, target))


class PositiveRecall(_BinaryDecision, BinaryRecall):
    """Recall of one column."""

    def __init__(self, column: int) -> None:
        super().__init__(zero_division=_UNDEFINED, validate_args=False)
        self.column = column

    def update(self, preds: Tensor, target: Tensor) -> None:
        super().update(*self._binary(preds, target))


def positive_f1(target: Target) -> Metric:
    """2 TP / (2 TP + FP + FN) of the positive class, 0-1."""
    return PositiveF1(_positive(target, "positive_f1"))


def positive_precision(target: Target) -> Metric:
    """TP / (TP + FP) of the positive class, 0-1: how many alarms are right."""
    return PositivePrecision(_positive(target, "positive_precision"))


def positive_recall(target: Target) -> Metric:
    """TP / (TP + FN) of the positive class, 0-1: how many of those that are there are found."""
    return PositiveRecall(_positive(target, "positive_recall"))


# --- of the probabilities -----------------------------------------------------------------------


class PositiveAveragePrecision(BinaryAveragePrecision):
    """Average precision of the probability of one column."""

    def __init__(self, column: int) -> None:
        super().__init__(validate_args=False)
        self.column = column

    def update(self, preds: Tensor, target: Tensor) -> None:
        # As logits they would be squashed once more: rounding can carry a probability beyond 1.
        super().update(preds[:, self.column].clamp(0, 1), (target == self.column).long())

    def compute(self) -> Tensor:  # type: ignore[override]
        truth = dim_zero_cat(self.target)
        return super().compute() if truth.any() else torch.tensor(_UNDEFINED, device=truth.device)


class PositiveAUROC(BinaryAUROC):
    """Area under the curve of hits over false alarms, by the probability of one column."""

    def __init__(self, column: int) -> None:
        super().__init__(validate_args=False)
        self.column = column

    def update(self, preds: Tensor, target: Tensor) -> None:
        super().update(preds[:, self.column].clamp(0, 1), (target == self.column).long())

    def compute(self) -> Tensor:  # type: ignore[override]
        truth = dim_zero_cat(self.target)
        both = truth.any() and not truth.all()
        return super().compute() if both else torch.tensor(_UNDEFINED, device=truth.device)


def pr_auc(target: Target) -> Metric:
    """Area under precision over recall of the positive class, 0-1, as average precision: each step of
    recall times the precision there, without interpolation (Davis and Goadrich 2006)."""
    return PositiveAveragePrecision(_positive(target, "pr_auc"))


def roc_auc(target: Target) -> Metric:
    """Probability that a positive sample is given a higher probability than a negative one, 0-1."""
    return PositiveAUROC(_positive(target, "roc_auc"))


# --- counts -------------------------------------------------------------------------------------


class _Count(Metric):
    """How many samples `is_counted` says yes to."""

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    total: Tensor

    def __init__(self, column: int = -1) -> None:
        super().__init__()
        self.column = column
        self.add_state("total", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def is_counted(self, predicted: Tensor, labels: Tensor) -> Tensor:
        raise NotImplementedError

    def update(self, preds: Tensor, target: Tensor) -> None:
        self.total += self.is_counted(preds.argmax(dim=1), target).sum()

    def compute(self) -> Tensor:
        return self.total.float()


class Errors(_Count):
    """Answers that are not the label."""

    def is_counted(self, predicted: Tensor, labels: Tensor) -> Tensor:
        return predicted != labels


class MissedDetections(_Count):
    """Positive samples that another class was said of."""

    def is_counted(self, predicted: Tensor, labels: Tensor) -> Tensor:
        return (labels == self.column) & (predicted != self.column)


class FalseAlarms(_Count):
    """Positive answers about samples of another class."""

    def is_counted(self, predicted: Tensor, labels: Tensor) -> Tensor:
        return (labels != self.column) & (predicted == self.column)


def errors(target: Target) -> Metric:
    """Number of samples whose likeliest class is not the true one."""
    class_target(target, "errors")
    return Errors()


def missed(target: Target) -> Metric:
    """Number of samples of the positive class that were not found."""
    return MissedDetections(_positive(target, "missed"))


def false_alarms(target: Target) -> Metric:
    """Number of samples of other classes that were taken for the positive one."""
    return FalseAlarms(_positive(target, "false_alarms"))
