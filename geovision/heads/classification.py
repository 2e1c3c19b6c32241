"""Classification heads: logits, loss and calibrated decoding."""

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

__all__ = ["ClassScoreHead", "ClassificationHead", "NormalizedHead", "cross_entropy"]


class ClassScoreHead(nn.Module, HasTemperature):
    """Head of a network whose features are class scores.

    It is the base class of the other classification heads.

    Args:
        num_features: Length of the feature vector; here the number of classes.
        target: Classes in the order of the logits.
        dropout: Ignored by this head.

    Shape:
        scores ``(batch, class)`` -> the same, used as logits.
    """

    prediction_type = ClassPrediction
    """Type of the predictions that `decode` returns."""

    temperature: Tensor

    def __init__(self, num_features: int, target: ClassTarget, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.target = target
        self.outlier = FeatureDistance(num_features)
        # Fitted after training; it does not change the order of the classes.
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, features: Tensor) -> Tensor:
        """Return the class scores as logits.

        Args:
            features: Class scores, shape ``(batch, class)``.
        """
        return features

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return calibrated probabilities, shape ``(batch, class)``.

        They are the softmax of the logits divided by the temperature (Guo et al. 2017, arXiv:1706.04599).

        Args:
            logits: Logits, shape ``(batch, class)``.
        """
        return (logits.float() / self.temperature).softmax(dim=-1)

    def export_outputs(self, logits: Tensor, features: Tensor) -> dict[str, Tensor]:
        """Return the outputs of an exported graph by name.

        The outlier score is NaN if it is not fitted.

        Args:
            logits: Logits, shape ``(batch, class)``.
            features: Features, shape ``(batch, num_features)``.
        """
        return {
            "logits": logits,
            "probabilities": self.probabilities(logits),
            "outlier_score": self.outlier(features),
        }

    def scored(self, logits: Tensor, target: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the probabilities and labels of labeled samples for metrics.

        Args:
            logits: Logits, shape ``(batch, class)``.
            target: Class indices, shape ``(batch,)``.
            valid: Whether each sample has a label, shape ``(batch,)``; None if all have one.
        """
        probabilities = self.probabilities(logits)
        return (probabilities, target) if valid is None else (probabilities[valid], target[valid])

    def decode(
        self, logits: Tensor, features: Tensor, sources: Sequence[str], *, valid: Tensor | None = None
    ) -> list[ClassPrediction]:
        """Return one labeled prediction per sample.

        Args:
            logits: Logits, shape ``(batch, class)``.
            features: Features, shape ``(batch, num_features)``.
            sources: Source of each sample.
            valid: Ignored; a class refers to the whole sample. Default: None.
        """
        probabilities = self.probabilities(logits)
        # A stable sort picks the first of equally probable classes, independent of the batch.
        order = probabilities.argsort(dim=-1, descending=True, stable=True).tolist()
        scores = self.outlier(features).tolist() if self.outlier.fitted else [None] * len(sources)
        return [
            self._to_prediction(source, row, ranked, score)
            for source, row, ranked, score in zip(sources, probabilities.tolist(), order, scores, strict=True)
        ]

    def _to_prediction(
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
    """Classification head of dropout and one linear layer.

    Args:
        num_features: Length of the feature vector.
        target: Classes in the order of the logits.
        dropout: Dropout rate of the features in training, 0-1. Default: 0.

    Shape:
        features ``(batch, num_features)`` -> logits ``(batch, class)``.
    """

    def __init__(self, num_features: int, target: ClassTarget, *, dropout: float = 0.0) -> None:
        super().__init__(num_features, target)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(num_features, len(target.classes))
        nn.init.zeros_(self.linear.bias)
        # The initial logits are close to 0 for any number of features, because a short training does not
        # unlearn larger random weights.
        nn.init.trunc_normal_(self.linear.weight, std=0.1 / math.sqrt(num_features))

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits, shape ``(batch, class)``.

        Args:
            features: Features, shape ``(batch, num_features)``.
        """
        logits: Tensor = self.linear(self.dropout(features))
        return logits


class NormalizedHead(ClassificationHead):
    """Classification head that normalizes each feature before dropout and the linear layer.

    Each feature is normalized by its mean and standard deviation over the training set. This suits features
    whose scales differ by orders of magnitude.

    Args:
        num_features: Length of the feature vector.
        target: Classes in the order of the logits.
        dropout: Dropout rate of the features in training, 0-1. Default: 0.

    Shape:
        features ``(batch, num_features)`` -> logits ``(batch, class)``.
    """

    def __init__(self, num_features: int, target: ClassTarget, *, dropout: float = 0.0) -> None:
        super().__init__(num_features, target, dropout=dropout)
        self.norm: nn.Module = nn.BatchNorm1d(num_features)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits, shape ``(batch, class)``.

        Args:
            features: Features, shape ``(batch, num_features)``.
        """
        return super().forward(self.norm(features))

    @torch.no_grad()
    def joined(self) -> NormalizedHead:
        """Return an inference copy with the normalization merged into the linear layer.

        The linear layer contains the scale of the normalization; a shift by the mean remains.
        """
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
    """Difference of features from a mean."""

    mean: Tensor

    def __init__(self, mean: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)

    def forward(self, features: Tensor) -> Tensor:
        return features - self.mean


def cross_entropy(
    logits: Tensor, target: Tensor, valid: Tensor | None = None, *, label_smoothing: float = 0.0
) -> Tensor:
    """Return the mean cross-entropy over the valid samples, a scalar.

    Args:
        logits: Logits, shape ``(batch, class)``.
        target: Class indices, shape ``(batch,)``, or probabilities, shape ``(batch, class)``.
        valid: Whether each sample has a label, bool, shape ``(batch,)``; others are excluded.
            Default: None, all samples are valid.
        label_smoothing: Fraction of the target that is spread over all classes, 0-1. Default: 0.
    """
    losses = F.cross_entropy(logits, target, reduction="none", label_smoothing=label_smoothing)
    if valid is None:
        return losses.mean()
    return torch.where(valid, losses, 0.0).sum() / valid.sum().clamp_min(1)
