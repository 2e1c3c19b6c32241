"""Fusion of convolutions with the normalization and activation layers that follow them.

One forward pass finds which layer follows which; names are not used. The fused copy is compared with the
model before it is used. If they differ, the network is left unfused.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.padding import pad_same
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

if TYPE_CHECKING:
    from geovision.models._base import BaseModel

__all__ = ["ConvActivation", "PackedWeights", "fuse_layers", "model_device"]


def model_device(model: BaseModel) -> torch.device:
    """Return the device of a model; the CPU without parameters.

    Args:
        model: Model to inspect.

    Returns:
        The device of the first parameter.
    """
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


@dataclass(frozen=True)
class _LayerCall:
    """One call of a layer, with its input and output tensors.

    Each tensor comes with its version, which distinguishes it before and after a change in place.
    """

    layer: nn.Module
    input: tuple[Tensor, int]
    output: tuple[Tensor, int]


def _record_calls(network: nn.Module, example: Mapping[str, Tensor]) -> tuple[list[_LayerCall], Tensor]:
    """Return all calls of fusible layers, and the network's output."""
    calls: list[_LayerCall] = []

    def record(layer: nn.Module, args: tuple[Tensor, ...], result: Tensor) -> None:
        calls.append(_LayerCall(layer, (args[0], versions.pop()), (result, result._version)))

    versions: list[int] = []

    def before(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        versions.append(args[0]._version)

    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d, *_ACTIVATIONS))]
    hooks = [layer.register_forward_pre_hook(before) for layer in layers]
    hooks += [layer.register_forward_hook(record) for layer in layers]
    try:
        with torch.no_grad():  # not inference_mode, whose tensors have no version
            result = network(dict(example), valid=None, context=None)
    finally:
        for hook in hooks:
            hook.remove()
    return calls, result


def _followers(calls: list[_LayerCall]) -> dict[nn.Module, nn.Module]:
    """Return the layer that follows each layer.

    A layer is included if exactly one layer takes its unchanged output, and if both are called once.
    """
    counts = Counter(id(call.layer) for call in calls)
    single = [call for call in calls if counts[id(call.layer)] == 1]
    followers = {}
    for call in single:
        consumers = [c for c in single if c.input[0] is call.output[0] and c.input[1] == call.output[1]]
        if len(consumers) == 1:
            followers[call.layer] = consumers[0].layer
    return followers


def _frozen_copy(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).eval().requires_grad_(False)


# --- fused layers -------------------------------------------------------------------------------

_NORMS = (nn.BatchNorm2d, BatchNormAct2d)
_ACTIVATIONS = (nn.ReLU, nn.Hardtanh, nn.SiLU, nn.Hardswish)


def fuse_layers(model: BaseModel, *, operator: bool = True) -> nn.Module:
    """Return a copy of the network with fused convolutions.

    A convolution absorbs the normalization and the activation that follow it. If the fused network gives
    different results, an unfused copy is returned.

    Args:
        model: Model whose network is copied; it stays unchanged.
        operator: Whether activations are fused too, with the operator of oneDNN, if the network is on a CPU.
            False: the copy contains ordinary layers only and can be exported. Default: True.

    Returns:
        The copy in evaluation mode, without gradients.
    """
    probe = model.probe_inputs(count=1, small=True)
    if probe is None:
        return _frozen_copy(model.network)
    example = copy.deepcopy(model.normalize).eval()(probe)
    network = _frozen_copy(model.network)
    calls, expected = _record_calls(network, example)
    followers = _followers(calls)
    new: dict[nn.Module, nn.Module] = {}
    for convolution in [call.layer for call in calls if isinstance(call.layer, nn.Conv2d)]:
        new |= _fuse_convolution(convolution, followers, fuse=operator and expected.device.type == "cpu")
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if child in new:
                setattr(parent, name, new[child])
    try:
        with torch.no_grad():
            found = network(dict(example), valid=None, context=None)
    except (RuntimeError, AttributeError):  # this build of PyTorch lacks the operator
        return _frozen_copy(model.network)
    same = (found - expected).abs().max() <= 1e-3 * expected.abs().max()
    return network if same else _frozen_copy(model.network)


