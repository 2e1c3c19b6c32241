"""Metrics of predicted classes.

All metrics take probabilities, shape (sample, class), and labels, shape (sample,). The prediction is the most
probable class, or the `k` most probable classes. TP, FP and FN are the numbers of true positives, false
positives and false negatives of a class.

A macro average is the mean over classes that *occur*, in the labels or among the predictions. A class without
either is excluded, as in scikit-learn, because it contains no information about a model. A class that is
predicted but never the label counts with 0. `balanced_accuracy` averages over the classes of the labels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

from geovision.metrics import NotApplicable
from geovision.spec import ClassTarget, Target

__all__ = [
    "accuracy",
    "balanced_accuracy",
    "class_target",
    "confusion",
    "f1",
    "level_accuracy",
    "macro_f1",
    "macro_precision",
    "macro_recall",
    "precision",
    "recall",
]


def class_target(target: Target, metric: str) -> ClassTarget:
    """Return the target if it is a class.

    Args:
        target: Target of the predictions.
        metric: Name of the metric, for the message.

    Raises:
        NotApplicable: The target is a mask or a field.
    """
    if not isinstance(target, ClassTarget):
        raise NotApplicable(f"metric {metric!r} scores classes, not a {target.kind}")
    return target


def _count(target: Target, metric: str) -> int:
    return len(class_target(target, metric).classes)


# --- averages -----------------------------------------------------------------------------------


def macro_f1(target: Target) -> Metric:
    """Compute the mean F1 over classes, 0 to 1 (best).

    ``F1 = 2 TP / (2 TP + FP + FN)`` of each class; the "mean F1" of the literature.

    Args:
        target: Target with classes.
    """
    return MulticlassF1Score(_count(target, "macro_f1"), average="macro")


def macro_precision(target: Target) -> Metric:
    """Compute the mean precision over classes, 0 to 1 (best).

    ``TP / (TP + FP)`` of each class. A class that is never predicted counts with 0.

    Args:
        target: Target with classes.
    """
    return MulticlassPrecision(_count(target, "macro_precision"), average="macro")


def macro_recall(target: Target) -> Metric:
    """Compute the mean recall over classes, 0 to 1 (best).

    ``TP / (TP + FN)`` of each class. A class that is predicted but never the label counts with 0.

    Args:
        target: Target with classes.
    """
    return MulticlassRecall(_count(target, "macro_recall"), average="macro")


class BalancedAccuracy(MulticlassRecall):
    """Mean recall over the classes that occur in the labels.

    The constructor arguments are those of `torchmetrics.classification.MulticlassRecall`.
    """

    tp: Tensor
    fn: Tensor

    def compute(self) -> Tensor:
        """Return the mean recall."""
        support = self.tp + self.fn
        return (self.tp[support > 0] / support[support > 0]).mean()


def balanced_accuracy(target: Target) -> Metric:
    """Compute the mean recall over the classes of the labels, 0 to 1 (best).

    ``TP / (TP + FN)`` of each class that occurs in the labels (Brodersen et al. 2010).

    Args:
        target: Target with classes.
    """
    return BalancedAccuracy(_count(target, "balanced_accuracy"))


def accuracy(target: Target, top_k: int = 1) -> Metric:
    """Compute the fraction of correct samples, 0 to 1 (best).

    A sample is correct if its label is among the `top_k` most probable classes.

    Args:
        target: Target with classes.
        top_k: Number of most probable classes, below the number of classes. Default: 1.

    Raises:
        NotApplicable: `top_k` is not below the number of classes.
    """
    count = _count(target, "accuracy")
    if top_k >= count:
        raise NotApplicable(f"the accuracy of the {top_k} most probable of {count} classes is always 1")
    return MulticlassAccuracy(count, top_k=top_k, average="micro")


class LevelAccuracy(MulticlassAccuracy):
    """Accuracy of the level of the most probable class.

    Args:
        levels: Level of each class, in the order of the classes.
    """

    level: Tensor

    def __init__(self, levels: tuple[str, ...]) -> None:
        names = sorted(set(levels))
        super().__init__(len(names), average="micro")
        self.register_buffer("level", torch.tensor([names.index(level) for level in levels]))

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            preds: Probabilities, shape (sample, class).
            target: Labels, shape (sample,).
        """
        super().update(self.level[preds.argmax(dim=1)], self.level[target])


def level_accuracy(target: Target) -> Metric:
    """Compute the fraction of samples with the correct level, 0 to 1 (best).

    A sample is correct if its most probable class has the same level as its label. Levels are coarser than
    classes; confusing two classes of one level costs less.

    Args:
        target: Target with classes of two or more levels.

    Raises:
        NotApplicable: The classes have fewer than two levels.
    """
    levels = class_target(target, "level_accuracy").levels
    if len(set(levels)) < 2:
        raise NotApplicable("metric 'level_accuracy' requires classes with two levels or more")
    return LevelAccuracy(levels)


# --- scores per class ---------------------------------------------------------------------------

# torchmetrics replaces an undefined ratio by any number, but its argument check allows only 0 and 1.
# Neither is correct for a class that does not occur, so the check is disabled and NaN is used.
_UNDEFINED = math.nan


def precision(target: Target) -> Metric:
    """Compute the precision of each class, shape (class,), 0 to 1 (best).

    ``TP / (TP + FP)``; NaN for a class that is never predicted.

    Args:
        target: Target with classes.
    """
    return MulticlassPrecision(
        _count(target, "precision"), average="none", zero_division=_UNDEFINED, validate_args=False
    )


def recall(target: Target) -> Metric:
    """Compute the recall of each class, shape (class,), 0 to 1 (best).

    ``TP / (TP + FN)``; NaN for a class that is never the label.

    Args:
        target: Target with classes.
    """
    return MulticlassRecall(
        _count(target, "recall"), average="none", zero_division=_UNDEFINED, validate_args=False
    )


def f1(target: Target) -> Metric:
    """Compute the F1 score of each class, shape (class,), 0 to 1 (best).

    ``2 TP / (2 TP + FP + FN)``; NaN for a class that is never a label and never predicted.

    Args:
        target: Target with classes.
    """
    return MulticlassF1Score(
        _count(target, "f1"), average="none", zero_division=_UNDEFINED, validate_args=False
    )


def confusion(target: Target) -> Metric:
    """Compute the confusion matrix: counts, shape (label, predicted class).

    Args:
        target: Target with classes.
    """
    return MulticlassConfusionMatrix(_count(target, "confusion"))
