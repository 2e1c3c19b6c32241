"""Super-resolution networks for comparison with MAUNet: U-Net, SRCNN, EDSR and SRDRN.

They have the interface of `geovision.models.maunet.MAUNet`, from fields to features on the output grid. A
network that was published for one factor is built for any. It refines by powers of two or takes an
interpolated field, as published. Input and output cover the same area.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geovision.errors import OptionError
from geovision.models.maunet import HIDDEN_CHANNELS, MAUNet

__all__ = ["EDSR", "SRCNN", "SRDRN", "UNet"]


class UNet(MAUNet):
    """U-Net (Ronneberger et al. 2015, arXiv:1505.04597).

    It has the structure of `MAUNet`, with maximum pooling and transposed convolutions. Convolutions are
    padded, so that sizes are preserved.

    Args:
        in_channels: Number of input channels.
        factor: Number of output cells per input cell along each side. Default: 1.
        widths: Channels of the stages, finest first. Default: those of `MAUNet`.
        dropout: Dropout probability of complete channels after each stage. Default: 0.

    Shape:
        ``(batch, in_channels, y, x)`` -> ``(batch, num_features, factor y, factor x)``.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        factor: int = 1,
        widths: Sequence[int] = HIDDEN_CHANNELS,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            in_channels, factor=factor, widths=widths, dropout=dropout, pooling="max", upsampling="transposed"
        )


class SRCNN(nn.Module):
    """SRCNN (Dong et al. 2014, arXiv:1501.00092).

    Three convolutions with kernels 9, 1 and 5 are applied to the interpolated field. The head completes the
    last one.

    Args:
        in_channels: Number of input channels.
        factor: Number of output cells per input cell along each side. Default: 1.
        widths: Channels of the first two convolutions. Default: 64 and 32, as published.

    Shape:
        ``(batch, in_channels, y, x)`` -> ``(batch, num_features, factor y, factor x)``.
    """

    def __init__(self, in_channels: int, *, factor: int = 1, widths: tuple[int, int] = (64, 32)) -> None:
        super().__init__()
        self.factor = factor
        self.num_features = widths[1]
        # For one output channel, this depthwise 5 x 5 convolution and the 1 x 1 convolution of the head
        # together are equivalent to the published last convolution.
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], 9, padding=4),
            nn.ReLU(),
            nn.Conv2d(widths[0], widths[1], 1),
            nn.ReLU(),
            nn.Conv2d(widths[1], widths[1], 5, padding=2, groups=widths[1]),
        )

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Compute features on the output grid.

        Args:
            x: Fields, shape (batch, in_channels, y, x).
            size: Height and width of the output, in cells. Default: `factor` times those of the input.
        """
        wanted = size or (x.shape[-2] * self.factor, x.shape[-1] * self.factor)
        return self.layers(_resize(x, wanted))


class _ResidualBlock(nn.Module):
    """Residual block ``x + scale Conv(act(Conv(x)))``, with or without batch normalization."""

    def __init__(
        self, hidden_channels: int, *, scale: float, batch_norm: bool, activation: nn.Module
    ) -> None:
        super().__init__()
        self.scale = scale

        def norm() -> nn.Module:
            return nn.BatchNorm2d(hidden_channels) if batch_norm else nn.Identity()

        self.body = nn.Sequential(
            nn.Conv2d(hidden_channels, hidden_channels, 3, padding=1),
            norm(),
            activation,
            nn.Conv2d(hidden_channels, hidden_channels, 3, padding=1),
            norm(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the block."""
        return x + self.scale * self.body(x)


