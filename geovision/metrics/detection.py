"""Metrics of one positive class among the classes of a target.

All metrics take probabilities, shape (sample, class), and labels, shape (sample,), and need a target with a
`positive` class. A prediction is positive if that class is the most probable one. TP, FP and FN are the
numbers of true positives, false positives and false negatives. Values that are undefined, because there is no
positive label or no positive prediction, are NaN.
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

# torchmetrics replaces an undefined ratio by any number, but its argument check allows only 0 and 1.
_UNDEFINED = math.nan


def _positive(target: Target, metric: str) -> int:
    """Return the column of the positive class."""
    classes = class_target(target, metric)
    if not classes.positive:
        raise NotApplicable(f"metric {metric!r} requires a target that names its positive class")
    return classes.classes.index(classes.positive)


# --- predicted classes --------------------------------------------------------------------------


class _BinaryDecision:
    """Mixin that converts predictions to positive or negative for a binary metric."""

    column: int

    def _binary(self, preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return (preds.argmax(dim=1) == self.column).long(), (target == self.column).long()


class PositiveF1(_BinaryDecision, BinaryF1Score):
    """F1 score of the positive class.

    Args:
        column: Column of the positive class.
    """

    def __init__(self, column: int) -> None:
        super().__init__(zero_division=_UNDEFINED, validate_args=False)
        self.column = column

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch of probabilities, shape (sample, class), and labels, shape (sample,)."""
        super().update(*self._binary(preds, target))


class PositivePrecision(_BinaryDecision, BinaryPrecision):
    """Precision of the positive class.

    Args:
        column: Column of the positive class.
    """

    def __init__(self, column: int) -> None:
        super().__init__(zero_division=_UNDEFINED, validate_args=False)
        self.column = column

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch of probabilities, shape (sample, class), and labels, shape (sample,)."""
        super().update(*self._binary(preds, target))


class PositiveRecall(_BinaryDecision, BinaryRecall):
    """Recall of the positive class.

    Args:
        column: Column of the positive class.
    """

    def __init__(self, column: int) -> None:
        super().__init__(zero_division=_UNDEFINED, validate_args=False)
        self.column = column

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch of probabilities, shape (sample, class), and labels, shape (sample,)."""
        super().update(*self._binary(preds, target))


def positive_f1(target: Target) -> Metric:
    """Compute the F1 score of the positive class, 0 to 1 (best).

    ``2 TP / (2 TP + FP + FN)``.

    Args:
        target: Target with classes and a positive class.

    Raises:
        NotApplicable: The target has no positive class.
    """
    return PositiveF1(_positive(target, "positive_f1"))


def positive_precision(target: Target) -> Metric:
    """Compute the precision of the positive class, 0 to 1 (best).

    ``TP / (TP + FP)``: the fraction of positive predictions that are correct.

    Args:
        target: Target with classes and a positive class.

    Raises:
        NotApplicable: The target has no positive class.
    """
    return PositivePrecision(_positive(target, "positive_precision"))


def positive_recall(target: Target) -> Metric:
    """Compute the recall of the positive class, 0 to 1 (best).

    ``TP / (TP + FN)``: the fraction of positive samples that are detected.

    Args:
        target: Target with classes and a positive class.

    Raises:
        NotApplicable: The target has no positive class.
    """
    return PositiveRecall(_positive(target, "positive_recall"))


# --- probabilities ------------------------------------------------------------------------------


class PositiveAveragePrecision(BinaryAveragePrecision):
    """Average precision of the probability of the positive class.

    Args:
        column: Column of the positive class.
    """

    def __init__(self, column: int) -> None:
        super().__init__(validate_args=False)
        self.column = column

    def update(self, preds: Tensor, target: Tensor) -> None:
        # Rounding can produce probabilities above 1, which torchmetrics would treat as logits.
        """Add a batch of probabilities, shape (sample, class), and labels, shape (sample,)."""
        super().update(preds[:, self.column].clamp(0, 1), (target == self.column).long())

    def compute(self) -> Tensor:  # type: ignore[override]
        """Return the average precision; NaN without positive samples."""
        labels = dim_zero_cat(self.target)
        return super().compute() if labels.any() else torch.tensor(_UNDEFINED, device=labels.device)


