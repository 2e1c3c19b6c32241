"""Convolutions in 8-bit integers, which many processors multiply several times as fast as floats.

A convolution takes its input in 256 equal steps between the least and the largest value that it was
given for ordinary pictures, and its weights in 255 steps, with a step for each channel that it gives.
Products and sums are exact; the result is a float again, or goes straight into the steps of the one
convolution that takes it (the scheme of Jacob et al. 2018, arXiv:1712.05877). oneDNN's operator computes
it, activation included, as it computes those of `geovision.accelerate.fusion` in floats.

Everything else stays in float32: sums of branches, pooling, heads, and convolutions in groups, which
have few products and ranges that differ from channel to channel.
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

_MAX_LEVEL = 255  # of an input, from its least value to its largest
_MAX_WEIGHT_LEVEL = 127  # to either side of zero
_SIGNED, _SIGN = -128, 128  # the signed integer that stands for 0, and the bit that is the sign


def quantizable_fraction(network: nn.Module) -> float:
    """The share of a network's weights that `quantize_int8` would hold in 8 bits."""
    held = sum(layer.convolution.weight.numel() for layer in _quantizable_layers(network).values())
    return held / max(1, sum(parameter.numel() for parameter in network.parameters()))


@contextmanager
def record_ranges(network: nn.Module) -> Iterator[dict[str, tuple[float, float]]]:
    """Within it, the least and largest value that each convolution is given, by its name; 0, of which
    padding is made, is always between them."""
    ranges: dict[str, tuple[float, float]] = {}

    def note(name: str, given: Tensor) -> None:
        low, high = (float(value) for value in torch.aminmax(given))
        least, largest = ranges.get(name, (0.0, 0.0))
        ranges[name] = min(least, low), max(largest, high)

    hooks = [
        layer.register_forward_pre_hook(lambda _layer, given, name=name: note(name, given[0]))
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
    """A copy of a network, as of `joined`, whose convolutions compute in 8-bit integers.

    Args:
        network: In float32, on a CPU whose PyTorch has oneDNN.
        ranges: As of `ranges_seen`.
        example: A batch of normalised inputs, to see with which convolution follows which.
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
        if isinstance(layer, ConvActivation) and layer.convolution.groups == 1 and layer.lopsided is None
    }


# --- one convolution ----------------------------------------------------------------------------


class QuantizationParams:
    """Floats as the integers 0 to 255: ``value = step * (integer - zero)``."""

    def __init__(self, step: float, zero: int) -> None:
        self.step, self.zero = step, zero

    @classmethod
    def between(cls, least: float, largest: float) -> QuantizationParams:
        """The grid over a range that holds 0, which is one of its points."""
        step = (largest - least) / _MAX_LEVEL or 1.0
        return cls(step, round(-least / step))

    def integers(self, values: Tensor) -> Tensor:
        """The nearest points; values beyond the grid become its ends.

        By way of signed integers, into which PyTorch brings floats three times as fast as into unsigned
        ones; the sign bit turns one into the other.
        """
        lowest = torch.tensor(float(self.zero + _SIGNED))
        nearest = (
            torch.add(lowest, values, alpha=1 / self.step).clamp_(_SIGNED, _SIGNED + _MAX_LEVEL).round_()
        )
        return nearest.to(torch.int8).view(torch.uint8).bitwise_xor_(_SIGN)


class QuantizedConv2d(nn.Module):
    """A convolution and its activation, with weights and input in 8 bits.

    Args:
        layer: The same in floats.
        takes: The grid of its input. Integers are taken to be on it already.
        gives: The grid of its result; None: floats.
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
        self.orders = PackedWeights()

    def _weight(self, shape: torch.Size) -> Tensor:
        """The weights in the order that the kernel for this shape takes."""
        return self.orders.get(
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


# --- which convolution follows which ------------------------------------------------------------


def _sole_consumers(network: nn.Module, example: Mapping[str, Tensor]) -> dict[str, str]:
    """For each convolution whose result is taken by one other and by no other operation: that one."""
    layers = _quantizable_layers(network)
    took: dict[str, Tensor] = {}
    gave: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()

    def note(name: str, given: Tensor, result: Tensor) -> None:
        took[name], gave[name] = given, result
        calls[name] += 1

    hooks = [
        layer.register_forward_hook(lambda _layer, given, result, name=name: note(name, given[0], result))
        for name, layer in layers.items()
    ]
    try:
        with torch.no_grad(), _UseCounter() as uses:
            network(dict(example), valid=None, context=None)
    finally:
        for hook in hooks:
            hook.remove()
    takers = {id(given): name for name, given in took.items()}
    return {
        name: takers[id(result)]
        for name, result in gave.items()
        if id(result) in takers and uses.count[id(result)] == 1 == calls[name] == calls[takers[id(result)]]
    }


class _UseCounter(TorchDispatchMode):
    """How many operations take each tensor. All are kept, so that none has the number of another."""

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
