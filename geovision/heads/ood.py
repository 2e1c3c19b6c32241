"""Out-of-distribution score: distance of an input from the training data."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geovision.errors import InputError

__all__ = ["FeatureDistance"]

_MAX_BASIS_SIZE = 128_000
"""Largest number of values in the basis, 250 kB in half precision."""

_NUM_FOLDS = 5
"""Number of folds if the threshold is fitted to the training set by cross-validation."""


class FeatureDistance(nn.Module):
    """Outlier score from the residual of features outside a principal subspace.

    The feature vector is scaled to length 1. The score is the length of its residual outside the leading
    principal components of the training set (Wang et al. 2022, arXiv:2203.10807, on normalized features).
    Features of ordinary inputs are near a subspace of few dimensions; those of unusual inputs are not. The
    fit is in closed form. In `benchmarks/cloud_outliers.py`, it is the best of the scores that need no
    stored training set and no classes.

    Args:
        num_features: Length of the feature vector.
        components: Number of principal components; fewer if the arrays would become large. Default: 100.
        feature_slice: Slice of the features that are used. Default: None, all features.

    Shape:
        features ``(batch, num_features)`` -> scores ``(batch,)``. An input with a score above 1 is an
        outlier. The score is NaN before the fit.
    """

    mean: Tensor
    basis: Tensor
    threshold: Tensor

    def __init__(
        self, num_features: int, components: int = 100, *, feature_slice: slice | None = None
    ) -> None:
        super().__init__()
        self.feature_slice = feature_slice or slice(None)
        self.num_features, num_features = num_features, len(range(num_features)[self.feature_slice])
        # A subspace of all dimensions would leave no residual.
        components = max(1, min(components, _MAX_BASIS_SIZE // num_features, num_features // 2))
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("basis", torch.zeros(num_features, components))
        # NaN until fitted, so that an unfitted score is never mistaken for a small one.
        self.register_buffer("threshold", torch.full((), torch.nan))

    @property
    def fitted(self) -> bool:
        """Whether the score is fitted."""
        return bool(torch.isfinite(self.threshold))

    def forward(self, features: Tensor) -> Tensor:
        """Return the score of each sample in units of the threshold.

        Args:
            features: Features, shape ``(batch, num_features)``.
        """
        return self._distance(features) / self.threshold

    def _distance(self, features: Tensor) -> Tensor:
        centered = F.normalize(features[:, self.feature_slice].float(), dim=1) - self.mean
        distance: Tensor = (centered - centered @ self.basis @ self.basis.T).norm(dim=1)
        return distance

    @torch.no_grad()
    def fit(self, features: Tensor, *, held_out: Tensor | None = None, quantile: float = 0.98) -> None:
        """Fit the score to the features of a training set.

        Args:
            features: Features of the training set, shape ``(sample, num_features)``, at least two samples.
            held_out: Features of ordinary inputs that were not trained on, shape ``(sample, num_features)``;
                the threshold is their `quantile`. Default: None, cross-validation on five folds of the
                training set. The distances are then smaller than those of new inputs, because the network
                was trained on these samples.
            quantile: Fraction of ordinary inputs with a score of at most 1. Default: 0.98.

        Raises:
            InputError: There are fewer than two samples, or the features have another length.
        """
        if features.ndim != 2 or features.shape[1] != self.num_features or len(features) < 2:
            raise InputError(
                f"features have shape {tuple(features.shape)}; the outlier score expects "
                f"(samples, {self.num_features}) with at least 2 samples"
            )
        if held_out is None:
            fold = torch.arange(len(features)) % _NUM_FOLDS
            reference = torch.cat(
                [
                    self._fit_subspace(features[fold != each])._distance(features[fold == each])
                    for each in range(min(_NUM_FOLDS, len(features)))
                ]
            )
            self._fit_subspace(features)
        else:
            reference = self._fit_subspace(features)._distance(held_out)
        self.threshold.copy_(torch.quantile(reference, quantile).clamp_min(1e-6))

    def _fit_subspace(self, features: Tensor) -> FeatureDistance:
        """Fit mean and basis to features and return this module."""
        directions = F.normalize(features[:, self.feature_slice].double(), dim=1)
        mean = directions.mean(0)
        _, _, components = torch.linalg.svd(directions - mean, full_matrices=False)
        # With as many components as samples, every sample would have a residual of 0.
        kept = min(self.basis.shape[1], max(1, len(features) // 2))
        self.mean.copy_(mean)
        self.basis.zero_()
        # Round to the stored precision, so that the threshold applies to the saved basis.
        self.basis[:, :kept] = components[:kept].T.half()
        return self
