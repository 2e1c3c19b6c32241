"""The class of the nearest training samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geovision.errors import InputError, MissingExtraError
from geovision.heads.classification import ClassScoreHead
from geovision.spec import ClassTarget

__all__ = ["NearestNeighbours"]


class NearestNeighbours(ClassScoreHead):
    """Votes of the nearest training samples (Cover and Hart 1967, doi:10.1109/TIT.1967.1053964).

    Fitted by scikit-learn's `KNeighborsClassifier`, Euclidean distance, each neighbour one vote; equal
    votes go to the class that comes first, as there. The training set's features are the parameters.

    Args:
        num_features: Length of the feature vector.
        target: The classes, in the order of the logits.
        dropout: Nothing is dropped here.
        neighbours: How many vote.

    Shape:
        features ``(batch, num_features)`` -> logits ``(batch, class)``: logarithm of the share of
        votes, -inf replaced by that of a hundredth of a vote.
    """

    samples: Tensor
    labels: Tensor

    def __init__(
        self, num_features: int, target: ClassTarget, *, dropout: float = 0.0, neighbours: int = 5
    ) -> None:
        super().__init__(num_features, target)
        self.n_neighbors = neighbours
        self.register_buffer("samples", torch.zeros(0, num_features))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))

    def fit(self, features: Tensor, labels: Tensor) -> None:
        """Keep a training set.

        Args:
            features: ``(sample, num_features)``.
            labels: ``(sample,)``, indices of classes.

        Raises:
            InputError: Fewer samples than neighbours.
            MissingExtraError: scikit-learn is not installed.
        """
        try:
            from sklearn.neighbors import KNeighborsClassifier
        except ImportError as error:
            raise MissingExtraError("scikit-learn", "train") from error
        if len(features) < self.n_neighbors:
            raise InputError(
                f"{self.n_neighbors} neighbours among {len(features)} samples; give more samples"
            )
        fitted: Any = KNeighborsClassifier(self.n_neighbors).fit(features.numpy(), labels.numpy())
        self.samples = torch.as_tensor(fitted._fit_X, dtype=torch.float32)
        self.labels = torch.as_tensor(fitted.classes_[fitted._y], dtype=torch.int64)

    def forward(self, features: Tensor) -> Tensor:
        if not len(self.samples):
            raise InputError("these neighbours are not fitted; train the model first")
        # In double precision and not by matrix products, whose rounding would reorder near ties.
        apart = torch.cdist(
            features.double(), self.samples.double(), compute_mode="donot_use_mm_for_euclid_dist"
        )
        nearest = apart.topk(self.n_neighbors, dim=1, largest=False).indices
        votes = torch.zeros(len(features), len(self.target.classes), device=features.device)
        votes.scatter_add_(1, self.labels[nearest], torch.ones_like(nearest, dtype=votes.dtype))
        return (votes.clamp_min(0.01) / self.n_neighbors).log()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        for name in ("samples", "labels"):  # as many as were trained on
            if prefix + name in state_dict:
                setattr(
                    self, name, torch.empty_like(state_dict[prefix + name], dtype=getattr(self, name).dtype)
                )
        super()._load_from_state_dict(state_dict, prefix, *rest)
