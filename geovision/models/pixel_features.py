"""No network at all: the pixels themselves are the features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from geovision.errors import OptionError
from geovision.spec import InputSpec, SampleContext

__all__ = ["PixelFeatures", "build"]


class PixelFeatures(nn.Module):
    """The first input, averaged down to a coarse grid, as one vector.

    Args:
        input_name: The input's name.
        channels: Its channels.
        grid: Height and width of the coarse grid.

    Shape:
        image ``(batch, channel, y, x)``, normalised -> features ``(batch, channel * grid * grid)``.
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
        return F.adaptive_avg_pool2d(inputs[self.input_name], self.grid).flatten(1)


def build(
    model_args: Mapping[str, Any], *, inputs: tuple[InputSpec, ...], size: tuple[int, int] | None
) -> PixelFeatures:
    """The features that `arch` describes: ``grid``.

    Raises:
        OptionError: Another option, or an input that is no picture.
    """
    if set(model_args) != {"grid"}:
        raise OptionError(f"pixels take the option 'grid' alone, got {sorted(model_args)}")
    first = inputs[0]
    if first.layout != "channel y x":
        raise OptionError(f"pixels are read from (channel y x), not ({first.layout})")
    return PixelFeatures(first.name, len(first.channels), model_args["grid"])
