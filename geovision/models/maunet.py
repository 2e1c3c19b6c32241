"""MAUNet (Mishra Sharma and Mitra 2024, Neural Comput. Appl.) and MAUNet-Light (arXiv:2602.12980).

What is published: a U-Net whose encoder takes the mean of a maximum and an average where others pool, and
whose decoder averages two ways of making a field finer; one form of it for finer rain and for corrected
rain; a light one with about 60 % of the parameters. Depth, widths and rates are not. Ours:

    MAU(x)  = (MaxPool 2x2 (x) + AvgPool 2x2 (x)) / 2                         as published, in words
    USU(x)  = (ConvTranspose 2x2, stride 2 (x) + Conv 3x3 (Bilinear x2 (x))) / 2
    stage   = [Conv 3x3, ReLU] x 2, Dropout

    e1 = stage(x);  e2 = stage(MAU(e1));  e3 = stage(MAU(e2));  e4 = stage(MAU(e3))
    d3 = stage([USU(e4), e3]);  d2 = stage([USU(d3), e2]);  d1 = stage([USU(d2), e1])
    features = (stage(USU))^k (d1)                               for a grid 2^k times as fine

With widths 64, 128, 256, 512; 1x1 convolutions to the answer are the head's. For other grids the input is
brought to the wanted grid by interpolation first.
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
"""Of the stages, finest first: our reconstruction."""

LIGHT_HIDDEN_CHANNELS = (50, 100, 200, 400)
"""0.78 of `WIDTHS`, so that the parameters are 0.61 of theirs: our reconstruction of "about 60 %"."""

MARKS: Mapping[str, EvidenceLevel] = {
    "factor": AS_PUBLISHED,  # of 4, and of 1 for correction
    "widths": OUR_RECONSTRUCTION,
    "dropout": OUR_RECONSTRUCTION,  # that there is some is published
    "pooling": AS_PUBLISHED,  # in words; with what weights the two are averaged is ours
    "upsampling": OUR_RECONSTRUCTION,  # that it averages is published
}
"""Who says each option of `MAUNet` is as it is, at its default."""

Pooling = Literal["mau", "max", "average"]
Upsampling = Literal["usu", "transposed", "interpolate"]


class MaxAverageUnit(nn.Module):
    """The mean of the largest and of the average of 2 x 2 cells: the first keeps peaks, the second totals.

    Shape:
        ``(batch, channel, y, x)`` -> ``(batch, channel, y // 2, x // 2)``.
    """

    def forward(self, x: Tensor) -> Tensor:
        return (F.max_pool2d(x, 2) + F.avg_pool2d(x, 2)) / 2


class UpSamplerUnit(nn.Module):
    """The mean of two fields twice as fine: one learnt, by a transposed convolution, and one smooth, by a
    convolution of the interpolated field. Our reconstruction: that it averages is published.

    Args:
        in_channels: Of the input.
        out_channels: Of the output.
        upsampling: ``"usu"`` is both; ``"transposed"`` and ``"interpolate"`` are one alone, for comparison.

    Shape:
        ``(batch, channels, y, x)`` -> ``(batch, filters, 2 y, 2 x)``.
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
        ways = []
        if self.transposed is not None:
            ways.append(self.transposed(x))
        if self.smooth is not None:
            # Without aligned corners, so that a cell lies where it is whatever the size of the field.
            finer = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            ways.append(self.smooth(finer))
        return sum(ways[1:], ways[0]) / len(ways)


class ConvBlock(nn.Sequential):
    """Two convolutions 3x3 with ReLU, and dropout of whole channels.

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
    """The network, up to the features of its last stage.

    Every argument but `channels` and `factor` is our reconstruction; the published text fixes none.

    Args:
        in_channels: Of the input.
        factor: How many times finer the answer is along each side; 1 for correction on the same grid. A
            power of two is made by as many units; any other, by interpolation before the first stage.
        widths: Filters of the stages, finest first; one more than there are poolings.
        dropout: Of whole channels, after every stage.
        pooling: ``"mau"``, or ``"max"`` or ``"average"`` alone, for comparison.
        upsampling: ``"usu"``, or one of its two ways alone.

    Attributes:
        num_features: Of each cell of the answer.

    Shape:
        ``(batch, channels, y, x)``, any size -> ``(batch, num_features, factor y, factor x)``, or the size
        that is asked for, on the same ground. A grid that covers another ground is brought to it by
        `geovision.readers.grids.regrid`.
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
                f"factor={factor} and widths={tuple(widths)}: expected 1 or more, and two or more"
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
        """Features on a grid `factor` times as fine, or of (height, width) `size`."""
        height, width = size or (x.shape[-2] * self.factor, x.shape[-1] * self.factor)
        if (height, width) != (x.shape[-2] * 2**self.num_upsamplings, x.shape[-1] * 2**self.num_upsamplings):
            # Units make 2^k cells of one; what is left is interpolated before them.
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
            skips.append(x)  # taken before the unit
            x = self.downsample(x)
        x = self.encoder[-1](x)
        for upsample, stage in zip(self.upsample, self.decoder, strict=True):
            x = stage(torch.cat([upsample(x), skips.pop()], dim=1))
        return x[..., :height, :width]


def _pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """The field with its last row and column repeated up to a multiple of cells."""
    below, right = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    return F.pad(x, (0, right, 0, below), mode="replicate") if below or right else x
