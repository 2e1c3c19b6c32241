"""Scores of the probabilities themselves. All take ``(sample, class)`` and labels ``(sample,)``."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassCalibrationError

from geovision.metrics.classification import class_target
from geovision.spec import Target

__all__ = ["BINS", "brier", "calibration_error", "nll"]

BINS = 15
"""Equal bins of confidence, as in Guo et al. 2017, arXiv:1706.04599."""


class CalibrationError(MulticlassCalibrationError):
    """torchmetrics' error for probabilities that rounding, or summing merged classes, may have
    carried a hair beyond 1: it would take them for logits."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        super().update(preds.clamp(0, 1), target)


def calibration_error(target: Target) -> Metric:
    """Expected calibration error, 0-1: the gap between confidence and accuracy in each of 15
    equal bins of confidence, averaged by the samples in them (Naeini et al. 2015)."""
    return CalibrationError(len(class_target(target, "calibration_error").classes), n_bins=BINS, norm="l1")


class _SampleMean(Metric):
    """The mean over samples of what `score` gives each of them."""

    higher_is_better = False
    is_differentiable = True
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def score(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        raise NotImplementedError

    def update(self, preds: Tensor, target: Tensor) -> None:
        self.total += self.score(preds, target).sum(dtype=torch.float64)
        self.count += len(target)

    def compute(self) -> Tensor:
        return (self.total / self.count).float()


class Brier(_SampleMean):
    """Mean over samples of the squared distance of the probabilities from the truth."""

    def score(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        truth = torch.nn.functional.one_hot(labels, probabilities.shape[1])
        return (probabilities - truth).square().sum(dim=1)


def brier(target: Target) -> Metric:
    """Brier score over all classes, 0 (best) to 2 (Brier 1950)."""
    class_target(target, "brier")
    return Brier()


class NegativeLogLikelihood(_SampleMean):
    """Mean over samples of -log of the probability of the true class."""

    def score(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        chosen = probabilities.gather(1, labels[:, None]).squeeze(1)
        # A probability that rounded to 0 would make the mean infinite.
        return -chosen.clamp_min(torch.finfo(probabilities.dtype).eps).log()


def nll(target: Target) -> Metric:
    """Negative log-likelihood in nats, 0 (best) upwards; a probability counts as at least the
    rounding step of its number format."""
    class_target(target, "nll")
    return NegativeLogLikelihood()
