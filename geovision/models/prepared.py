"""A copy of a model that only answers, made once and kept until the weights change.

What makes it fast, measured by ``benchmarks/predict_speed.py``: batch normalisation is folded into
the convolution before it; an activation that follows is computed by the convolution itself, through
the oneDNN operator that PyTorch's compiler uses, without compiling; one-sided padding is done by the
kernel; pixels lie channels-last; a batch is worked through in parts whose maps stay with the process;
and the network computes in bfloat16 where that is faster and answers alike. The head stays in float32.

Which layer follows which is seen by running the network once, not guessed from names, and the copy
is compared with the model before it is used. A network where they differ is left as it is.
"""

from __future__ import annotations

import copy
import math
import threading
import weakref
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.padding import pad_same
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from geovision.hardware import hardware_bfloat16
from geovision.models.generated import generated_inputs
from geovision.models.geomodel import GeoModel, answered_by
from geovision.models.preprocess import physical

__all__ = ["TOLERANCE", "Prepared", "joined", "prepare"]

TOLERANCE = 0.03
"""Largest error of the scores, as a fraction of their spread over generated pictures, with which
bfloat16 is taken by itself. Residual networks and transformers keep it (0.007 to 0.02 measured);
MobileNetV2 does not (0.10 to 0.19), and changes its mind about one photo in ten."""

_MAP_BYTES = 16_000_000
"""Below what the C library takes from the system for each array apart."""


