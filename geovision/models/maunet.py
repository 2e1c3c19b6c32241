"""MAUNet (Mishra Sharma and Mitra 2024, Neural Comput. Appl.) and MAUNet-Light (arXiv:2602.12980).

Published: a U-Net whose encoder replaces pooling by the mean of maximum pooling and average pooling, and
whose decoder averages two methods of upsampling. One architecture serves for downscaling and for bias
correction of rain. A light version has about 60 % of the parameters. Depth, widths and rates are not
published. Our reconstruction::

    MAU(x)  = (MaxPool 2x2 (x) + AvgPool 2x2 (x)) / 2                         as published, in words
    USU(x)  = (ConvTranspose 2x2, stride 2 (x) + Conv 3x3 (Bilinear x2 (x))) / 2
    stage   = [Conv 3x3, ReLU] x 2, Dropout

    e1 = stage(x);  e2 = stage(MAU(e1));  e3 = stage(MAU(e2));  e4 = stage(MAU(e3))
    d3 = stage([USU(e4), e3]);  d2 = stage([USU(d3), e2]);  d1 = stage([USU(d2), e1])
    features = (stage(USU))^k (d1)                               for a grid 2^k times as fine

The widths are 64, 128, 256 and 512. The 1x1 convolutions to the prediction belong to the head. For other
factors, the input is first interpolated to the required grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geovision.errors import OptionError
from geovision.spec import AS_PUBLISHED, OUR_RECONSTRUCTION, EvidenceLevel

__all__ = [
    "HIDDEN_CHANNELS",
    "LIGHT_HIDDEN_CHANNELS",
    "MARKS",
    "ConvBlock",
    "MAUNet",
    "MaxAverageUnit",
    "UpSamplerUnit",
]

HIDDEN_CHANNELS = (64, 128, 256, 512)
"""Channels of the stages, finest first: our reconstruction."""

LIGHT_HIDDEN_CHANNELS = (50, 100, 200, 400)
"""Channels of MAUNet-Light, finest first: our reconstruction of "about 60 %" of the parameters.

