"""Pixels of a coarse image as features, without a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from geovision.errors import OptionError
from geovision.spec import InputSpec, SampleContext

__all__ = ["PixelFeatures", "build"]


class PixelFeatures(nn.Module):
    """First input, averaged to a coarse grid and flattened to a vector.

    Args:
        input_name: Name of the input.
        channels: Number of channels of the input.
        grid: Height and width of the coarse grid, in cells.

    Attributes:
        num_features: Number of features, ``channels * grid * grid``.

    Shape:
        Image ``(batch, channel, y, x)``, normalized -> features ``(batch, channel * grid * grid)``.
    """

    def __init__(self, input_name: str, channels: int, grid: int) -> None:
        super().__init__()
        self.input_name, self.grid = input_name, grid
        self.num_features = channels * grid * grid

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
            context: Location and time of the samples; not used. Default: None.

        Returns:
            Features, shape (batch, channel * grid * grid).
        """
        return F.adaptive_avg_pool2d(inputs[self.input_name], self.grid).flatten(1)


def build(
    model_args: Mapping[str, Any], *, inputs: tuple[InputSpec, ...], size: tuple[int, int] | None
) -> PixelFeatures:
    """Build pixel features.

    Args:
        model_args: ``grid``, the height and width of the coarse grid.
        inputs: Input specifications. The first one is used.
        size: Size of the input; ignored, because every size is supported.

    Raises:
        OptionError: An option is unknown or missing, or the input is not an image.
    """
    if set(model_args) != {"grid"}:
        raise OptionError(f"pixel features have the single option 'grid', got {sorted(model_args)}")
    first = inputs[0]
    if first.layout != "channel y x":
        raise OptionError(f"input {first.name!r} has axes ({first.layout}); expected (channel y x)")
    return PixelFeatures(first.name, len(first.channels), model_args["grid"])
