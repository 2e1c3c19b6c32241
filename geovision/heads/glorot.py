"""Classification head with the initialization of a dense layer of Keras."""

from __future__ import annotations

from torch import nn

from geovision.heads.classification import ClassificationHead
from geovision.spec import ClassTarget

__all__ = ["GlorotHead"]


class GlorotHead(ClassificationHead):
    """Classification head with uniform initial weights after Glorot and Bengio 2010.

    The initial bias is 0. Use it to reproduce the initialization of published networks.

    Args:
        num_features: Length of the feature vector.
        target: Classes in the order of the logits.
        dropout: Dropout rate of the features in training, 0-1. Default: 0.

    Shape:
        features ``(batch, num_features)`` -> logits ``(batch, class)``.
    """

    def __init__(self, num_features: int, target: ClassTarget, *, dropout: float = 0.0) -> None:
        super().__init__(num_features, target, dropout=dropout)
        nn.init.xavier_uniform_(self.linear.weight)
