"""Small Xception of Grahn and Bianchi 2022 for polar lows.

The authors train it from scratch. Published in IEEE TGRS, arXiv:2203.16401. With ``f`` filters in each
convolution and "same" padding::

    x = ReLU(BN(Conv 3x3, stride 2, 8 (x)))
    for f in 8, 16, 32, 64, 128, 256, 512:
        y = ReLU(BN(SepConv 3x3, f (x)))
        y = ReLU(BN(SepConv 3x3, f (y)))
        x = MaxPool 3x3, stride 2 (y) + Conv 1x1, stride 2, f (x)
    x = ReLU(BN(SepConv 3x3, 1024 (x)))
    features = mean of x over y, x

Dropout and a dense layer follow in the head. The details are those of Keras, in which the network was
published. A stride of 2 on an even size pads one row and column at the end and none at the start; the pooling
pads with minus infinity. Batch normalization adds 1e-3 to the variance and keeps 0.99 of its running
statistics. Weights have the uniform initialization of Glorot and Bengio 2010, biases are initially 0.
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
"""Channels of the residual blocks, as published; the first is also that of the first convolution."""

LAST_CHANNELS = 1024
"""Channels of the last convolution, as published."""


def _batch_normalization(channels: int) -> nn.BatchNorm2d:
    # The momentum of Keras is the kept fraction of the running statistics (0.99), that of torch the replaced
    # fraction (0.01).
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class SeparableConv2d(nn.Module):
    """Depthwise separable convolution.

    A depthwise 3 x 3 convolution without bias is followed by a 1 x 1 convolution with bias. There is no
    activation between the two.

    Args:
        in_channels: Number of input channels.
        out_channels: Number of output channels.

    Shape:
        ``(batch, in_channels, y, x)`` -> ``(batch, out_channels, y, x)``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of both convolutions."""
        return self.pointwise(self.depthwise(x))


class XceptionBlock(nn.Module):
    """Residual block of two separable convolutions and a pooling.

    The shortcut is a 1 x 1 convolution.

    Args:
        in_channels: Number of input channels.
        out_channels: Number of output channels.

    Shape:
        ``(batch, in_channels, y, x)`` -> ``(batch, out_channels, ceil(y / 2), ceil(x / 2))``.
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
        """Return the sum of the pooled convolutions and the shortcut."""
        y = self.activation_1(self.batch_normalization_1(self.separable_conv2d_1(x)))
        y = self.activation_2(self.batch_normalization_2(self.separable_conv2d_2(y)))
        # A 1 x 1 convolution with stride 2 needs no padding. The stride is applied before the convolution,
        # because oneDNN's gradient of the strided form writes outside of its memory with fewer than 16
        # channels (uxlfoundation/oneDNN#6035).
        return max_pooling_same(y) + self.residual(x[:, :, ::2, ::2])


def max_pooling_same(x: Tensor) -> Tensor:
    """Compute the maximum of 3 x 3 cells with stride 2.

    The padding is "same", as in Keras. Padded cells are minus infinity. On an even size, the last window
    extends one cell beyond the end. On an odd size, the first and the last window extend one cell beyond the
    ends.

    Args:
        x: Maps, shape (batch, channel, y, x).

    Shape:
        ``(batch, channel, y, x)`` -> ``(batch, channel, ceil(y / 2), ceil(x / 2))``.
    """
    height, width = x.shape[-2:]
    return F.max_pool2d(x, 3, stride=2, padding=(height % 2, width % 2), ceil_mode=True)


class XceptionSmall(nn.Module):
    """Small Xception with the published or other numbers of filters.

    Args:
        input_name: Name of the input.
        channels: Indices of the input channels in the order of the first convolution. An index may occur
            several times, as in the published images, in which red and green are both the cross-polarized
            channel.
        filters: Channels of the residual blocks. Default: `HIDDEN_CHANNELS`.
        last: Channels of the last convolution. Default: 1024.

    Attributes:
        num_features: Number of features, `last`.
        explained_layer: Layer that the authors use for Grad-CAM, the last ReLU before the last pooling.

    Shape:
        Image ``(batch, channel, y, x)``, any size -> features ``(batch, last)``.
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
        """Compute the features of a batch.

        Args:
            inputs: Normalized inputs by name, each of shape ``(batch, *layout)``.
            valid: Valid values by input name, bool. Default: all values.
            context: Location and time of the samples; not used. Default: None.

        Returns:
            Features, shape (batch, last).
        """
        image = inputs[self.input_name].index_select(1, self.channels)
        x = self.activation(self.batch_normalization(self.conv2d(image)))
        x = self.blocks(x)
        x = self.activation_last(self.batch_normalization_last(self.separable_conv2d(x)))
        return x.mean((2, 3))


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        # This includes depthwise kernels: Keras and torch count fan-in and fan-out along different axes, but
        # their sums are equal.
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def build(
    model_args: Mapping[str, Any], *, inputs: tuple[InputSpec, ...], size: tuple[int, int] | None
) -> XceptionSmall:
    """Build a small Xception.

    Args:
        model_args: ``channels``, the names of the input channels in the order of the first convolution, and
            ``filters`` and ``last`` of `XceptionSmall`.
        inputs: Input specifications. The first one is used.
        size: Size of the input; ignored, because every size is supported.

    Raises:
        OptionError: An option or a channel is unknown, or the input is not an image.
    """
    unknown = sorted(set(model_args) - {"channels", "filters", "last"})
    if unknown:
        raise OptionError(f"the small Xception has no option {unknown}; known: channels, filters, last")
    first = inputs[0]
    if first.layout != "channel y x":
        raise OptionError(f"input {first.name!r} has axes ({first.layout}); expected (channel y x)")
    known = [channel.name for channel in first.channels]
    wanted = list(model_args.get("channels", known))
    missing = [name for name in wanted if name not in known]
    if missing:
        raise OptionError(f"input {first.name!r} has no channel {missing[0]!r}; known: {', '.join(known)}")
    return XceptionSmall(
        first.name,
        [known.index(name) for name in wanted],
        filters=tuple(model_args.get("filters", HIDDEN_CHANNELS)),
        last=model_args.get("last", LAST_CHANNELS),
    )
