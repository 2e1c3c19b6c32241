"""How far a picture lies from everything that a model was trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["FeatureDistance"]


class FeatureDistance(nn.Module):
    """Mahalanobis distance of features in the leading principal components of the training set,
    plus the residual outside them.

    Fitted in closed form. A distance in a few components keeps the arrays small (features x
    components) and their covariance well conditioned; the residual is the distance that those
    components cannot see (Lee et al. 2018, arXiv:1807.03888; Wang et al. 2022, arXiv:2203.10807).

    Args:
        num_features: Length of the feature vector.
        components: Principal components kept.

    Shape:
        features ``(batch, num_features)`` -> scores ``(batch,)``; 1 is the threshold, above it the
        picture is called an outlier. Not fitted: NaN.
    """

    mean: Tensor
    basis: Tensor
    scale: Tensor
    residual_scale: Tensor
    threshold: Tensor

    def __init__(self, num_features: int, components: int = 64) -> None:
        super().__init__()
        components = min(components, num_features)
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("basis", torch.zeros(num_features, components))
        self.register_buffer("scale", torch.ones(components))
        self.register_buffer("residual_scale", torch.ones(()))
        # NaN until fitted, so that an unfitted score is never mistaken for a small one.
        self.register_buffer("threshold", torch.full((), torch.nan))

    @property
    def fitted(self) -> bool:
        return bool(torch.isfinite(self.threshold))

    def forward(self, features: Tensor) -> Tensor:
        """The score of each sample, in units of the threshold."""
        return self._distance(features) / self.threshold

    def _distance(self, features: Tensor) -> Tensor:
        centred = features.float() - self.mean
        inside = centred @ self.basis
        residual = (centred.square().sum(1) - inside.square().sum(1)).clamp_min(0)
        return ((inside / self.scale).square().sum(1) + residual / self.residual_scale).sqrt()

    @torch.no_grad()
    def fit(self, features: Tensor, *, held_out: Tensor | None = None, quantile: float = 0.99) -> None:
        """Fit to the features of a training set.

        Args:
            features: ``(samples, num_features)`` of the training set.
            held_out: Features of pictures of the same kind that were not trained on; the threshold
                is their `quantile`. The training set's own serve where there are none, and are
                nearer than new pictures will be.
            quantile: Fraction of such pictures that the threshold lets pass.
        """
        features = features.double()
        mean = features.mean(0)
        _, singular, components = torch.linalg.svd(features - mean, full_matrices=False)
        kept = min(self.basis.shape[1], len(singular))
        variance = singular.square() / max(len(features) - 1, 1)
        self.mean.copy_(mean)
        self.basis.zero_()
        self.basis[:, :kept] = components[:kept].T
        self.scale.fill_(1.0)
        self.scale[:kept] = variance[:kept].sqrt().clamp_min(1e-6)
        outside = variance[kept:].sum() / max(features.shape[1] - kept, 1)
        self.residual_scale.copy_(outside.clamp_min(1e-6))
        reference = self._distance((held_out if held_out is not None else features).float())
        self.threshold.copy_(torch.quantile(reference, quantile))
