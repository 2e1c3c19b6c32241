"""The small Xception that Grahn and Bianchi 2022 train from scratch on polar lows.

arXiv:2203.16401 (IEEE TGRS). With ``f`` filters in each convolution, all padded to "same":

    x = ReLU(BN(Conv 3x3, stride 2, 8 (x)))
    for f in 8, 16, 32, 64, 128, 256, 512:
        y = ReLU(BN(SepConv 3x3, f (x)))
        y = ReLU(BN(SepConv 3x3, f (y)))
        x = MaxPool 3x3, stride 2 (y) + Conv 1x1, stride 2, f (x)
    x = ReLU(BN(SepConv 3x3, 1024 (x)))
    features = mean of x over y, x

Dropout and a dense layer follow in the head. As in Keras, in which it was published: a stride of 2 on
an even size pads one row and column at the end and none at the start, the pooling with what is below
every value; batch normalisation adds 1e-3 to the variance and keeps 0.99 of its statistics; weights
begin uniform after Glorot and Bengio 2010, biases at zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from geovision.errors import OptionError
from geovision.spec import InputSpec, SampleContext

__all__ = ["HIDDEN_CHANNELS", "LAST_CHANNELS", "SeparableConv2d", "XceptionBlock", "XceptionSmall", "build"]

HIDDEN_CHANNELS = (8, 16, 32, 64, 128, 256, 512)
"""Of the residual blocks, as published; the first is also that of the first convolution."""

LAST_CHANNELS = 1024
"""Filters of the last convolution, as published."""


def _batch_normalization(channels: int) -> nn.BatchNorm2d:
    # Keras counts what is kept of the running statistics, torch what is replaced: 0.99 and 0.01.
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class SeparableConv2d(nn.Module):
    """A 3 x 3 convolution of each channel by itself, without bias, and a 1 x 1 convolution across
    them, with bias; nothing between the two.

    Shape:
        ``(batch, channels, y, x)`` -> ``(batch, filters, y, x)``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class XceptionBlock(nn.Module):
    """Two separable convolutions and a pooling, beside a 1 x 1 convolution of the input.

    Shape:
        ``(batch, channels, y, x)`` -> ``(batch, filters, ceil(y / 2), ceil(x / 2))``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.separable_conv2d_1 = SeparableConv2d(in_channels, out_channels)
        self.batch_normalization_1 = _batch_normalization(out_channels)
        self.activation_1 = nn.ReLU()
        self.separable_conv2d_2 = SeparableConv2d(out_channels, out_channels)
        self.batch_normalization_2 = _batch_normalization(out_channels)
        self.activation_2 = nn.ReLU()
        self.residual = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation_1(self.batch_normalization_1(self.separable_conv2d_1(x)))
        y = self.activation_2(self.batch_normalization_2(self.separable_conv2d_2(y)))
        # A window of one cell and a stride of 2 miss no cell at either end: nothing is padded. The stride is
        # taken before the convolution, since oneDNN's gradient of the strided form writes outside its memory
        # where there are fewer than 16 channels (uxlfoundation/oneDNN#6035).
        return max_pooling_same(y) + self.residual(x[:, :, ::2, ::2])


def max_pooling_same(x: Tensor) -> Tensor:
    """The largest of 3 x 3 cells at every second one, what lies outside being below every value.

    On an even size the last window reaches one cell beyond the end, on an odd one the first and the
    last reach beyond by one each.

    Shape:
        ``(batch, channel, y, x)`` -> ``(batch, channel, ceil(y / 2), ceil(x / 2))``.
    """
    height, width = x.shape[-2:]
    return F.max_pool2d(x, 3, stride=2, padding=(height % 2, width % 2), ceil_mode=True)


class XceptionSmall(nn.Module):
    """The published network, or one with fewer filters, over the channels that it is told.

    Args:
        input_name: Of the input.
        channels: Positions of the input's channels in the order in which the first convolution takes
            them. One may stand more than once, as in the published pictures, whose red and green are
            both the cross-polarised channel.
        filters: Of the residual blocks.
        last: Of the last convolution.

    Attributes:
        num_features: `last`.
        explained_layer: The layer whose maps the authors read for Grad-CAM: the last ReLU before the
            last pooling.

    Shape:
        image ``(batch, channel, y, x)``, any size -> features ``(batch, last)``.
    """

    channels: Tensor

    def __init__(
        self,
        input_name: str,
        channels: Sequence[int],
        *,
        filters: Sequence[int] = HIDDEN_CHANNELS,
        last: int = LAST_CHANNELS,
    ) -> None:
        super().__init__()
        self.input_name = input_name
        self.register_buffer("channels", torch.tensor(list(channels)), persistent=False)
        # Pads one row and column at the end of an even size, and none at its start.
        self.conv2d = Conv2dSame(len(channels), filters[0], 3, stride=2)
        self.batch_normalization = _batch_normalization(filters[0])
        self.activation = nn.ReLU()
        self.blocks = nn.Sequential(
            *(XceptionBlock(a, b) for a, b in zip([filters[0], *filters], filters, strict=False))
        )
        self.separable_conv2d = SeparableConv2d(filters[-1], last)
        self.batch_normalization_last = _batch_normalization(last)
        self.activation_last = nn.ReLU()
        self.num_features: int = last
        self.explained_layer = f"blocks.{len(filters) - 1}.activation_2"
        self.apply(_initialize)

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        context: SampleContext | None = None,
    ) -> Tensor:
        image = inputs[self.input_name].index_select(1, self.channels)
        x = self.activation(self.batch_normalization(self.conv2d(image)))
        x = self.blocks(x)
        x = self.activation_last(self.batch_normalization_last(self.separable_conv2d(x)))
        return x.mean((2, 3))


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        # Of a depthwise kernel too: Keras and torch count other axes for what comes in and what goes
        # out, and come to the same sum.
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def build(
    model_args: Mapping[str, Any], *, inputs: tuple[InputSpec, ...], size: tuple[int, int] | None
) -> XceptionSmall:
    """The network that `arch` describes: ``channels`` (names of the input's channels in the order of
    the first convolution), ``filters`` and ``last``.

    Raises:
        OptionError: Another option, an input that is no picture, or a channel that it lacks.
    """
    unknown = sorted(set(model_args) - {"channels", "filters", "last"})
    if unknown:
        raise OptionError(f"the small Xception takes no option {unknown}; known: channels, filters, last")
    first = inputs[0]
    if first.layout != "channel y x":
        raise OptionError(f"the small Xception reads (channel y x), not ({first.layout})")
    known = [channel.name for channel in first.channels]
    wanted = list(model_args.get("channels", known))
    lacking = [name for name in wanted if name not in known]
    if lacking:
        raise OptionError(f"input {first.name!r} has no channel {lacking[0]!r}; it has {', '.join(known)}")
    return XceptionSmall(
        first.name,
        [known.index(name) for name in wanted],
        filters=tuple(model_args.get("filters", HIDDEN_CHANNELS)),
        last=model_args.get("last", LAST_CHANNELS),
    )