They are 0.78 of `HIDDEN_CHANNELS`, which results in 0.61 of the parameters.
"""

MARKS: Mapping[str, EvidenceLevel] = {
    "factor": AS_PUBLISHED,  # 4, and 1 for bias correction
    "widths": OUR_RECONSTRUCTION,
    "dropout": OUR_RECONSTRUCTION,  # its use is published, its rate is not
    "pooling": AS_PUBLISHED,  # in words; the weights of the average are ours
    "upsampling": OUR_RECONSTRUCTION,  # the average of two methods is published
}
"""Evidence of the default of each option of `MAUNet`."""

Pooling = Literal["mau", "max", "average"]
Upsampling = Literal["usu", "transposed", "interpolate"]


class MaxAverageUnit(nn.Module):
    """Mean of the maximum and the average of 2 x 2 cells.

    The maximum preserves peaks, the average preserves totals.

    Shape:
        ``(batch, channel, y, x)`` -> ``(batch, channel, y // 2, x // 2)``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the pooled maps."""
        return (F.max_pool2d(x, 2) + F.avg_pool2d(x, 2)) / 2


class UpSamplerUnit(nn.Module):
    """Mean of two upsampled fields with twice the resolution.

    One is a transposed convolution, the other a convolution of the bilinearly interpolated field. The average
    of two methods is published; the rest is our reconstruction.

    Args:
        in_channels: Number of input channels.
        out_channels: Number of output channels.
        upsampling: ``"usu"`` for both methods, ``"transposed"`` or ``"interpolate"`` for one of them, for
            comparison. Default: ``"usu"``.

    Shape:
        ``(batch, in_channels, y, x)`` -> ``(batch, out_channels, 2 y, 2 x)``.
    """

    def __init__(self, in_channels: int, out_channels: int, *, upsampling: Upsampling = "usu") -> None:
        super().__init__()
        self.transposed = (
            nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
            if upsampling != "interpolate"
            else None
        )
        self.smooth = (
            nn.Conv2d(in_channels, out_channels, 3, padding=1) if upsampling != "transposed" else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the upsampled maps."""
        ways = []
        if self.transposed is not None:
            ways.append(self.transposed(x))
        if self.smooth is not None:
            # Without aligned corners, the position of a cell does not depend on the size of the field.
            finer = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            ways.append(self.smooth(finer))
        return sum(ways[1:], ways[0]) / len(ways)


class ConvBlock(nn.Sequential):
    """Two 3x3 convolutions with ReLU, and dropout of complete channels.

    Args:
        channels: Number of input channels.
        filters: Number of output channels.
        dropout: Dropout probability, 0 to 1.

    Shape:
        ``(batch, channels, y, x)`` -> ``(batch, filters, y, x)``.
    """

    def __init__(self, channels: int, filters: int, *, dropout: float) -> None:
        super().__init__(
            nn.Conv2d(channels, filters, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(filters, filters, 3, padding=1),
            nn.ReLU(),
            nn.Dropout2d(dropout),
        )


class MAUNet(nn.Module):
    """MAUNet up to the features of its last stage.

    Every argument but `in_channels` and `factor` is our reconstruction; the published text does not specify
    them.

    Args:
        in_channels: Number of input channels.
        factor: Number of output cells per input cell along each side; 1 for bias correction on the same grid.
            A power of two is obtained with upsampling units, any other factor by interpolation before the
            first stage. Default: 1.
        widths: Channels of the stages, finest first. The number of poolings is smaller by one.
            Default: `HIDDEN_CHANNELS`.
        dropout: Dropout probability of complete channels after each stage. Default: 0.1.
        pooling: ``"mau"``, or ``"max"`` or ``"average"`` for comparison. Default: ``"mau"``.
        upsampling: ``"usu"``, or one of its two methods, ``"transposed"`` or ``"interpolate"``. Default:
            ``"usu"``.

    Attributes:
        num_features: Number of features per output cell.

    Shape:
        ``(batch, in_channels, y, x)``, any size -> ``(batch, num_features, factor y, factor x)``, or the
        requested size, in the same area. `geovision.readers.grids.regrid` converts grids of other areas.

    Raises:
        OptionError: The factor is below 1, or fewer than two widths are given.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        factor: int = 1,
        widths: Sequence[int] = HIDDEN_CHANNELS,
        dropout: float = 0.1,
        pooling: Pooling = "mau",
        upsampling: Upsampling = "usu",
    ) -> None:
        super().__init__()
        if factor < 1 or len(widths) < 2:
            raise OptionError(
                f"factor={factor} and widths={tuple(widths)}: expected a factor of 1 or more "
                "and at least two widths"
            )
        self.factor = factor
        self.num_upsamplings = int(math.log2(factor)) if factor & (factor - 1) == 0 else 0
        self.downsample = {"mau": MaxAverageUnit(), "max": nn.MaxPool2d(2), "average": nn.AvgPool2d(2)}[
            pooling
        ]
        self.encoder = nn.ModuleList(
            ConvBlock(a, b, dropout=dropout) for a, b in zip([in_channels, *widths], widths, strict=False)
        )
        pairs = [(wide, narrow) for narrow, wide in pairwise(widths)][::-1]
        self.upsample = nn.ModuleList(UpSamplerUnit(a, b, upsampling=upsampling) for a, b in pairs)
        self.decoder = nn.ModuleList(ConvBlock(2 * b, b, dropout=dropout) for _, b in pairs)
        self.num_features = widths[0]
        self.refine = nn.ModuleList(
            nn.Sequential(
                UpSamplerUnit(widths[0], widths[0], upsampling=upsampling),
                ConvBlock(widths[0], widths[0], dropout=dropout),
            )
            for _ in range(self.num_upsamplings)
        )

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Compute features on the output grid.

        Args:
            x: Fields, shape (batch, in_channels, y, x).
            size: Height and width of the output, in cells. Default: `factor` times those of the input.
        """
        height, width = size or (x.shape[-2] * self.factor, x.shape[-1] * self.factor)
        if (height, width) != (x.shape[-2] * 2**self.num_upsamplings, x.shape[-1] * 2**self.num_upsamplings):
            # The units refine by 2^k; the remaining factor is applied by interpolation before them.
            before = (-(-height // 2**self.num_upsamplings), -(-width // 2**self.num_upsamplings))
            x = F.interpolate(x, before, mode="bilinear", align_corners=False)
        x = self._unet(x)
        for unit in self.refine:
            x = unit(x)
        return x[..., :height, :width]

    def _unet(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = _pad_to_multiple(x, 2 ** (len(self.encoder) - 1))
        skips = []
        for stage in self.encoder[:-1]:  # type: ignore[union-attr]
            x = stage(x)
            skips.append(x)
            x = self.downsample(x)
        x = self.encoder[-1](x)
        for upsample, stage in zip(self.upsample, self.decoder, strict=True):
            x = stage(torch.cat([upsample(x), skips.pop()], dim=1))
        return x[..., :height, :width]


def _pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column up to a multiple."""
    below, right = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    return F.pad(x, (0, right, 0, below), mode="replicate") if below or right else x
