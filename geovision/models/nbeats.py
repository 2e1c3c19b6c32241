"""N-BEATS (Oreshkin et al. 2020, arXiv:1905.10437) for each cell of a map.

Block l computes::

    h_l = FC_4 (x_l)          x_{l+1} = x_l - Wb h_l         y = sum over l of Wf h_l

x_0 is the history of all channels, and FC_4 consists of four layers with ReLU. This is the generic basis with
double residual connections. N-BEATS is a network for time series. Each layer is therefore a 1x1 convolution,
and no cell uses its neighbors.
"""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

__all__ = ["NBeats"]


class NBeats(nn.Module):
    """N-BEATS for maps, which processes each cell independently.

    Args:
        in_channels: Number of channels per time.
        seq_len: Length of the history, in times.
        width: Width of the layers. Default: 128.
        blocks: Number of blocks. Default: 6.
        features: Length of y. Default: 32.

    Attributes:
        num_features: Number of features per cell, `features`.

    Shape:
        ``(batch, seq_len, in_channels, y, x)``, any size -> ``(batch, features, y, x)``.
    """

    divisor = 1

    def __init__(
        self, in_channels: int, seq_len: int, *, width: int = 128, blocks: int = 6, features: int = 32
    ) -> None:
        super().__init__()
        self.num_features = features
        length = seq_len * in_channels
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(
                    layer
                    for number in range(4)
                    for layer in (nn.Conv2d(length if number == 0 else width, width, 1), nn.ReLU())
                )
            )
            for _ in range(blocks)
        )
        # The residual after the last block is not used, so the last block has no backcast.
        self.backcasts = nn.ModuleList(nn.Conv2d(width, length, 1) for _ in range(blocks - 1))
        self.forecasts = nn.ModuleList(nn.Conv2d(width, features, 1) for _ in range(blocks))

    def forward(self, sequence: Tensor) -> Tensor:
        """Compute the features of a sequence, shape (batch, seq_len, in_channels, y, x)."""
        residual = rearrange(sequence, "b t c y x -> b (t c) y x")
        hidden = self.blocks[0](residual)
        total = self.forecasts[0](hidden)
        following = zip(list(self.blocks)[1:], self.backcasts, list(self.forecasts)[1:], strict=True)
        for block, backcast, forecast in following:
            residual = residual - backcast(hidden)
            hidden = block(residual)
            total = total + forecast(hidden)
        return total
