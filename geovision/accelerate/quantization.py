"""Quantization of convolutions to 8-bit integers.

Many processors multiply 8-bit integers several times as fast as floats. The input of a convolution has 256
equal steps between its smallest and largest value on typical images. The weights have 255 steps, with a step
size for each output channel. Products and sums are exact. The result is a float again, or is quantized
directly to the steps of the only convolution that uses it (the scheme of Jacob et al. 2018,
arXiv:1712.05877). The operator of oneDNN computes it, including the activation, as it computes the float
convolutions of `geovision.accelerate.fusion`.

Everything else stays in float32: sums of branches, pooling, heads, and grouped convolutions, which have few
products and ranges that differ between channels.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from geovision.accelerate.fusion import ConvActivation, PackedWeights

__all__ = ["quantizable_fraction", "quantize_int8", "record_ranges"]

_MAX_LEVEL = 255  # level of the largest input value; the smallest has level 0
_MAX_WEIGHT_LEVEL = 127  # on either side of zero
_SIGNED, _SIGN = -128, 128  # signed integer that represents level 0, and the sign bit


def quantizable_fraction(network: nn.Module) -> float:
    """Return the share of the weights that `quantize_int8` quantizes.

    Args:
        network: Network from `fuse_layers`.

    Returns:
        The share, 0 to 1.
    """
    quantizable = sum(layer.convolution.weight.numel() for layer in _quantizable_layers(network).values())
    return quantizable / max(1, sum(parameter.numel() for parameter in network.parameters()))


@contextmanager
def record_ranges(network: nn.Module) -> Iterator[dict[str, tuple[float, float]]]:
    """Record the input range of each quantizable convolution in a context.

    Every range includes 0, the value of padding.

    Args:
        network: Network from `fuse_layers`.

    Yields:
        Smallest and largest value by name of the convolution; updated at each forward pass.
    """
    ranges: dict[str, tuple[float, float]] = {}

    def record(name: str, given: Tensor) -> None:
        low, high = (float(value) for value in torch.aminmax(given))
        least, largest = ranges.get(name, (0.0, 0.0))
        ranges[name] = min(least, low), max(largest, high)

    hooks = [
        layer.register_forward_pre_hook(lambda _layer, given, name=name: record(name, given[0]))
        for name, layer in _quantizable_layers(network).items()
    ]
    try:
        yield ranges
    finally:
        for hook in hooks:
            hook.remove()


def quantize_int8(
    network: nn.Module, ranges: Mapping[str, tuple[float, float]], example: Mapping[str, Tensor]
) -> nn.Module:
    """Return a copy of a network whose convolutions compute in 8-bit integers.

    Args:
        network: Network from `fuse_layers`, in float32, on a CPU whose PyTorch has oneDNN.
        ranges: Ranges of the inputs by name of the convolution, from `record_ranges`.
        example: Batch of normalized inputs, with which the order of the convolutions is found.

    Returns:
        The quantized copy.
    """
    followers = _sole_consumers(network, example)
    network = copy.deepcopy(network)
    layers = {name: layer for name, layer in _quantizable_layers(network).items() if name in ranges}
    grids = {name: QuantizationParams.between(*ranges[name]) for name in layers}
    for name, layer in layers.items():
        follower = followers.get(name)
        new = QuantizedConv2d(layer, grids[name], grids.get(follower) if follower else None)
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, new)
    return network


def _quantizable_layers(network: nn.Module) -> dict[str, ConvActivation]:
    return {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, ConvActivation) and layer.convolution.groups == 1 and layer.padded_weight is None
    }


# --- quantized convolution ----------------------------------------------------------------------


class QuantizationParams:
    """Mapping of floats to the integers 0 to 255.

    The value of an integer is ``value = step * (integer - zero)``.

    Args:
        step: Difference of values between consecutive integers.
        zero: Integer of the value 0.
    """

    def __init__(self, step: float, zero: int) -> None:
        self.step, self.zero = step, zero

    @classmethod
    def between(cls, least: float, largest: float) -> QuantizationParams:
        """Return the parameters for a range that includes 0.

        The value 0 is represented exactly.

        Args:
            least: Smallest value, at most 0.
            largest: Largest value, at least 0.

        Returns:
            The parameters of 256 equal steps.
        """
        step = (largest - least) / _MAX_LEVEL or 1.0
        return cls(step, round(-least / step))

    def integers(self, values: Tensor) -> Tensor:
        """Return the nearest integers; values outside the range are clipped.

        PyTorch converts floats to signed integers three times as fast as to unsigned ones. Flipping the sign
        bit converts one into the other.

        Args:
            values: Values to quantize.

        Returns:
            Integers of the same shape, dtype uint8.
        """
        lowest = torch.tensor(float(self.zero + _SIGNED))
        nearest = (
            torch.add(lowest, values, alpha=1 / self.step).clamp_(_SIGNED, _SIGNED + _MAX_LEVEL).round_()
        )
        return nearest.to(torch.int8).view(torch.uint8).bitwise_xor_(_SIGN)


class QuantizedConv2d(nn.Module):
    """Convolution and its activation with weights and input in 8 bits.

    Args:
        layer: Float convolution to quantize.
        takes: Quantization of the input. An input of dtype uint8 is already quantized.
        gives: Quantization of the result; None: the result is float32.
    """

    def __init__(
        self, layer: ConvActivation, takes: QuantizationParams, gives: QuantizationParams | None
    ) -> None:
        super().__init__()
        convolution = layer.convolution
        self.stride, self.padding = convolution.stride, convolution.padding
        self.dilation, self.groups = convolution.dilation, convolution.groups
        self.activation, self.limits = layer.name, layer.limits
        self.takes, self.gives = takes, gives
        weight = convolution.weight.detach()
        step = (weight.abs().amax((1, 2, 3)) / _MAX_WEIGHT_LEVEL).clamp_min(torch.finfo(torch.float32).tiny)
        self.weight = (weight / step[:, None, None, None]).round().to(torch.int8)
        self.step, self.zero = step, torch.zeros(len(step), dtype=torch.int64)
        self.bias = None if convolution.bias is None else convolution.bias.detach().clone()
        self.packed_weights = PackedWeights()

    def _weight(self, shape: torch.Size) -> Tensor:
        """Return the weights in the kernel's layout for this input shape."""
        return self.packed_weights.get(
            tuple(shape),
            lambda: torch.ops.onednn.qconv_prepack(
                self.weight,
                self.step,
                self.takes.step,
                self.takes.zero,
                self.stride,
                self.padding,
                self.dilation,
                self.groups,
                list(shape),
            ),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated result of the convolution.

        Args:
            x: Feature maps, shape (batch, channel, y, x), float32 or already quantized.

        Returns:
            Feature maps, shape (batch, channel, y, x), quantized if `gives` is not None.
        """
        if x.dtype != torch.uint8:
            x = self.takes.integers(x)
        gives = self.gives or QuantizationParams(1.0, 0)
        return torch.ops.onednn.qconv2d_pointwise(
            x,
            self.takes.step,
            self.takes.zero,
            self._weight(x.shape),
            self.step,
            self.zero,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            gives.step,
            gives.zero,
            torch.uint8 if self.gives else torch.float32,
            self.activation,
            self.limits,
            "",
        )


# --- consumers of each convolution --------------------------------------------------------------


def _sole_consumers(network: nn.Module, example: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the only consumer of each convolution's result.

    A convolution is included if exactly one other convolution and no other operation use its result.
    """
    layers = _quantizable_layers(network)
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()

    def record(name: str, given: Tensor, result: Tensor) -> None:
        inputs[name], outputs[name] = given, result
        calls[name] += 1

    hooks = [
        layer.register_forward_hook(lambda _layer, given, result, name=name: record(name, given[0], result))
        for name, layer in layers.items()
    ]
    try:
        with torch.no_grad(), _UseCounter() as uses:
            network(dict(example), valid=None, context=None)
    finally:
        for hook in hooks:
            hook.remove()
    consumers = {id(given): name for name, given in inputs.items()}
    return {
        name: consumers[id(result)]
        for name, result in outputs.items()
        if id(result) in consumers
        and uses.count[id(result)] == 1 == calls[name] == calls[consumers[id(result)]]
    }


class _UseCounter(TorchDispatchMode):
    """Count of the operations that use each tensor.

    All tensors are kept alive, so that no two of them have the same id.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()
        self._kept: list[Any] = []

    def __torch_dispatch__(self, operation: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        self.count.update(id(each) for each in given)
        result = operation(*args, **(kwargs or {}))
        self._kept += [given, result]
        return result
