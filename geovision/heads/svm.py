"""Classification head of support-vector machines with a radial kernel."""

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
    """Classification head of one support-vector machine per pair of classes.

    See Cortes and Vapnik 1995, doi:10.1007/BF00994018. scikit-learn's `SVC` fits the machines. The scores are
    their votes; the sums of their decisions break ties, as in scikit-learn. The kernel is
    ``exp(-gamma |x - v|^2)`` on features scaled to zero mean and unit variance.

    Args:
        num_features: Length of the feature vector.
        target: Classes in the order of the logits.
        dropout: Ignored by this head.
        penalty: Regularization parameter C of the machines. Default: 10.

    Shape:
        features ``(batch, num_features)`` -> scores ``(batch, class)``, used as logits; a class without
        training samples has the lowest score.
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
        # Support vectors, the class of each, its weight against each other class, the offset of each pair,
        # and the classes of the training set.
        self.register_buffer("vectors", torch.zeros(0, num_features, dtype=torch.float64))
        self.register_buffer("owners", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("weights", torch.zeros(0, 0, dtype=torch.float64))
        self.register_buffer("offsets", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("known", torch.zeros(0, dtype=torch.int64))

    def fit(self, features: Tensor, labels: Tensor) -> None:
        """Fit the machines to a training set.

        Args:
            features: Features, shape ``(sample, num_features)``.
            labels: Class indices, shape ``(sample,)``.

        Raises:
            InputError: All samples have the same class.
            MissingExtraError: scikit-learn is not installed.
        """
        try:
            from sklearn.svm import SVC
        except ImportError as error:
            raise MissingExtraError("scikit-learn", "train") from error
        if len(labels.unique()) < 2:
            raise InputError(
                "all samples have the same class; a support-vector machine needs two classes or more"
            )
        values = features.double()
        self.mean = values.mean(0)
        deviation = values.std(0, correction=0)
        # A constant feature contains no information; a scale of 1 avoids a division by zero.
        self.scale = torch.where(deviation > 0, deviation, 1.0)
        scaled = (values - self.mean) / self.scale
        fitted: Any = SVC(C=self.penalty, gamma="scale", break_ties=True)
        fitted.fit(scaled.numpy(), labels.numpy())
        self.gamma = torch.tensor(fitted._gamma, dtype=torch.float64)
        self.vectors = torch.from_numpy(fitted.support_vectors_)
        counts = torch.from_numpy(fitted.n_support_).long()
        self.owners = torch.arange(len(counts)).repeat_interleave(counts)
        # With two classes, scikit-learn inverts the signs: positive means the second class.
        sign = -1.0 if len(counts) == 2 else 1.0
        self.weights = sign * torch.from_numpy(fitted.dual_coef_.copy())
        self.offsets = sign * torch.from_numpy(fitted.intercept_.copy())
        self.known = torch.from_numpy(fitted.classes_).long()

    def forward(self, features: Tensor) -> Tensor:
        """Return the scores, shape ``(batch, class)``.

        Args:
            features: Features, shape ``(batch, num_features)``.

        Raises:
            InputError: The head is not fitted.
        """
        if not len(self.vectors):
            raise InputError("the support-vector machine is not fitted; train the model first")
        scores = self._votes(self._decisions(features))
        every = torch.full((len(features), len(self.target.classes)), -1.0, device=features.device)
        every[:, self.known] = scores.float()
        return every

    def _decisions(self, features: Tensor) -> Tensor:
        """Return the decisions, shape ``(batch, pair)``; positive values favor the first class.

        The order of the pairs is 01, 02, …, 12, …
        """
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
        """Return the votes for each class of the training set.

        A fraction of less than a third of a vote breaks ties; it increases with the sum of the decisions.
        """
        count = len(self.known)
        votes = decisions.new_zeros(len(decisions), count)
        sums = torch.zeros_like(votes)
        pair = 0
        for first in range(count):
            for second in range(first + 1, count):
                decision = decisions[:, pair]
                # A decision of zero favors the first class, as in scikit-learn.
                votes[:, first] += decision >= 0
                votes[:, second] += decision < 0
                sums[:, first] += decision
                sums[:, second] -= decision
                pair += 1
        return votes + sums / (3 * (sums.abs() + 1))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        for name in _BUFFER_NAMES:  # their sizes depend on the training set
            if prefix + name in state_dict:
                setattr(
                    self, name, torch.empty_like(state_dict[prefix + name], dtype=getattr(self, name).dtype)
                )
        super()._load_from_state_dict(state_dict, prefix, *rest)
