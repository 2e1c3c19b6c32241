"""Scores of the likeliest class, and of the `k` likeliest.

All take probabilities ``(sample, class)`` and labels ``(sample,)``.

A macro average is the mean over the classes that *occur*, in the labels or among the predictions.
A class that is in neither says nothing about a model and is left out, as in scikit-learn; a class
that is predicted but never true counts with 0. `balanced_accuracy` averages over the classes that
are true at least once.
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
    """The target, if it is one class out of several.

    Raises:
        NotApplicable: It is a mask or a field.
    """
    if not isinstance(target, ClassTarget):
        raise NotApplicable(f"metric {metric!r} scores classes, not a {target.kind}")
    return target


def _count(target: Target, metric: str) -> int:
    return len(class_target(target, metric).classes)


# --- one number ---------------------------------------------------------------------------------


def macro_f1(target: Target) -> Metric:
    """Mean over classes of F1 = 2 TP / (2 TP + FP + FN), 0-1: the "mean F1" of the literature."""
    return MulticlassF1Score(_count(target, "macro_f1"), average="macro")


def macro_precision(target: Target) -> Metric:
    """Mean over classes of TP / (TP + FP), 0-1; a class that is never predicted counts with 0."""
    return MulticlassPrecision(_count(target, "macro_precision"), average="macro")


def macro_recall(target: Target) -> Metric:
    """Mean over classes of TP / (TP + FN), 0-1; a class that is never true counts with 0."""
    return MulticlassRecall(_count(target, "macro_recall"), average="macro")


class BalancedAccuracy(MulticlassRecall):
    """Mean recall over the classes that are true at least once."""

    tp: Tensor
    fn: Tensor

    def compute(self) -> Tensor:
        true = self.tp + self.fn
        return (self.tp[true > 0] / true[true > 0]).mean()


def balanced_accuracy(target: Target) -> Metric:
    """Mean recall over the classes of the labels, 0-1 (Brodersen et al. 2010)."""
    return BalancedAccuracy(_count(target, "balanced_accuracy"))


def accuracy(target: Target, top_k: int = 1) -> Metric:
    """Fraction of samples whose true class is among the `top_k` most probable classes, 0 to 1."""
    count = _count(target, "accuracy")
    if top_k >= count:
        raise NotApplicable(f"the accuracy of the {top_k} most probable of {count} classes is always 1")
    return MulticlassAccuracy(count, top_k=top_k, average="micro")


class LevelAccuracy(MulticlassAccuracy):
    """Accuracy of the level of the likeliest class.

    Args:
        levels: The level of each class, in the order of the classes.
    """

    level: Tensor

    def __init__(self, levels: tuple[str, ...]) -> None:
        names = sorted(set(levels))
        super().__init__(len(names), average="micro")
        self.register_buffer("level", torch.tensor([names.index(level) for level in levels]))

    def update(self, preds: Tensor, target: Tensor) -> None:
        super().update(self.level[preds.argmax(dim=1)], self.level[target])


def level_accuracy(target: Target) -> Metric:
    """Fraction of samples whose likeliest class stands on the same level as the true one: a coarser
    question than the class, whose mistakes cost less."""
    levels = class_target(target, "level_accuracy").levels
    if len(set(levels)) < 2:
        raise NotApplicable("metric 'level_accuracy' needs classes whose cards name two levels or more")
    return LevelAccuracy(levels)


# --- a number for each class --------------------------------------------------------------------

# torchmetrics fills an undefined ratio with any number, but its check of arguments allows 0 and 1
# only. Neither is true of a class that does not occur, so the check is left out and NaN put there.
_UNDEFINED = math.nan


def precision(target: Target) -> Metric:
    """TP / (TP + FP) of each class, ``(class,)``; NaN where it is never predicted."""
    return MulticlassPrecision(
        _count(target, "precision"), average="none", zero_division=_UNDEFINED, validate_args=False
    )


def recall(target: Target) -> Metric:
    """TP / (TP + FN) of each class, ``(class,)``; NaN where it is never true."""
    return MulticlassRecall(
        _count(target, "recall"), average="none", zero_division=_UNDEFINED, validate_args=False
    )


def f1(target: Target) -> Metric:
    """2 TP / (2 TP + FP + FN) of each class, ``(class,)``; NaN where it neither is true nor predicted."""
    return MulticlassF1Score(
        _count(target, "f1"), average="none", zero_division=_UNDEFINED, validate_args=False
    )


def confusion(target: Target) -> Metric:
    """Counts ``(true class, predicted class)``."""
    return MulticlassConfusionMatrix(_count(target, "confusion"))
