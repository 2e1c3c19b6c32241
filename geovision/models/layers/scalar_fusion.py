"""Fusion of scalar measurements with the features of a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from geovision.models.protocols import HasOODFeatures
from geovision.spec import Channel, InputSpec, SampleContext

__all__ = ["SCALAR_INPUT_NAME", "ScalarFusion", "scalar_input"]

SCALAR_INPUT_NAME = "scalars"
"""Key of the measurements in a model's inputs."""


def scalar_input(channels: tuple[Channel, ...]) -> InputSpec:
    """Return the specification of an input of scalar measurements.

    Any of the measurements may be missing.

    Args:
        channels: Measurements, one value each.
    """
    return InputSpec(SCALAR_INPUT_NAME, channels, layout="channel", optional=True)


class ScalarFusion(nn.Module):
    """Backbone whose features are concatenated with an embedding of scalar measurements.

    A missing measurement enters as 0, the mean after normalization, with an indicator of 0. The network can
    therefore distinguish an average value from a missing one.

    Args:
        backbone: Network with the attribute `num_features`.
        count: Number of measurements.
        width: Length of the embedding. Default: 32.

    Shape:
        Inputs -> features ``(batch, backbone.num_features + width)``.
    """

    def __init__(self, backbone: nn.Module, count: int, *, width: int = 32) -> None:
        super().__init__()
        self.backbone = backbone
        self.count = count
        self.embed = nn.Sequential(nn.Linear(2 * count, width), nn.GELU(), nn.Linear(width, width), nn.GELU())
        own: Any = backbone.num_features
        self.num_features: int = own + width
        # Out-of-distribution scores use the image alone.
        self.outlier_features = (
            backbone.outlier_features if isinstance(backbone, HasOODFeatures) else slice(0, own)
        )

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        context: SampleContext | None = None,
    ) -> Tensor:
        """Compute the features of a batch.

        Args:
            inputs: Normalized inputs by name, each of shape ``(batch, *layout)``.
            valid: Valid values by input name, bool. Default: all values.
            context: Location and time of the samples. Default: None.

        Returns:
            Features, shape (batch, num_features).
        """
        features = self.backbone(inputs, valid=valid, context=context)
        values = inputs.get(SCALAR_INPUT_NAME)
        if values is None:
            values = features.new_zeros(features.shape[0], self.count)
            present = torch.zeros_like(values)
        elif valid is not None and SCALAR_INPUT_NAME in valid:
            present = valid[SCALAR_INPUT_NAME].to(features.dtype)
        else:
            present = torch.ones_like(values)
        embedding = self.embed(torch.cat([values * present, present], dim=1))
        return torch.cat([features, embedding], dim=1)