class _ResidualTrunk(nn.Module):
    """Convolution, residual blocks, convolution, a long skip connection, and upsampling steps."""

    def __init__(
        self,
        in_channels: int,
        factor: int,
        width: int,
        blocks: int,
        *,
        scale: float,
        batch_norm: bool,
        activation: Literal["relu", "prelu"],
        pixel_shuffle: bool,
        finest: int,
    ) -> None:
        super().__init__()
        if factor < 1 or blocks < 1:
            raise OptionError(f"factor={factor} and blocks={blocks}: expected 1 or more of each")
        self.factor = factor
        self.num_upsamplings = int(math.log2(factor)) if factor & (factor - 1) == 0 else 0

        def act() -> nn.Module:
            return nn.PReLU() if activation == "prelu" else nn.ReLU()

        self.first = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1), act() if batch_norm else nn.Identity()
        )
        self.blocks = nn.Sequential(
            *(
                _ResidualBlock(width, scale=scale, batch_norm=batch_norm, activation=act())
                for _ in range(blocks)
            ),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width) if batch_norm else nn.Identity(),
        )
        steps: list[nn.Module] = []
        now = width
        for _ in range(self.num_upsamplings):
            if pixel_shuffle:
                steps.append(nn.Sequential(nn.Conv2d(now, 4 * finest, 3, padding=1), nn.PixelShuffle(2)))
            else:
                steps.append(nn.Sequential(_NearestUpsample(), nn.Conv2d(now, finest, 3, padding=1), act()))
            now = finest
        self.refine = nn.Sequential(*steps)
        self.num_features = now

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Compute features on the output grid.

        Args:
            x: Fields, shape (batch, in_channels, y, x).
            size: Height and width of the output, in cells. Default: `factor` times those of the input.
        """
        height, width = size or (x.shape[-2] * self.factor, x.shape[-1] * self.factor)
        x = _resize(x, (-(-height // 2**self.num_upsamplings), -(-width // 2**self.num_upsamplings)))
        first = self.first(x)
        return self.refine(first + self.blocks(first))[..., :height, :width]


class EDSR(_ResidualTrunk):
    """EDSR (Lim et al. 2017, arXiv:1707.02921).

    Residual blocks without normalization are followed by upsampling with pixel shuffle. The defaults are
    those of the paper's baseline: 16 blocks of 64 channels, without scaling of the residuals.

    Args:
        in_channels: Number of input channels.
        factor: Number of output cells per input cell along each side. Default: 1.
        width: Number of channels. Default: 64.
        blocks: Number of residual blocks. Default: 16.
        scale: Factor of the residuals; 0.1 in the paper's wide network. Default: 1.

    Shape:
        ``(batch, in_channels, y, x)`` -> ``(batch, num_features, factor y, factor x)``.
    """

    def __init__(
        self, in_channels: int, *, factor: int = 1, width: int = 64, blocks: int = 16, scale: float = 1.0
    ) -> None:
        super().__init__(
            in_channels,
            factor,
            width,
            blocks,
            scale=scale,
            batch_norm=False,
            activation="relu",
            pixel_shuffle=True,
            finest=width,
        )


class SRDRN(_ResidualTrunk):
    """SRDRN for daily rain (Wang et al. 2021, doi:10.1029/2020WR029308).

    Residual blocks with batch normalization and PReLU are followed by upsampling, which repeats cells and
    applies a convolution. The defaults are 16 blocks of 64 channels, and 256 channels on the finer grids. The
    order of the layers is our reading of the paper.

    Args:
        in_channels: Number of input channels.
        factor: Number of output cells per input cell along each side. Default: 1.
        width: Number of channels of the residual blocks. Default: 64.
        blocks: Number of residual blocks. Default: 16.
        finest: Number of channels on the finer grids. Default: 256.

    Shape:
        ``(batch, in_channels, y, x)`` -> ``(batch, num_features, factor y, factor x)``.
    """

    def __init__(
        self, in_channels: int, *, factor: int = 1, width: int = 64, blocks: int = 16, finest: int = 256
    ) -> None:
        super().__init__(
            in_channels,
            factor,
            width,
            blocks,
            scale=1.0,
            batch_norm=True,
            activation="prelu",
            pixel_shuffle=False,
            finest=finest,
        )


class _NearestUpsample(nn.Module):
    """Repetition of each cell as 2 x 2 cells."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.repeat_interleave(torch.repeat_interleave(x, 2, dim=-2), 2, dim=-1)


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear", align_corners=False)
