"""One class out of several: logits, loss, calibrated decoding."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geovision.heads.ood import FeatureDistance
from geovision.heads.prediction import ClassPrediction
from geovision.heads.protocols import HasTemperature
from geovision.spec import ClassTarget

__all__ = ["ClassScoreHead", "ClassificationHead", "NormalisedHead", "cross_entropy"]


class ClassScoreHead(nn.Module, HasTemperature):
    """The head of a network whose features are class scores already, and the base of the others.

    Args:
        num_features: Length of the feature vector; here the number of classes.
        target: The classes, in the order of the logits.
        dropout: Nothing is dropped here.

    Shape:
        scores ``(batch, class)`` -> the same, taken as logits.
    """

    prediction_type = ClassPrediction
    """What `decode` gives."""

    temperature: Tensor

    def __init__(self, num_features: int, target: ClassTarget, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.target = target
        self.outlier = FeatureDistance(num_features)
        # Fitted after training; it never changes the order of the classes.
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, features: Tensor) -> Tensor:
        return features

    def probabilities(self, logits: Tensor) -> Tensor:
        """Calibrated probabilities ``(batch, class)``: softmax of logits over the temperature
        (Guo et al. 2017, arXiv:1706.04599)."""
        return (logits.float() / self.temperature).softmax(dim=-1)

    def export_outputs(self, logits: Tensor, features: Tensor) -> dict[str, Tensor]:
        """What an exported graph answers with; a score that is not fitted is NaN."""
        return {
            "logits": logits,
            "probabilities": self.probabilities(logits),
            "outlier_score": self.outlier(features),
        }

    def scored(self, logits: Tensor, target: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """(probabilities, labels) of the samples that have a label, as metrics take them."""
        probabilities = self.probabilities(logits)
        return (probabilities, target) if valid is None else (probabilities[valid], target[valid])

    def decode(
        self, logits: Tensor, features: Tensor, sources: Sequence[str], *, valid: Tensor | None = None
    ) -> list[ClassPrediction]:
        """One labelled answer a sample; a class is of the whole of it, so `valid` is None."""
        probabilities = self.probabilities(logits)
        # Stable: among equals the first class, whatever the batch.
        order = probabilities.argsort(dim=-1, descending=True, stable=True).tolist()
        scores = self.outlier(features).tolist() if self.outlier.fitted else [None] * len(sources)
        return [
            self._answer(source, row, ranked, score)
            for source, row, ranked, score in zip(sources, probabilities.tolist(), order, scores, strict=True)
        ]

    def _answer(
        self, source: str, row: list[float], ranked: list[int], score: float | None
    ) -> ClassPrediction:
        classes = self.target.classes
        return ClassPrediction(
            source=source,
            flags=(self.target.outlier_flag,) if score is not None and score > 1 else (),
            label=classes[ranked[0]],
            confidence=row[ranked[0]],
            probabilities={classes[index]: row[index] for index in ranked},
            card=self.target.card(classes[ranked[0]]),
            outlier_score=score,
        )


class ClassificationHead(ClassScoreHead):
    """Dropout and one linear layer.

    Args:
        num_features: Length of the feature vector.
        target: The classes, in the order of the logits.
        dropout: Fraction of the features dropped in training.

    Shape:
        features ``(batch, num_features)`` -> logits ``(batch, class)``.
    """

    def __init__(self, num_features: int, target: ClassTarget, *, dropout: float = 0.0) -> None:
        super().__init__(num_features, target)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(num_features, len(target.classes))
        nn.init.zeros_(self.linear.bias)
        # Nearly no opinion at first, however many the features: what is drawn here is not unlearnt
        # in a short training.
        nn.init.trunc_normal_(self.linear.weight, std=0.1 / math.sqrt(num_features))

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(self.dropout(features))


class NormalisedHead(ClassificationHead):
    """The same after a normalisation of each feature by its mean and deviation over the training set,
    for features that differ in scale by orders of magnitude.

    Args:
        num_features: Length of the feature vector.
        target: The classes, in the order of the logits.
        dropout: Fraction of the features dropped in training.

    Shape:
        features ``(batch, num_features)`` -> logits ``(batch, class)``.
    """

    def __init__(self, num_features: int, target: ClassTarget, *, dropout: float = 0.0) -> None:
        super().__init__(num_features, target, dropout=dropout)
        self.norm: nn.Module = nn.BatchNorm1d(num_features)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(self.norm(features))

    @torch.no_grad()
    def joined(self) -> NormalisedHead:
        """A copy for answers alone: the normalisation is a shift, its scale is in the linear layer."""
        joined = copy.deepcopy(self).eval()
        norm, linear = joined.norm, joined.linear
        if isinstance(norm, nn.BatchNorm1d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
            linear.bias.copy_(linear.bias + linear.weight.double() @ norm.bias.double())
            linear.weight.copy_(linear.weight * scale)
            joined.norm = _Shift(norm.running_mean)
        return joined


class _Shift(nn.Module):
    """Features as they differ from a mean."""

    mean: Tensor

    def __init__(self, mean: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)

    def forward(self, features: Tensor) -> Tensor:
        return features - self.mean


def cross_entropy(
    logits: Tensor, target: Tensor, valid: Tensor | None = None, *, label_smoothing: float = 0.0
) -> Tensor:
    """Mean cross-entropy over the valid samples.

    Args:
        logits: ``(batch, class)``.
        target: Class indices ``(batch,)`` or probabilities ``(batch, class)``.
        valid: ``(batch,)`` of bool; a sample without a label does not count.
        label_smoothing: Fraction of the target spread over all classes.
    """
    losses = F.cross_entropy(logits, target, reduction="none", label_smoothing=label_smoothing)
    if valid is None:
        return losses.mean()
    return torch.where(valid, losses, 0.0).sum() / valid.sum().clamp_min(1)
