"""A head whose weights begin as those of a Keras dense layer do."""

from __future__ import annotations

from torch import nn

from geovision.heads.classification import ClassificationHead
from geovision.spec import ClassTarget

__all__ = ["GlorotHead"]


class GlorotHead(ClassificationHead):
    """Dropout and one linear layer, whose weights begin uniform after Glorot and Bengio 2010 and whose
    bias begins at zero: for networks that are to begin as they were published.

    Args:
        num_features: Length of the feature vector.
        target: The classes, in the order of the logits.
        dropout: Fraction of the features dropped in training.

    Shape:
        features ``(batch, num_features)`` -> logits ``(batch, class)``.
    """

    def __init__(self, num_features: int, target: ClassTarget, *, dropout: float = 0.0) -> None:
        super().__init__(num_features, target, dropout=dropout)
        nn.init.xavier_uniform_(self.linear.weight)
