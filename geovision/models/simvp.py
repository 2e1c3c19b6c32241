"""SimVP (Gao et al. 2022, arXiv:2206.05099) with one output frame.

SimVP is a convolutional network for videos. The structure is::

    encoder     ConvSC x 4 on each frame, stride 2 in every second one:  enc1, .., z
    translator  all frames as channels: Inception x N down and N up, with skip connections
    decoder     ConvSC x 4, transposed where the encoder has a stride; the input of the last is [d, enc1]

    ConvSC      Conv 3x3, GroupNorm 2, LeakyReLU 0.2
    Inception   Conv 1x1, then the sum of grouped convolutions 3, 5, 7, 11, each with GroupNorm and LeakyReLU

The published translator returns as many frames as the input has. Here it returns one, and enc1 is that of the
last frame, because the target is the mask at the last time.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn

__all__ = ["ConvSC", "Inception", "SimVP", "Translator"]

_KERNELS = (3, 5, 7, 11)
_STRIDES = (1, 2, 1, 2)


class ConvSC(nn.Sequential):
    """ConvSC block: convolution, group normalization and LeakyReLU.

    Args:
        in_channels: Number of input channels.
        out_channels: Number of output channels, even.
        stride: Factor by which the size of the maps decreases, or increases if transposed. Default: 1.
        transposed: Use a transposed convolution. Default: False.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, transposed: bool = False
    ) -> None:
        convolution = (
            nn.ConvTranspose2d(
                in_channels, out_channels, 3, stride=stride, padding=1, output_padding=stride - 1
            )
            if transposed
            else nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)
        )
        super().__init__(convolution, nn.GroupNorm(2, out_channels), nn.LeakyReLU(0.2))


class Inception(nn.Module):
    """Inception block.

    A 1x1 convolution is followed by a sum of grouped convolutions of several sizes.

    Args:
        in_channels: Number of input channels.
        out_channels: Number of output channels. Half of it is a multiple of `groups`.
        groups: Number of groups of the convolutions and of their normalization.

    Shape:
        ``(batch, in_channels, y, x)`` -> ``(batch, out_channels, y, x)``.
    """

    def __init__(self, in_channels: int, out_channels: int, *, groups: int) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.squeeze = nn.Conv2d(in_channels, hidden, 1)
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(hidden, out_channels, kernel, padding=kernel // 2, groups=groups),
                nn.GroupNorm(groups, out_channels),
                nn.LeakyReLU(0.2),
            )
            for kernel in _KERNELS
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the block."""
        x = self.squeeze(x)
        return torch.stack([branch(x) for branch in self.branches]).sum(0)


class Translator(nn.Module):
    """Translator, a sequence of Inception blocks with skip connections.

    The outputs of its first half are concatenated with the inputs of its second half.

    Args:
        in_channels: Number of input channels.
        hidden_channels: Number of channels between the blocks.
        out_channels: Number of output channels.
        num_blocks: Number of blocks in each half.
        groups: Number of groups of the convolutions.

    Shape:
        ``(batch, in_channels, y, x)`` -> ``(batch, out_channels, y, x)``.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, out_channels: int, *, num_blocks: int, groups: int
    ) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            Inception(a, b, groups=groups)
            for a, b in pairwise([in_channels] + [hidden_channels] * num_blocks)
        )
        widths = [hidden_channels] * (num_blocks - 1) + [out_channels]
        self.up = nn.ModuleList(
            Inception(hidden_channels if number == 0 else 2 * hidden_channels, width, groups=groups)
            for number, width in enumerate(widths)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Translate the stacked frames, shape (batch, in_channels, y, x)."""
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        x = self.up[0](skips.pop())
        for block in list(self.up)[1:]:
            x = block(torch.cat([x, skips.pop()], dim=1))
        return x


class SimVP(nn.Module):
    """SimVP up to the features of its output frame.

    Args:
        in_channels: Number of channels per frame.
        seq_len: Number of frames.
        width: Number of channels of encoder and decoder, even. Default: 64.
        hidden: Number of channels of the translator. Default: 256.
        blocks: Number of blocks in each half of the translator. Default: 4.
        groups: Number of groups of its convolutions. `width` and `hidden` are multiples of twice this number.
            Default: 8.

    Attributes:
        num_features: Number of features per cell, `width`.

    Shape:
        ``(batch, seq_len, in_channels, y, x)``, y and x multiples of 4 -> ``(batch, width, y, x)``.
    """

    divisor = 4

    def __init__(
        self,
        in_channels: int,
        seq_len: int,
        *,
        width: int = 64,
        hidden: int = 256,
        blocks: int = 4,
        groups: int = 8,
    ) -> None:
        super().__init__()
        self.num_features, self.seq_len = width, seq_len
        self.encoder = nn.ModuleList(
            ConvSC(in_channels if number == 0 else width, width, stride=stride)
            for number, stride in enumerate(_STRIDES)
        )
        self.translator = Translator(seq_len * width, hidden, width, num_blocks=blocks, groups=groups)
        self.decoder = nn.ModuleList(
            ConvSC(2 * width if number == len(_STRIDES) - 1 else width, width, stride=s, transposed=s > 1)
            for number, s in enumerate(reversed(_STRIDES))
        )

    def forward(self, sequence: Tensor) -> Tensor:
        """Compute the features of a sequence, shape (batch, seq_len, in_channels, y, x)."""
        first = x = self.encoder[0](rearrange(sequence, "b t c y x -> (b t) c y x"))
        for block in list(self.encoder)[1:]:
            x = block(x)
        x = self.translator(rearrange(x, "(b t) c y x -> b (t c) y x", t=self.seq_len))
        for block in list(self.decoder)[:-1]:
            x = block(x)
        last = rearrange(first, "(b t) c y x -> b t c y x", t=self.seq_len)[:, -1]
        return self.decoder[-1](torch.cat([x, last], dim=1))
