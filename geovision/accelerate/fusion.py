"""A network in which a convolution takes in the normalisation and the activation that follow it.

Which layer follows which is seen by running the network once, not guessed from names, and the copy
is compared with the model before it is used. A network where they differ is left as it is.
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
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


@dataclass(frozen=True)
class _LayerCall:
    """One call of a layer, with the tensors it took and gave. A version tells the same tensor
    before and after it was changed in place."""

    layer: nn.Module
    took: tuple[Tensor, int]
    gave: tuple[Tensor, int]


def _record_calls(network: nn.Module, example: Mapping[str, Tensor]) -> tuple[list[_LayerCall], Tensor]:
    """Every call of a layer that may be joined with another, in one run, and the run's result."""
    calls: list[_LayerCall] = []

    def note(layer: nn.Module, args: tuple[Tensor, ...], result: Tensor) -> None:
        calls.append(_LayerCall(layer, (args[0], versions.pop()), (result, result._version)))

    versions: list[int] = []

    def before(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        versions.append(args[0]._version)

    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d, *_ACTIVATIONS))]
    hooks = [layer.register_forward_pre_hook(before) for layer in layers]
    hooks += [layer.register_forward_hook(note) for layer in layers]
    try:
        with torch.no_grad():  # inference tensors have no version
            result = network(dict(example), valid=None, context=None)
    finally:
        for hook in hooks:
            hook.remove()
    return calls, result


def _followers(calls: list[_LayerCall]) -> dict[nn.Module, nn.Module]:
    """For each layer the one that takes exactly what it gave, where there is one and only one, and
    both are called once."""
    often = Counter(id(call.layer) for call in calls)
    single = [call for call in calls if often[id(call.layer)] == 1]
    followers = {}
    for call in single:
        takers = [t for t in single if t.took[0] is call.gave[0] and t.took[1] == call.gave[1]]
        if len(takers) == 1:
            followers[call.layer] = takers[0].layer
    return followers


def _frozen_copy(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).eval().requires_grad_(False)


# --- layers joined ------------------------------------------------------------------------------

_NORMS = (nn.BatchNorm2d, BatchNormAct2d)
_ACTIVATIONS = (nn.ReLU, nn.Hardtanh, nn.SiLU, nn.Hardswish)


def fuse_layers(model: BaseModel, *, operator: bool = True) -> nn.Module:
    """A copy of the network in which a convolution takes in the normalisation and the activation
    that follow it; a plain copy where that would answer otherwise.

    Args:
        operator: Activations too, by oneDNN's operator, where the network is on a CPU. Without, only
            ordinary layers remain, which can be exported.
    """
    pictures = model.probe_inputs(count=1, small=True)
    if pictures is None:
        return _frozen_copy(model.network)
    example = copy.deepcopy(model.normalize).eval()(pictures)
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
    except (RuntimeError, AttributeError):  # a build of PyTorch without the operator
        return _frozen_copy(model.network)
    same = (found - expected).abs().max() <= 1e-3 * expected.abs().max()
    return network if same else _frozen_copy(model.network)


def _fuse_convolution(
    convolution: nn.Conv2d, followers: Mapping[nn.Module, nn.Module], *, fuse: bool
) -> dict[nn.Module, nn.Module]:
    """What takes the place of a convolution and of the layers that are joined to it."""
    norm: Any = followers.get(convolution)
    if type(norm) not in _NORMS or not norm.track_running_stats:
        norm = None
    # timm's joint layer holds its activation.
    held = isinstance(norm, BatchNormAct2d)
    after: Any = norm.act if held else followers.get(norm or convolution)
    joined = fuse_conv_bn_eval(convolution, norm) if norm else convolution
    fuse = fuse and type(joined) in (nn.Conv2d, Conv2dSame) and not isinstance(joined.padding, str)
    takes = fuse and isinstance(after, _ACTIVATIONS)
    new: dict[nn.Module, nn.Module] = {}
    if norm:
        new[norm] = after if held and not takes else nn.Identity()
    if takes and not held:
        new[after] = nn.Identity()
    new[convolution] = ConvActivation(joined, after if takes else None) if fuse else joined
    return new


class ConvActivation(nn.Module):
    """A convolution whose activation is computed while its result is still in the cache.

    Padding as TensorFlow does it can be one cell more at the end than at the start. A row and a
    column of zeros before the kernel make that even, so that the operator pads by itself: padding
    apart is a copy of the whole map.
    """

    def __init__(self, convolution: nn.Conv2d, activation: nn.Module | None) -> None:
        super().__init__()
        self.convolution = convolution
        self.name, self.limits = _activation_operator(activation)
        self.lopsided: nn.Parameter | None = None
        if isinstance(convolution, Conv2dSame):
            self.lopsided = nn.Parameter(F.pad(convolution.weight, (1, 0, 1, 0)), requires_grad=False)
        self.orders: PackedWeights | None = None

    def pack(self) -> None:
        """From now on keep the weights in the order that the kernel takes; they change no more."""
        self.orders = PackedWeights()

    def _weight(self, x: Tensor, padding: list[int], *, lopsided: bool) -> Tensor:
        """The weights in the order that the kernel for this very shape takes: in another they would be
        brought into it at each call, which takes longer than to convolve a few samples."""
        c = self.convolution
        weight = self.lopsided if lopsided else c.weight
        assert weight is not None
        if self.orders is None:
            return weight
        return self.orders.get(
            (lopsided, *x.shape),
            lambda: torch.ops.mkldnn._reorder_convolution_weight(
                weight, padding, c.stride, c.dilation, c.groups, x.shape
            ),
        )

    def forward(self, x: Tensor) -> Tensor:
        c = self.convolution
        padding, lopsided = [int(each) for each in c.padding], False
        if self.lopsided is not None:
            sides = zip(x.shape[2:], c.kernel_size, c.stride, c.dilation, strict=True)
            short = [_total_padding(*side) for side in sides]
            lopsided = all(each % 2 for each in short) and set(c.dilation) == {1}
            if not lopsided and any(each % 2 for each in short):
                x = pad_same(x, list(c.kernel_size), list(c.stride), list(c.dilation))
            else:
                padding = [(each + 1) // 2 for each in short]
        weight = self._weight(x, padding, lopsided=lopsided)
        return torch.ops.mkldnn._convolution_pointwise(
            x, weight, c.bias, padding, c.stride, c.dilation, c.groups, self.name, self.limits, ""
        )


class PackedWeights:
    """A layer's weights in the order that a kernel takes, for the shapes that it was last given."""

    _MAX_SHAPES = 2  # that of a whole part of a batch, and that of the last

    def __init__(self) -> None:
        self._cache: dict[tuple, Tensor] = {}

    def get(self, shape: tuple, order: Callable[[], Tensor]) -> Tensor:
        """The weights for a shape; `order` brings them into it where they are not kept."""
        ordered = self._cache.get(shape)
        if ordered is None:
            ordered = order()
            if len(self._cache) >= self._MAX_SHAPES:
                self._cache.pop(next(iter(self._cache)), None)
            self._cache[shape] = ordered
        return ordered


def _total_padding(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Cells that padding adds in all, so that the result has ``ceil(size / stride)``."""
    return max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)


def _activation_operator(activation: nn.Module | None) -> tuple[str, list[float]]:
    """Name and numbers of an activation, as oneDNN's operator takes them."""
    match activation:
        case None:
            return "none", []
        case nn.Hardtanh():  # ReLU6 is one
            return "hardtanh", [activation.min_val, activation.max_val]
        case nn.SiLU():
            return "swish", []
        case nn.Hardswish():
            return "hardswish", []
        case _:
            return "relu", []
