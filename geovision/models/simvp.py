"""SimVP (Gao et al. 2022, arXiv:2206.05099), convolutions alone, with one frame out.

    encoder     ConvSC x 4 on every frame, stride 2 in every second:  enc1, .., z
    translator  all frames as channels: Inception x N down a ladder and up again, with skips
    decoder     ConvSC x 4, transposed where the encoder strides; the last sees [d, enc1] too

    ConvSC      Conv 3x3, GroupNorm 2, LeakyReLU 0.2
    Inception   Conv 1x1, then the sum of grouped convolutions 3, 5, 7, 11, each with GroupNorm and LeakyReLU

Instead of as many frames as came in, the translator makes one, and enc1 is that of the last frame: what is
asked for is the mask at the last time.
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
    """See the module; with `stride` 2 half as large, or transposed twice as large."""

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
    """See the module.

    Shape:
        ``(batch, channels, y, x)`` -> ``(batch, filters, y, x)``.
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
        x = self.squeeze(x)
        return torch.stack([branch(x) for branch in self.branches]).sum(0)


class Translator(nn.Module):
    """Blocks down a ladder and up again; what goes down is joined to what comes up.

    Shape:
        ``(batch, channels, y, x)`` -> ``(batch, filters, y, x)``.
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
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        x = self.up[0](skips.pop())
        for block in list(self.up)[1:]:
            x = block(torch.cat([x, skips.pop()], dim=1))
        return x


class SimVP(nn.Module):
    """See the module.

    Args:
        in_channels: Of a frame.
        seq_len: Frames.
        width: Filters of encoder and decoder; even.
        hidden: Filters of the translator.
        blocks: Of the translator, each way.
        groups: Of its grouped convolutions; `width` and `hidden` are multiples of twice as many.

    Shape:
        ``(batch, times, channels, y, x)``, y and x multiples of 4 -> ``(batch, width, y, x)``.
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
        first = x = self.encoder[0](rearrange(sequence, "b t c y x -> (b t) c y x"))
        for block in list(self.encoder)[1:]:
            x = block(x)
        x = self.translator(rearrange(x, "(b t) c y x -> b (t c) y x", t=self.seq_len))
        for block in list(self.decoder)[:-1]:
            x = block(x)
        last = rearrange(first, "(b t) c y x -> b t c y x", t=self.seq_len)[:, -1]
        return self.decoder[-1](torch.cat([x, last], dim=1))
