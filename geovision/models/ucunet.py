"""UCUNet of HINet (Zhang et al. 2024).

UCUNet is a U-Net with small U-Nets in its skip connections.

Published: three connection modules (UCM) of depth 7, 5 and 3, with "k3, s1, L = 3". They consist of
[Conv 3x3, BN, ReLU], followed by [ConvTranspose 3x3, BN, ReLU]. The input has the shape 16 x 128 x 128, the
output 1 x 128 x 128. The rest is our reconstruction. With w = 32, 64, 128, 256 and pool = MaxPool 2x2::

    stage = [Conv 3x3, BN, ReLU] x 2
    up    = ConvTranspose 3x3, stride 2, BN, ReLU

    e1 = stage(x);  e2 = stage(pool e1);  e3 = stage(pool e2);  e4 = stage(pool e3)
    d3 = stage[up(e4), UCM_3(e3)];  d2 = stage[up(d3), UCM_5(e2)];  features = stage[up(d2), UCM_7(e1)]

    UCM with L steps down and L steps up, depth 2L + 1 and constant width:
    s_0 = x;  s_j = down_j(s_{j-1});  y_L = bottom(s_L);  y_{j-1} = up_j(y_j) + s_{j-1};  UCM(x) = y_0

The deepest UCM processes the largest map. There are two readings of "stride 1", with equal numbers of
parameters. ``"strided"`` (default): down and up have stride 2. The lowest level of all three UCMs then has
the resolution of the lowest level of the U-Net, 16 x 16 for 128 x 128. ``"valid"``: stride 1 without padding.
The map loses a border of L cells, which the transposed convolutions restore.

A 1x1 convolution to the logit belongs to the head. With it and 16 input channels, the network has 2,841,633
parameters, of which 693,984 belong to the UCMs.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from geovision.errors import OptionError

__all__ = ["UCM", "UCMVariant", "UCUNet"]

UCMVariant = Literal["strided", "valid"]


def _convolution(in_channels: int, out_channels: int, *, stride: int = 1, padding: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=padding),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def _transposed(in_channels: int, out_channels: int, *, stride: int = 2, padding: int = 1) -> nn.Sequential:
    # With stride 2, two sizes of the larger map are possible; the output padding selects the even one.
    return nn.Sequential(
        nn.ConvTranspose2d(
            in_channels, out_channels, 3, stride=stride, padding=padding, output_padding=stride - 1
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def _conv_block(channels: int, filters: int) -> nn.Sequential:
    return nn.Sequential(_convolution(channels, filters), _convolution(filters, filters))


class UCM(nn.Module):
    """U-connection module (UCM), described in the module docstring.

    Args:
        hidden_channels: Number of channels.
        depth: Number L of steps down; the depth of the paper is 2L + 1.
        variant: ``"strided"`` or ``"valid"``. Default: ``"strided"``.

    Shape:
        ``(batch, hidden_channels, y, x)`` -> the same shape. Sizes are multiples of 2^L cells for
        ``"strided"``, and more than 2L cells for ``"valid"``.

    Raises:
        OptionError: The variant is unknown.
    """

    def __init__(self, hidden_channels: int, depth: int, variant: UCMVariant = "strided") -> None:
        super().__init__()
        if variant not in ("strided", "valid"):
            raise OptionError(f"ucm={variant!r} is unknown; choose strided or valid")
        stride, padding = (2, 1) if variant == "strided" else (1, 0)
        self.down = nn.ModuleList(
            _convolution(hidden_channels, hidden_channels, stride=stride, padding=padding)
            for _ in range(depth)
        )
        self.bottom = _convolution(hidden_channels, hidden_channels)
        self.up = nn.ModuleList(
            _transposed(hidden_channels, hidden_channels, stride=stride, padding=padding)
            for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps of a skip connection."""
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(x)
        x = self.bottom(x)
        for up in self.up:
            x = up(x) + skips.pop()
        return x


class UCUNet(nn.Module):
    """UCUNet up to the features of its last stage.

    Args:
        in_channels: Number of input channels.
        hidden_channels: Number of channels of the first stage. Each later stage has twice as many as the one
            before. Default: 32.
        ucm_variant: Reading of the connection modules, ``"strided"`` or ``"valid"``. Default: ``"strided"``.

    Attributes:
        num_features: Number of features per cell, `hidden_channels`.
        divisor: Divisor of the height and width of the input, in cells.

    Shape:
        ``(batch, in_channels, y, x)`` -> ``(batch, hidden_channels, y, x)``.
    """

    divisor = 8

    def __init__(
        self, in_channels: int, hidden_channels: int = 32, *, ucm_variant: UCMVariant = "strided"
    ) -> None:
        super().__init__()
        widths = [hidden_channels * 2**level for level in range(4)]
        self.num_features = hidden_channels
        self.encoder = nn.ModuleList(_conv_block(a, b) for a, b in pairwise([in_channels, *widths]))
        # Each stage has its own pooling module, because DeepLIFT does not support reused modules.
        self.pool = nn.ModuleList(nn.MaxPool2d(2) for _ in widths[1:])
        self.connect = nn.ModuleList(
            UCM(width, steps, ucm_variant) for width, steps in zip(widths, (3, 2, 1), strict=False)
        )
        self.up = nn.ModuleList(_transposed(b, a) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(_conv_block(2 * a, a) for a in widths[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Compute the features, shape (batch, hidden_channels, y, x)."""
        skips = []
        for stage, pool, connect in zip(self.encoder, self.pool, self.connect, strict=False):
            x = stage(x)
            skips.append(connect(x))
            x = pool(x)
        x = self.encoder[-1](x)
        for up, stage, skip in reversed(list(zip(self.up, self.decoder, skips, strict=True))):
            x = stage(torch.cat([up(x), skip], dim=1))
        return x
