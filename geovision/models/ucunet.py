"""UCUNet of HINet (Zhang et al. 2024): a U-Net whose skip connections pass through small U's.

Published: three connection modules (UCM) of depth 7, 5 and 3, of [Conv 3x3, BN, ReLU] and then
[ConvTranspose 3x3, BN, ReLU], "k3, s1, L = 3"; 16 x 128 x 128 in, 1 x 128 x 128 out. The rest is our
reconstruction. With w = 32, 64, 128, 256 and pool = MaxPool 2x2:

    stage = [Conv 3x3, BN, ReLU] x 2
    up    = ConvTranspose 3x3, stride 2, BN, ReLU

    e1 = stage(x);  e2 = stage(pool e1);  e3 = stage(pool e2);  e4 = stage(pool e3)
    d3 = stage[up(e4), UCM_3(e3)];  d2 = stage[up(d3), UCM_5(e2)];  features = stage[up(d2), UCM_7(e1)]

    UCM, L steps down and up, depth 2L + 1, the same width throughout:
    s_0 = x;  s_j = down_j(s_{j-1});  y_L = bottom(s_L);  y_{j-1} = up_j(y_j) + s_{j-1};  UCM(x) = y_0

The deepest stands on the largest map. Two readings of "stride 1", with as many parameters:
``"strided"`` (default): down and up have stride 2, so that all three bottom out where the U-Net does, 16 x 16
for 128 x 128. ``"valid"``: stride 1 without padding; the map loses a border of L cells, which the transposed
convolutions give back.

A convolution 1x1 to the logit is the head's; with it and 16 channels in: 2,841,633 parameters, 693,984 of
them in the UCMs.
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
    # A stride of 2 leaves open which of two sizes the map had; it was the even one.
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
    """U-connection module, see the file.

    Args:
        hidden_channels: Channels.
        depth: L; the depth is 2L + 1.
        variant: ``"strided"`` or ``"valid"``.

    Shape:
        ``(batch, width, y, x)`` -> the same; ``"strided"`` takes multiples of 2^L cells, ``"valid"`` more
        than 2L.
    """

    def __init__(self, hidden_channels: int, depth: int, variant: UCMVariant = "strided") -> None:
        super().__init__()
        if variant not in ("strided", "valid"):
            raise OptionError(f"ucm={variant!r} is not known; choose strided or valid")
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
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(x)
        x = self.bottom(x)
        for up in self.up:
            x = up(x) + skips.pop()
        return x


class UCUNet(nn.Module):
    """See the file.

    Args:
        in_channels: Of the input.
        hidden_channels: Of the first stage; every later one has twice as many.
        ucm_variant: Reading of the connection modules.

    Attributes:
        num_features: Of every cell; `width`.
        divisor: Height and width of the input are multiples of it.

    Shape:
        ``(batch, channels, y, x)`` -> ``(batch, width, y, x)``.
    """

    divisor = 8

    def __init__(
        self, in_channels: int, hidden_channels: int = 32, *, ucm_variant: UCMVariant = "strided"
    ) -> None:
        super().__init__()
        widths = [hidden_channels * 2**level for level in range(4)]
        self.num_features = hidden_channels
        self.encoder = nn.ModuleList(_conv_block(a, b) for a, b in pairwise([in_channels, *widths]))
        # A pool of its own after each stage: DeepLIFT takes no module twice.
        self.pool = nn.ModuleList(nn.MaxPool2d(2) for _ in widths[1:])
        self.connect = nn.ModuleList(
            UCM(width, steps, ucm_variant) for width, steps in zip(widths, (3, 2, 1), strict=False)
        )
        self.up = nn.ModuleList(_transposed(b, a) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(_conv_block(2 * a, a) for a in widths[:-1])

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for stage, pool, connect in zip(self.encoder, self.pool, self.connect, strict=False):
            x = stage(x)
            skips.append(connect(x))
            x = pool(x)
        x = self.encoder[-1](x)
        for up, stage, skip in reversed(list(zip(self.up, self.decoder, skips, strict=True))):
            x = stage(torch.cat([up(x), skip], dim=1))
        return x
