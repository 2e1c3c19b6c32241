"""Metrics of class probabilities.

All metrics take probabilities, shape (sample, class), and labels, shape (sample,).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassCalibrationError

from geovision.metrics.classification import class_target
from geovision.spec import Target

__all__ = ["BINS", "brier", "calibration_error", "nll"]

BINS = 15
"""Number of equal bins of confidence, as in Guo et al. 2017, arXiv:1706.04599."""


class CalibrationError(MulticlassCalibrationError):
    """Expected calibration error of probabilities that may exceed 1 slightly.

    Rounding, or the sum over merged classes, can produce values above 1; torchmetrics would treat them as
    logits. Values are therefore clipped to 0 to 1.
    """

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            preds: Probabilities, shape (sample, class).
            target: Labels, shape (sample,).
        """
        super().update(preds.clamp(0, 1), target)


def calibration_error(target: Target) -> Metric:
    """Compute the expected calibration error, 0 (best) to 1.

    ``ECE = sum_b n_b / n |accuracy_b - confidence_b|`` over 15 equal bins of confidence, with n_b of the n
    samples in bin b (Naeini et al. 2015).

    Args:
        target: Target with classes.
    """
    return CalibrationError(len(class_target(target, "calibration_error").classes), n_bins=BINS, norm="l1")


class _SampleMean(Metric):
    """Mean over samples of the result of `score`."""

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
        """Return the score of each sample, shape (sample,)."""
        raise NotImplementedError

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch of probabilities, shape (sample, class), and labels, shape (sample,)."""
        self.total += self.score(preds, target).sum(dtype=torch.float64)
        self.count += len(target)

    def compute(self) -> Tensor:
        """Return the mean over all samples."""
        return (self.total / self.count).float()


class Brier(_SampleMean):
    """Mean over samples of the squared distance between probabilities and one-hot target."""

    def score(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        """Return the squared distance of each sample, shape (sample,).

        Args:
            probabilities: Probabilities, shape (sample, class).
            labels: Labels, shape (sample,).
        """
        one_hot = torch.nn.functional.one_hot(labels, probabilities.shape[1])
        return (probabilities - one_hot).square().sum(dim=1)


def brier(target: Target) -> Metric:
    """Compute the Brier score over all classes, 0 (best) to 2.

    ``BS = 1/n sum_i sum_k (p_ik - y_ik)^2`` with the one-hot target y (Brier 1950).

    Args:
        target: Target with classes.
    """
    class_target(target, "brier")
    return Brier()


class NegativeLogLikelihood(_SampleMean):
    """Mean over samples of the negative log probability of the target class."""

    def score(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        """Return the negative log probability of each target class, shape (sample,), in nats.

        Args:
            probabilities: Probabilities, shape (sample, class).
            labels: Labels, shape (sample,).
        """
        probability = probabilities.gather(1, labels[:, None]).squeeze(1)
        # A probability of 0, caused by rounding, would make the mean infinite.
        return -probability.clamp_min(torch.finfo(probabilities.dtype).eps).log()


def nll(target: Target) -> Metric:
    """Compute the negative log-likelihood in nats, from 0 (best) upwards.

    ``NLL = -1/n sum_i ln p_i`` with the probability p_i of the target class. Probabilities below the machine
    epsilon of their data type are raised to it.

    Args:
        target: Target with classes.
    """
    class_target(target, "nll")
    return NegativeLogLikelihood()
