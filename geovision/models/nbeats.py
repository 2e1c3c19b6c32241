"""N-BEATS (Oreshkin et al. 2020, arXiv:1905.10437) on the history of every cell of the map, by itself.

    h_l = FC_4 (x_l)          x_{l+1} = x_l - Wb h_l         y = sum over l of Wf h_l

with x_0 the history of all channels and FC_4 four layers with ReLU: the generic basis, doubly residual.
A layer is a convolution 1x1, so that no cell knows its neighbours: what N-BEATS, a network for series, is.
"""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

__all__ = ["NBeats"]


class NBeats(nn.Module):
    """See the module.

    Args:
        in_channels: Of one time.
        seq_len: Length of the history.
        width: Of the layers.
        blocks: Of the stack.
        features: Length of y.

    Shape:
        ``(batch, times, channels, y, x)``, any size -> ``(batch, features, y, x)``.
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
        # What is left behind the last block is not looked at.
        self.backcasts = nn.ModuleList(nn.Conv2d(width, length, 1) for _ in range(blocks - 1))
        self.forecasts = nn.ModuleList(nn.Conv2d(width, features, 1) for _ in range(blocks))

    def forward(self, sequence: Tensor) -> Tensor:
        left = rearrange(sequence, "b t c y x -> b (t c) y x")
        hidden = self.blocks[0](left)
        answer = self.forecasts[0](hidden)
        following = zip(list(self.blocks)[1:], self.backcasts, list(self.forecasts)[1:], strict=True)
        for block, backcast, forecast in following:
            left = left - backcast(hidden)
            hidden = block(left)
            answer = answer + forecast(hidden)
        return answer
