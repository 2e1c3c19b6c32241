"""Strided depthwise convolutions, trained on a processor by the gradient of unstrided ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn

__all__ = ["unstrided_depthwise"]


@contextlib.contextmanager
def unstrided_depthwise(model: nn.Module) -> Iterator[None]:
    """Within it, depthwise convolutions with a stride are computed without, and then thinned out.

    The same numbers, by another path: oneDNN's gradient of the strided form can be much slower than
    that of the plain one. Whether a training gains depends on the network, the size of its pictures
    and which blocks are trained; ``benchmarks/training_speed.py`` compares the two. Frozen layers are
    left as they are.
    """
    layers = [
        module
        for module in model.modules()
        if isinstance(module, nn.Conv2d) and _is_strided_depthwise(module)
    ]
    for layer in layers:
        layer.forward = _subsample.__get__(layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _is_strided_depthwise(layer: nn.Conv2d) -> bool:
    depthwise = layer.groups == layer.in_channels > 1
    known = type(layer) in (nn.Conv2d, Conv2dSame) and layer.padding_mode == "zeros"
    on_processor = layer.weight.device.type == "cpu" and not isinstance(layer.padding, str)
    return depthwise and known and on_processor and max(layer.stride) > 1


def _subsample(self: nn.Conv2d, x: Tensor) -> Tensor:
    if not self.weight.requires_grad:  # frozen in this stage: only its answer is computed
        return type(self).forward(self, x)
    vertical, horizontal = self.stride
    padding = self.padding
    if isinstance(self, Conv2dSame):
        x = pad_same(x, list(self.kernel_size), list(self.stride), list(self.dilation))
        padding = (0, 0)
    dense = F.conv2d(x, self.weight, self.bias, 1, padding, self.dilation, self.groups)  # type: ignore[arg-type]
    return dense[:, :, ::vertical, ::horizontal]
