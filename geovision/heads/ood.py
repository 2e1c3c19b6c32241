"""How far an input lies from everything that a model was trained on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geovision.errors import InputError

__all__ = ["FeatureDistance"]

_MAX_BASIS_SIZE = 128_000
"""At most so many numbers in the basis: 250 kB in half precision."""

_NUM_FOLDS = 5
"""In turn left out where the training set sets its own threshold."""


class FeatureDistance(nn.Module):
    """Length of what is left of a feature vector, scaled to length 1, outside the leading principal
    components of the training set.

    Features of ordinary inputs lie near a plane of few dimensions; those of strange inputs leave it
    (the residual of Wang et al. 2022, arXiv:2203.10807, on normalised features). Fitted in closed
    form. Among the scores that `benchmarks/cloud_outliers.py` compares it is the best that needs
    neither the training set at hand nor the classes.

    Args:
        num_features: Length of the feature vector.
        components: Principal components kept; fewer where the arrays would become large.
        feature_slice: Which of the features are looked at; None: all.

    Shape:
        features ``(batch, num_features)`` -> scores ``(batch,)``; 1 is the threshold, above it the
        input is called an outlier. Not fitted: NaN.
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
        # A plane that fills the space leaves nothing outside.
        components = max(1, min(components, _MAX_BASIS_SIZE // num_features, num_features // 2))
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("basis", torch.zeros(num_features, components))
        # NaN until fitted, so that an unfitted score is never mistaken for a small one.
        self.register_buffer("threshold", torch.full((), torch.nan))

    @property
    def fitted(self) -> bool:
        return bool(torch.isfinite(self.threshold))

    def forward(self, features: Tensor) -> Tensor:
        """The score of each sample, in units of the threshold."""
        return self._distance(features) / self.threshold

    def _distance(self, features: Tensor) -> Tensor:
        centred = F.normalize(features[:, self.feature_slice].float(), dim=1) - self.mean
        return (centred - centred @ self.basis @ self.basis.T).norm(dim=1)

    @torch.no_grad()
    def fit(self, features: Tensor, *, held_out: Tensor | None = None, quantile: float = 0.98) -> None:
        """Fit to the features of a training set.

        Args:
            features: ``(samples, num_features)`` of the training set, two samples or more.
            held_out: Features of ordinary inputs that were not trained on; the threshold is their
                `quantile`. Where there are none, a fifth of the training set after the other stands in,
                each beside a plane that was laid through the other four; what the network itself has
                learnt by heart still makes them nearer than new inputs will be.
            quantile: Fraction of such inputs that the threshold lets pass.

        Raises:
            InputError: Too few samples, or of another length.
        """
        if features.ndim != 2 or features.shape[1] != self.num_features or len(features) < 2:
            raise InputError(
                f"the outlier score needs features (samples, {self.num_features}), two samples or more; "
                f"got shape {tuple(features.shape)}"
            )
        if held_out is None:
            part = torch.arange(len(features)) % _NUM_FOLDS
            reference = torch.cat(
                [
                    self._fit_subspace(features[part != each])._distance(features[part == each])
                    for each in range(min(_NUM_FOLDS, len(features)))
                ]
            )
            self._fit_subspace(features)
        else:
            reference = self._fit_subspace(features)._distance(held_out)
        self.threshold.copy_(torch.quantile(reference, quantile).clamp_min(1e-6))

    def _fit_subspace(self, features: Tensor) -> FeatureDistance:
        """Lay the plane through these features; itself."""
        directions = F.normalize(features[:, self.feature_slice].double(), dim=1)
        mean = directions.mean(0)
        _, _, components = torch.linalg.svd(directions - mean, full_matrices=False)
        # Never as many components as samples: they would pass through every one of them.
        kept = min(self.basis.shape[1], max(1, len(features) // 2))
        self.mean.copy_(mean)
        self.basis.zero_()
        # Rounded as it is stored, so that the threshold is that of the saved score.
        self.basis[:, :kept] = components[:kept].T.half()
        return self