class PositiveAUROC(BinaryAUROC):
    """Area under the ROC curve of the probability of the positive class.

    Args:
        column: Column of the positive class.
    """

    def __init__(self, column: int) -> None:
        super().__init__(validate_args=False)
        self.column = column

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch of probabilities, shape (sample, class), and labels, shape (sample,)."""
        super().update(preds[:, self.column].clamp(0, 1), (target == self.column).long())

    def compute(self) -> Tensor:  # type: ignore[override]
        """Return the area; NaN unless both positive and negative samples occur."""
        labels = dim_zero_cat(self.target)
        both = labels.any() and not labels.all()
        return super().compute() if both else torch.tensor(_UNDEFINED, device=labels.device)


def pr_auc(target: Target) -> Metric:
    """Compute the average precision of the positive class, 0 to 1 (best).

    ``AP = sum_n (R_n - R_(n-1)) P_n`` over thresholds, with recall R and precision P: the area under the
    precision-recall curve without interpolation (Davis and Goadrich 2006).

    Args:
        target: Target with classes and a positive class.

    Raises:
        NotApplicable: The target has no positive class.
    """
    return PositiveAveragePrecision(_positive(target, "pr_auc"))


def roc_auc(target: Target) -> Metric:
    """Compute the area under the ROC curve, 0 to 1 (best).

    It is the probability that a positive sample gets a higher probability than a negative sample; 0.5 is
    chance.

    Args:
        target: Target with classes and a positive class.

    Raises:
        NotApplicable: The target has no positive class.
    """
    return PositiveAUROC(_positive(target, "roc_auc"))


# --- counts -------------------------------------------------------------------------------------


class _Count(Metric):
    """Number of samples that `is_counted` selects."""

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    total: Tensor

    def __init__(self, column: int = -1) -> None:
        super().__init__()
        self.column = column
        self.add_state("total", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def is_counted(self, predicted: Tensor, labels: Tensor) -> Tensor:
        """Return the samples to count, bool, shape (sample,)."""
        raise NotImplementedError

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch of probabilities, shape (sample, class), and labels, shape (sample,)."""
        self.total += self.is_counted(preds.argmax(dim=1), target).sum()

    def compute(self) -> Tensor:
        """Return the count."""
        return self.total.float()


class Errors(_Count):
    """Number of samples whose predicted class differs from the label."""

    def is_counted(self, predicted: Tensor, labels: Tensor) -> Tensor:
        """Return the wrong samples, bool, shape (sample,)."""
        return predicted != labels


class MissedDetections(_Count):
    """Number of positive samples with another predicted class."""

    def is_counted(self, predicted: Tensor, labels: Tensor) -> Tensor:
        """Return the missed samples, bool, shape (sample,)."""
        return (labels == self.column) & (predicted != self.column)


class FalseAlarms(_Count):
    """Number of positive predictions for samples of another class."""

    def is_counted(self, predicted: Tensor, labels: Tensor) -> Tensor:
        """Return the false alarms, bool, shape (sample,)."""
        return (labels != self.column) & (predicted == self.column)


def errors(target: Target) -> Metric:
    """Count the samples whose most probable class is wrong; 0 is best.

    Args:
        target: Target with classes.
    """
    class_target(target, "errors")
    return Errors()


def missed(target: Target) -> Metric:
    """Count the missed samples of the positive class; 0 is best.

    Args:
        target: Target with classes and a positive class.

    Raises:
        NotApplicable: The target has no positive class.
    """
    return MissedDetections(_positive(target, "missed"))


def false_alarms(target: Target) -> Metric:
    """Count the samples of other classes predicted as positive; 0 is best.

    Args:
        target: Target with classes and a positive class.

    Raises:
        NotApplicable: The target has no positive class.
    """
    return FalseAlarms(_positive(target, "false_alarms"))
