"""A support-vector machine with a radial kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geovision.errors import InputError, MissingExtraError
from geovision.heads.classification import ClassScoreHead
from geovision.spec import ClassTarget

__all__ = ["SupportVectors"]

_BUFFER_NAMES = ("vectors", "owners", "weights", "offsets", "known")


class SupportVectors(ClassScoreHead):
    """One machine for each pair of classes (Cortes and Vapnik 1995, doi:10.1007/BF00994018), fitted
    by scikit-learn's `SVC`; its scores are the machines' votes, ties broken by their sums, as there.

    The kernel is ``exp(-gamma |x - v|^2)`` on features scaled to zero mean and unit variance.

    Args:
        num_features: Length of the feature vector.
        target: The classes, in the order of the logits.
        dropout: Nothing is dropped here.
        penalty: The machines' C.

    Shape:
        features ``(batch, num_features)`` -> scores ``(batch, class)``, taken as logits; a class that
        the training set lacks scores lowest.
    """

    mean: Tensor
    scale: Tensor
    gamma: Tensor
    vectors: Tensor
    owners: Tensor
    weights: Tensor
    offsets: Tensor
    known: Tensor

    def __init__(
        self, num_features: int, target: ClassTarget, *, dropout: float = 0.0, penalty: float = 10.0
    ) -> None:
        super().__init__(num_features, target)
        self.penalty = penalty
        self.register_buffer("mean", torch.zeros(num_features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(num_features, dtype=torch.float64))
        self.register_buffer("gamma", torch.ones((), dtype=torch.float64))
        # Support vectors, the class each belongs to, what it weighs against each other class, the
        # offset of each pair, and which classes there were.
        self.register_buffer("vectors", torch.zeros(0, num_features, dtype=torch.float64))
        self.register_buffer("owners", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("weights", torch.zeros(0, 0, dtype=torch.float64))
        self.register_buffer("offsets", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("known", torch.zeros(0, dtype=torch.int64))

    def fit(self, features: Tensor, labels: Tensor) -> None:
        """Fit the machines.

        Args:
            features: ``(sample, num_features)``.
            labels: ``(sample,)``, indices of classes.

        Raises:
            InputError: Samples of one class alone.
            MissingExtraError: scikit-learn is not installed.
        """
        try:
            from sklearn.svm import SVC
        except ImportError as error:
            raise MissingExtraError("scikit-learn", "train") from error
        if len(labels.unique()) < 2:
            raise InputError("a support-vector machine needs samples of two classes or more")
        values = features.double()
        self.mean = values.mean(0)
        deviation = values.std(0, correction=0)
        # What never varies says nothing, and must not become infinite.
        self.scale = torch.where(deviation > 0, deviation, 1.0)
        scaled = (values - self.mean) / self.scale
        fitted: Any = SVC(C=self.penalty, gamma="scale", break_ties=True)
        fitted.fit(scaled.numpy(), labels.numpy())
        self.gamma = torch.tensor(fitted._gamma, dtype=torch.float64)
        self.vectors = torch.from_numpy(fitted.support_vectors_)
        counts = torch.from_numpy(fitted.n_support_).long()
        self.owners = torch.arange(len(counts)).repeat_interleave(counts)
        # With two classes scikit-learn turns the signs, so that positive means the second.
        sign = -1.0 if len(counts) == 2 else 1.0
        self.weights = sign * torch.from_numpy(fitted.dual_coef_.copy())
        self.offsets = sign * torch.from_numpy(fitted.intercept_.copy())
        self.known = torch.from_numpy(fitted.classes_).long()

    def forward(self, features: Tensor) -> Tensor:
        if not len(self.vectors):
            raise InputError("these support vectors are not fitted; train the model first")
        scores = self._votes(self._decisions(features))
        every = torch.full((len(features), len(self.target.classes)), -1.0, device=features.device)
        every[:, self.known] = scores.float()
        return every

    def _decisions(self, features: Tensor) -> Tensor:
        """``(batch, pair)``, pairs in the order 01, 02, …, 12, …; positive speaks for the first."""
        scaled = (features.double() - self.mean) / self.scale
        kernel = (-self.gamma * torch.cdist(scaled, self.vectors).square()).exp()
        pairs = []
        for first in range(len(self.known)):
            for second in range(first + 1, len(self.known)):
                one, other = self.owners == first, self.owners == second
                for_first = kernel[:, one] @ self.weights[second - 1, one]
                for_second = kernel[:, other] @ self.weights[first, other]
                pairs.append(for_first + for_second)
        return torch.stack(pairs, dim=1) + self.offsets

    def _votes(self, decisions: Tensor) -> Tensor:
        """Votes ``(batch, known class)``, and less than a third of a vote from the sum of decisions."""
        count = len(self.known)
        votes = decisions.new_zeros(len(decisions), count)
        sums = torch.zeros_like(votes)
        pair = 0
        for first in range(count):
            for second in range(first + 1, count):
                decision = decisions[:, pair]
                # Zero speaks for the first, as in scikit-learn.
                votes[:, first] += decision >= 0
                votes[:, second] += decision < 0
                sums[:, first] += decision
                sums[:, second] -= decision
                pair += 1
        return votes + sums / (3 * (sums.abs() + 1))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        for name in _BUFFER_NAMES:  # as many as were fitted
            if prefix + name in state_dict:
                setattr(
                    self, name, torch.empty_like(state_dict[prefix + name], dtype=getattr(self, name).dtype)
                )
        super()._load_from_state_dict(state_dict, prefix, *rest)