def _fuse_convolution(
    convolution: nn.Conv2d, followers: Mapping[nn.Module, nn.Module], *, fuse: bool
) -> dict[nn.Module, nn.Module]:
    """Return the replacements of a convolution and its fused layers."""
    norm: Any = followers.get(convolution)
    if type(norm) not in _NORMS or not norm.track_running_stats:
        norm = None
    # timm's combined layer contains its activation.
    includes_activation = isinstance(norm, BatchNormAct2d)
    activation: Any = norm.act if includes_activation else followers.get(norm or convolution)
    fused = fuse_conv_bn_eval(convolution, norm) if norm else convolution
    fuse = fuse and type(fused) in (nn.Conv2d, Conv2dSame) and not isinstance(fused.padding, str)
    absorbs = fuse and isinstance(activation, _ACTIVATIONS)
    new: dict[nn.Module, nn.Module] = {}
    if norm:
        new[norm] = activation if includes_activation and not absorbs else nn.Identity()
    if absorbs and not includes_activation:
        new[activation] = nn.Identity()
    new[convolution] = ConvActivation(fused, activation if absorbs else None) if fuse else fused
    return new


class ConvActivation(nn.Module):
    """Convolution with a fused activation.

    The activation is computed while the result is still in the cache. "Same" padding as in TensorFlow can add
    one cell more at the end than at the start. A row and a column of zeros before the kernel make the padding
    symmetric, so that the operator pads by itself. Separate padding would copy the whole feature map.

    Args:
        convolution: Convolution to run.
        activation: Activation after it; None: no activation.
    """

    def __init__(self, convolution: nn.Conv2d, activation: nn.Module | None) -> None:
        super().__init__()
        self.convolution = convolution
        self.name, self.limits = _activation_operator(activation)
        self.padded_weight: nn.Parameter | None = None
        if isinstance(convolution, Conv2dSame):
            self.padded_weight = nn.Parameter(F.pad(convolution.weight, (1, 0, 1, 0)), requires_grad=False)
        self.packed_weights: PackedWeights | None = None

    def pack(self) -> None:
        """Keep the weights in the memory layout of the kernel.

        The weights must not change afterwards.
        """
        self.packed_weights = PackedWeights()

    def _weight(self, x: Tensor, padding: list[int], *, pad_kernel: bool) -> Tensor:
        """Return the weights in the kernel's layout for this input shape.

        In any other layout they would be reordered at each call, which takes longer than the convolution of a
        few samples.
        """
        c = self.convolution
        weight = self.padded_weight if pad_kernel else c.weight
        assert weight is not None
        if self.packed_weights is None:
            return weight
        return self.packed_weights.get(
            (pad_kernel, *x.shape),
            lambda: torch.ops.mkldnn._reorder_convolution_weight(
                weight, padding, c.stride, c.dilation, c.groups, x.shape
            ),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated result of the convolution.

        Args:
            x: Feature maps, shape (batch, channel, y, x).

        Returns:
            Feature maps, shape (batch, channel, y, x).
        """
        c = self.convolution
        padding, pad_kernel = [int(each) for each in c.padding], False
        if self.padded_weight is not None:
            sides = zip(x.shape[2:], c.kernel_size, c.stride, c.dilation, strict=True)
            short = [_total_padding(*side) for side in sides]
            pad_kernel = all(each % 2 for each in short) and set(c.dilation) == {1}
            if not pad_kernel and any(each % 2 for each in short):
                x = pad_same(x, list(c.kernel_size), list(c.stride), list(c.dilation))
            else:
                padding = [(each + 1) // 2 for each in short]
        weight = self._weight(x, padding, pad_kernel=pad_kernel)
        return torch.ops.mkldnn._convolution_pointwise(
            x, weight, c.bias, padding, c.stride, c.dilation, c.groups, self.name, self.limits, ""
        )


class PackedWeights:
    """Cache of a layer's weights in the memory layout of the kernel.

    It holds the layouts for the last input shapes.
    """

    _MAX_SHAPES = 2  # shape of a full chunk of a batch, and shape of the last chunk

    def __init__(self) -> None:
        self._cache: dict[tuple, Tensor] = {}

    def get(self, shape: tuple, order: Callable[[], Tensor]) -> Tensor:
        """Return the weights for an input shape.

        Args:
            shape: Key of the cache; contains the input shape.
            order: Function that returns the weights in the layout for this shape; called if they are not
                cached.

        Returns:
            The reordered weights.
        """
        ordered = self._cache.get(shape)
        if ordered is None:
            ordered = order()
            if len(self._cache) >= self._MAX_SHAPES:
                self._cache.pop(next(iter(self._cache)), None)
            self._cache[shape] = ordered
        return ordered


def _total_padding(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Return the padding for a result of ``ceil(size / stride)`` cells."""
    return max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)


def _activation_operator(activation: nn.Module | None) -> tuple[str, list[float]]:
    """Return name and parameters of an activation for the oneDNN operator."""
    match activation:
        case None:
            return "none", []
        case nn.Hardtanh():  # also ReLU6, a subclass
            return "hardtanh", [activation.min_val, activation.max_val]
        case nn.SiLU():
            return "swish", []
        case nn.Hardswish():
            return "hardswish", []
        case _:
            return "relu", []