class Prepared:
    """A model's normalisation, network and head, ready to answer.

    Args:
        model: Copied; nothing of it is changed.
        dtype: What the network computes in, ``torch.float32`` or ``torch.bfloat16``.
        network: What `joined` gave for the model, where it is known already.
    """

    def __init__(self, model: GeoModel, dtype: torch.dtype, network: nn.Module | None = None) -> None:
        self.specs = model.inputs
        self.dtype = dtype
        self.normalise = copy.deepcopy(model.normalise).eval()
        self.head: Any = copy.deepcopy(model.head).eval()
        self.device = _device(model)
        network = joined(model) if network is None else copy.deepcopy(network)
        self.network = _cast(network.to(memory_format=torch.channels_last), dtype)
        self.part = self._part(model) if self.device.type == "cpu" else None
        for module in network.modules():
            if isinstance(module, _ConvolutionActivation):
                module.pack()

    @torch.inference_mode()
    def _part(self, model: GeoModel) -> int | None:
        """As many samples as keep every map of the network below `_MAP_BYTES`; None: any number.

        A large array is memory that the system hands out, clears and takes back at each layer, which
        for 32 photos takes as long as MobileNetV2 computes. A small one stays with the process.
        """
        pictures = _pictures(model, count=1, small=True)
        if pictures is None:
            return None
        normalised = {name: value.to(self.dtype) for name, value in self.normalise(pictures).items()}
        largest: float = _largest_map(self.network, normalised)
        first = self.specs[0]
        if first.size is not None:  # the pictures may be smaller than the model's own inputs
            largest *= math.prod(first.size) / math.prod(pictures[first.name].shape[-2:])
        return max(1, int(_MAP_BYTES / max(largest, 1)))

    @torch.inference_mode()
    def __call__(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Values and features of a batch, in float32, on the CPU.

        Args:
            inputs: By name, ``(batch, *layout)``: physical units, or counts whose full scale is 1.
            valid: Which values are there; absent: all.
        """
        count = max(map(len, inputs.values()), default=0)
        part = self.part or count
        if count <= part:
            return self._answer(inputs, valid)
        parts = [
            self._answer(*(_rows(each, start, start + part) for each in (inputs, valid)))
            for start in range(0, count, part)
        ]
        values, features = zip(*parts, strict=True)
        return torch.cat(values), torch.cat(features)

    def _answer(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        specs = {spec.name: spec for spec in self.specs}
        batch = {
            name: _laid_out(physical(value.to(self.device), specs[name])) for name, value in inputs.items()
        }
        masks = {name: value.to(self.device) for name, value in valid.items()}
        normalised = {name: value.to(self.dtype) for name, value in self.normalise(batch, masks).items()}
        features = self.network(normalised, valid=masks or None, context=None).float()
        return self.head(features).cpu(), features.cpu()

    def answered(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor], values: Tensor
    ) -> Tensor | None:
        """Where the answers to a batch mean something; None: everywhere. See `GeoModel.answered`."""
        return answered_by((self.network, self.head), inputs, valid or None, values)


def _rows(batch: Mapping[str, Tensor], start: int, stop: int) -> dict[str, Tensor]:
    return {name: value[start:stop] for name, value in batch.items()}


def _laid_out(values: Tensor) -> Tensor:
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values


def _cast(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The network in another precision; running statistics that were not folded keep theirs."""
    if dtype == torch.float32:
        return network
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    kept = [copy.deepcopy(norm.state_dict()) for norm in norms]
    network = network.to(dtype)
    for norm, state in zip(norms, kept, strict=True):
        norm.float().load_state_dict(state)
    return network


def _largest_map(network: nn.Module, inputs: Mapping[str, Tensor]) -> int:
    """Bytes of the largest array that a layer gives for a batch."""
    largest = 0

    def note(layer: nn.Module, args: Any, result: Any) -> None:
        nonlocal largest
        if isinstance(result, Tensor):
            largest = max(largest, result.numel() * result.element_size())

    hooks = [layer.register_forward_hook(note) for layer in network.modules()]
    try:
        network(dict(inputs), valid=None, context=None)
    finally:
        for hook in hooks:
            hook.remove()
    return largest


def _device(model: GeoModel) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


# --- kept until the weights change --------------------------------------------------------------

_KEPT: weakref.WeakKeyDictionary[GeoModel, tuple[Any, Prepared]] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def prepare(model: GeoModel, precision: str) -> Prepared:
    """The prepared copy of a model, made anew where its weights have changed since the last.

    Args:
        precision: ``"float32"``, ``"bfloat16"``, or ``"auto"``: see `GeoModel.predict`.
    """
    with _LOCK:
        state = (precision, _version(model))
        kept = _KEPT.get(model)
        if kept is None or kept[0] != state:
            made = _chosen(model) if precision == "auto" else Prepared(model, getattr(torch, precision))
            kept = (state, made)
            _KEPT[model] = kept
        return kept[1]


def _chosen(model: GeoModel) -> Prepared:
    """In bfloat16 where the processor computes in it and the scores survive it."""
    network = joined(model)
    exact = Prepared(model, torch.float32, network)
    pictures = _pictures(model, count=4)
    decided = model.target.kind == "class" and model.spec.fit == "gradient"
    if not decided or pictures is None or not hardware_bfloat16(exact.device.type):
        return exact
    quick = Prepared(model, torch.bfloat16, network)
    scores, quick_scores = (each(pictures, {})[0] for each in (exact, quick))
    return quick if _noise(scores, quick_scores) <= TOLERANCE else exact


def _noise(values: Tensor, approximate: Tensor) -> float:
    """Error as a fraction of what tells the samples apart: an error that is small beside the values
    can still be large beside their differences."""
    error = approximate - values
    spread = (values - values.mean(0)).norm()
    return float((error - error.mean(0)).norm() / spread) if spread > 0 else 0.0


def _version(model: GeoModel) -> tuple:
    """Changes whenever a parameter or buffer is written, replaced or moved."""
    return tuple(
        (name, value.data_ptr(), value.dtype, value.device, -1 if value.is_inference() else value._version)
        for name, value in model.state_dict(keep_vars=True).items()
    )


# --- which layer follows which ------------------------------------------------------------------


@dataclass(frozen=True)
class _Call:
    """One call of a layer, with the tensors it took and gave. A version tells the same tensor
    before and after it was changed in place."""

    layer: nn.Module
    took: tuple[Tensor, int]
    gave: tuple[Tensor, int]


def _pictures(model: GeoModel, *, count: int, small: bool = False) -> dict[str, Tensor] | None:
    """Generated inputs to look at the network with; None where the model's sizes are not known."""
    if any(spec.layout not in ("channel", "channel y x") for spec in model.inputs):
        return None
    # Layers follow each other at any size alike, so where a network takes any, a small one is quicker.
    small = small and "any_size" in model.spec.capabilities
    inputs: dict[str, Tensor] = {}
    for seed, spec in enumerate(model.inputs):
        axes = {a: min(n, 96) for a, n in zip("yx", spec.size, strict=True)} if small and spec.size else {}
        found = generated_inputs([spec], count, axes=axes, seed=seed)
        if found is None:
            return None
        inputs |= {name: values.to(_device(model)) for name, values in found.items()}
    return inputs


def _calls(network: nn.Module, example: Mapping[str, Tensor]) -> tuple[list[_Call], Tensor]:
    """Every call of a layer that may be joined with another, in one run, and the run's result."""
    calls: list[_Call] = []

    def note(layer: nn.Module, args: tuple[Tensor, ...], result: Tensor) -> None:
        calls.append(_Call(layer, (args[0], versions.pop()), (result, result._version)))

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


def _followers(calls: list[_Call]) -> dict[nn.Module, nn.Module]:
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


def _copied(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).eval().requires_grad_(False)


# --- layers joined ------------------------------------------------------------------------------

_NORMS = (nn.BatchNorm2d, BatchNormAct2d)
_SHAPES = 2  # whose packed weights are kept: that of a whole part of a batch, and that of the last
_ACTIVATIONS = (nn.ReLU, nn.Hardtanh, nn.SiLU, nn.Hardswish)


def joined(model: GeoModel, *, operator: bool = True) -> nn.Module:
    """A copy of the network in which a convolution takes in the normalisation and the activation
    that follow it; a plain copy where that would answer otherwise.

    Args:
        operator: Activations too, by oneDNN's operator, where the network is on a CPU. Without, only
            ordinary layers remain, which can be exported.
    """
    pictures = _pictures(model, count=1, small=True)
    if pictures is None:
        return _copied(model.network)
    example = copy.deepcopy(model.normalise).eval()(pictures)
    network = _copied(model.network)
    calls, expected = _calls(network, example)
    followers = _followers(calls)
    new: dict[nn.Module, nn.Module] = {}
    for convolution in [call.layer for call in calls if isinstance(call.layer, nn.Conv2d)]:
        new |= _join(convolution, followers, fuse=operator and expected.device.type == "cpu")
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if child in new:
                setattr(parent, name, new[child])
    try:
        with torch.no_grad():
            found = network(dict(example), valid=None, context=None)
    except (RuntimeError, AttributeError):  # a build of PyTorch without the operator
        return _copied(model.network)
    same = (found - expected).abs().max() <= 1e-3 * expected.abs().max()
    return network if same else _copied(model.network)


def _join(
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
    new[convolution] = _ConvolutionActivation(joined, after if takes else None) if fuse else joined
    return new


class _ConvolutionActivation(nn.Module):
    """A convolution whose activation is computed while its result is still in the cache.

    Padding as TensorFlow does it can be one cell more at the end than at the start. A row and a
    column of zeros before the kernel make that even, so that the operator pads by itself: padding
    apart is a copy of the whole map.
    """

    def __init__(self, convolution: nn.Conv2d, activation: nn.Module | None) -> None:
        super().__init__()
        self.convolution = convolution
        self.name, self.limits = _operator(activation)
        self.lopsided: nn.Parameter | None = None
        if isinstance(convolution, Conv2dSame):
            self.lopsided = nn.Parameter(F.pad(convolution.weight, (1, 0, 1, 0)), requires_grad=False)
        self.packed: dict[tuple, Tensor] | None = None

    def pack(self) -> None:
        """From now on keep the weights in the order that the kernel takes; they change no more."""
        self.packed = {}

    def _weight(self, x: Tensor, padding: list[int], *, lopsided: bool) -> Tensor:
        """The weights in the order that the kernel for this very shape takes: in another they would be
        brought into it at each call, which takes longer than to convolve a few samples."""
        c = self.convolution
        weight = self.lopsided if lopsided else c.weight
        assert weight is not None
        if self.packed is None:
            return weight
        key = (lopsided, *x.shape)
        packed = self.packed.get(key)
        if packed is None:
            packed = torch.ops.mkldnn._reorder_convolution_weight(
                weight, padding, c.stride, c.dilation, c.groups, x.shape
            )
            if len(self.packed) >= _SHAPES:
                self.packed.pop(next(iter(self.packed)), None)
            self.packed[key] = packed
        return packed

    def forward(self, x: Tensor) -> Tensor:
        c = self.convolution
        padding, lopsided = [int(each) for each in c.padding], False
        if self.lopsided is not None:
            sides = zip(x.shape[2:], c.kernel_size, c.stride, c.dilation, strict=True)
            short = [_missing(*side) for side in sides]
            lopsided = all(each % 2 for each in short) and set(c.dilation) == {1}
            if not lopsided and any(each % 2 for each in short):
                x = pad_same(x, list(c.kernel_size), list(c.stride), list(c.dilation))
            else:
                padding = [(each + 1) // 2 for each in short]
        weight = self._weight(x, padding, lopsided=lopsided)
        return torch.ops.mkldnn._convolution_pointwise(
            x, weight, c.bias, padding, c.stride, c.dilation, c.groups, self.name, self.limits, ""
        )


def _missing(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Cells that padding adds in all, so that the result has ``ceil(size / stride)``."""
    return max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)


def _operator(activation: nn.Module | None) -> tuple[str, list[float]]:
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
