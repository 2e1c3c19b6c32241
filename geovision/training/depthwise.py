"""Faster training of strided depthwise convolutions on CPUs."""

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
    """Compute strided depthwise convolutions without stride and subsample the result.

    The numbers are the same, but oneDNN's gradient of the strided form can be much slower. The gain depends
    on the network, the size of its images and the trained blocks; ``benchmarks/training_speed.py`` compares
    both forms. Frozen layers are unchanged.

    Args:
        model: Model whose layers are changed within the context.
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
    supported = type(layer) in (nn.Conv2d, Conv2dSame) and layer.padding_mode == "zeros"
    on_cpu = layer.weight.device.type == "cpu" and not isinstance(layer.padding, str)
    return depthwise and supported and on_cpu and max(layer.stride) > 1


def _subsample(self: nn.Conv2d, x: Tensor) -> Tensor:
    if not self.weight.requires_grad:  # frozen in this stage: no gradient is computed
        return type(self).forward(self, x)
    vertical, horizontal = self.stride
    padding = self.padding
    if isinstance(self, Conv2dSame):
        x = pad_same(x, list(self.kernel_size), list(self.stride), list(self.dilation))
        padding = (0, 0)
    dense = F.conv2d(x, self.weight, self.bias, 1, padding, self.dilation, self.groups)  # type: ignore[arg-type]
    return dense[:, :, ::vertical, ::horizontal]
