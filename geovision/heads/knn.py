"""Classification head of nearest neighbors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geovision.errors import InputError, MissingExtraError
from geovision.heads.classification import ClassScoreHead
from geovision.spec import ClassTarget

__all__ = ["NearestNeighbors"]


class NearestNeighbors(ClassScoreHead):
    """Classification head of the votes of the nearest training samples.

    See Cover and Hart 1967, doi:10.1109/TIT.1967.1053964. scikit-learn's `KNeighborsClassifier` fits it with
    Euclidean distances and one vote per neighbor. In a tie, the first class wins, as in scikit-learn. The
    parameters are the features of the training set.

    Args:
        num_features: Length of the feature vector.
        target: Classes in the order of the logits.
        dropout: Ignored by this head.
        n_neighbors: Number of neighbors. Default: 5.

    Shape:
        features ``(batch, num_features)`` -> logits ``(batch, class)``: logarithm of the fraction of votes,
        or of a hundredth of a vote for a class without votes.
    """

    samples: Tensor
    labels: Tensor

    def __init__(
        self, num_features: int, target: ClassTarget, *, dropout: float = 0.0, n_neighbors: int = 5
    ) -> None:
        super().__init__(num_features, target)
        self.n_neighbors = n_neighbors
        self.register_buffer("samples", torch.zeros(0, num_features))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))

    def fit(self, features: Tensor, labels: Tensor) -> None:
        """Fit the head to a training set.

        Args:
            features: Features, shape ``(sample, num_features)``.
            labels: Class indices, shape ``(sample,)``.

        Raises:
            InputError: There are fewer samples than neighbors.
            MissingExtraError: scikit-learn is not installed.
        """
        try:
            from sklearn.neighbors import KNeighborsClassifier
        except ImportError as error:
            raise MissingExtraError("scikit-learn", "train") from error
        if len(features) < self.n_neighbors:
            raise InputError(
                f"{len(features)} samples are too few for {self.n_neighbors} neighbors; add samples or lower "
                "n_neighbors="
            )
        fitted: Any = KNeighborsClassifier(self.n_neighbors).fit(features.numpy(), labels.numpy())
        self.samples = torch.as_tensor(fitted._fit_X, dtype=torch.float32)
        self.labels = torch.as_tensor(fitted.classes_[fitted._y], dtype=torch.int64)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits, shape ``(batch, class)``.

        Args:
            features: Features, shape ``(batch, num_features)``.

        Raises:
            InputError: The head is not fitted.
        """
        if not len(self.samples):
            raise InputError("the nearest neighbors are not fitted; train the model first")
        # Double precision without matrix products, because their rounding would reorder near ties.
        distances = torch.cdist(
            features.double(), self.samples.double(), compute_mode="donot_use_mm_for_euclid_dist"
        )
        nearest = distances.topk(self.n_neighbors, dim=1, largest=False).indices
        votes = torch.zeros(len(features), len(self.target.classes), device=features.device)
        votes.scatter_add_(1, self.labels[nearest], torch.ones_like(nearest, dtype=votes.dtype))
        return (votes.clamp_min(0.01) / self.n_neighbors).log()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        for name in ("samples", "labels"):  # their length is that of the training set
            if prefix + name in state_dict:
                setattr(
                    self, name, torch.empty_like(state_dict[prefix + name], dtype=getattr(self, name).dtype)
                )
        super()._load_from_state_dict(state_dict, prefix, *rest)
