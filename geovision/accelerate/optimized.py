"""A copy of a model that only answers, made once and kept until the weights change.

What makes it fast, measured by ``benchmarks/predict_speed.py``: batch normalisation is folded into
the convolution before it; an activation that follows is computed by the convolution itself, through
the oneDNN operator that PyTorch's compiler uses, without compiling; one-sided padding is done by the
kernel; pixels lie channels-last; a batch is worked through in parts whose maps stay with the process;
and the network computes in bfloat16 where that is faster and answers alike, or, where it is asked to,
in 8-bit integers. The head stays in float32.
"""

from __future__ import annotations

import copy
import math
import threading
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from geovision.accelerate._cpu_features import has_fast_bfloat16, has_vnni
from geovision.accelerate.fusion import ConvActivation, fuse_layers, model_device
from geovision.accelerate.quantization import quantizable_fraction, quantize_int8, record_ranges
from geovision.errors import OptionError
from geovision.heads.dense import combined_valid_mask

if TYPE_CHECKING:
    from geovision.models._base import BaseModel

__all__ = ["PRECISIONS", "TOLERANCE", "OptimizedModel", "optimize_model"]

PRECISIONS = ("auto", "float32", "bfloat16", "int8")

TOLERANCE = 0.03
"""Largest error of the scores, as a fraction of their spread over generated pictures, with which
bfloat16 is taken by itself. Residual networks and transformers keep it (0.007 to 0.02 measured);
MobileNetV2 does not (0.10 to 0.19), and changes its mind about one photo in ten."""

_NUM_CALIBRATION_SAMPLES = 32
"""Ordinary pictures whose ranges 8-bit integers span. Each has tens of thousands of values at each layer."""

_MIN_QUANTIZED_FRACTION = 0.5
"""Of the weights in 8-bit integers, from which they save time."""

_MAX_INT8_ERROR = 0.3
"""Error of the scores in 8-bit integers, as `TOLERANCE` has it, from which they are refused."""

_MAX_FEATURE_MAP_BYTES = 16_000_000
"""Below what the C library takes from the system for each array apart."""


class OptimizedModel:
    """A model's normalisation, network and head, ready to answer.

    Args:
        model: Copied; nothing of it is changed.
        dtype: What the network computes in: ``torch.float32``, ``torch.bfloat16``, or ``torch.int8`` for
            its convolutions, and float32 between them.
        network: What `joined` gave for the model, where it is known already; in integers what
            `quantize_int8` made of that.
    """

    def __init__(self, model: BaseModel, dtype: torch.dtype, network: nn.Module | None = None) -> None:
        assert dtype != torch.int8 or network is not None
        self.specs = model.inputs
        self.dtype = dtype
        self.normalize = copy.deepcopy(model.normalize).eval()
        self.head: Any = copy.deepcopy(model.head).eval()
        self.device = model_device(model)
        network = fuse_layers(model) if network is None else copy.deepcopy(network)
        self.network = _cast(network.to(memory_format=torch.channels_last), self._float_dtype)
        self.chunk_size = self._max_chunk_size(model) if self.device.type == "cpu" else None
        for module in network.modules():
            if isinstance(module, ConvActivation):
                module.pack()

    @property
    def _float_dtype(self) -> torch.dtype:
        """Of everything that is not an integer."""
        return torch.float32 if self.dtype == torch.int8 else self.dtype

    @torch.inference_mode()
    def _max_chunk_size(self, model: BaseModel) -> int | None:
        """As many samples as keep every map of the network below `_MAP_BYTES`; None: any number.

        A large array is memory that the system hands out, clears and takes back at each layer, which
        for 32 photos takes as long as MobileNetV2 computes. A small one stays with the process.
        """
        pictures = model.probe_inputs(count=1, small=True)
        if pictures is None:
            return None
        normalised = {name: value.to(self._float_dtype) for name, value in self.normalize(pictures).items()}
        largest: float = _largest_feature_map(self.network, normalised)
        first = self.specs[0]
        if first.size is not None:  # the pictures may be smaller than the model's own inputs
            largest *= math.prod(first.size) / math.prod(pictures[first.name].shape[-2:])
        return max(1, int(_MAX_FEATURE_MAP_BYTES / max(largest, 1)))

    @torch.inference_mode()
    def __call__(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Values and features of a batch, in float32, on the CPU.

        Args:
            inputs: By name, ``(batch, *layout)``: physical units, or counts whose full scale is 1.
            valid: Which values are there; absent: all.
        """
        count = max(map(len, inputs.values()), default=0)
        part = self.chunk_size or count
        if count <= part:
            return self._forward(inputs, valid)
        parts = [
            self._forward(*(_slice_batch(each, start, start + part) for each in (inputs, valid)))
            for start in range(0, count, part)
        ]
        values, features = zip(*parts, strict=True)
        return torch.cat(values), torch.cat(features)

    def _forward(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        batch = {
            name: _to_channels_last(self.normalize.physical(name, value.to(self.device)))
            for name, value in inputs.items()
        }
        masks = {name: value.to(self.device) for name, value in valid.items()}
        normalised = {
            name: value.to(self._float_dtype) for name, value in self.normalize(batch, masks).items()
        }
        features = self.network(normalised, valid=masks or None, context=None).float()
        return self.head(features).cpu(), features.cpu()

    def valid_mask(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor], values: Tensor
    ) -> Tensor | None:
        """Where the answers to a batch mean something; None: everywhere. See `GeoModel.valid_mask`."""
        return combined_valid_mask((self.network, self.head), inputs, valid or None, values)


def _slice_batch(batch: Mapping[str, Tensor], start: int, stop: int) -> dict[str, Tensor]:
    return {name: value[start:stop] for name, value in batch.items()}


def _to_channels_last(values: Tensor) -> Tensor:
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


def _largest_feature_map(network: nn.Module, inputs: Mapping[str, Tensor]) -> int:
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


# --- kept until the weights change --------------------------------------------------------------

_CACHE: weakref.WeakKeyDictionary[BaseModel, tuple[Any, OptimizedModel]] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def optimize_model(model: BaseModel, precision: str) -> OptimizedModel:
    """The prepared copy of a model, made anew where its weights have changed since the last.

    Args:
        precision: One of `PRECISIONS`; see `GeoModel.predict`.

    Raises:
        OptionError: The model, or this machine, has no use for 8-bit integers.
    """
    with _LOCK:
        state = (precision, _weights_version(model))
        kept = _CACHE.get(model)
        if kept is None or kept[0] != state:
            kept = (state, _build(model, precision))
            _CACHE[model] = kept
        return kept[1]


def _build(model: BaseModel, precision: str) -> OptimizedModel:
    match precision:
        case "auto":
            return _build_auto(model)
        case "int8":
            return _build_int8(model)
        case _:
            return OptimizedModel(model, getattr(torch, precision))


def _build_auto(model: BaseModel) -> OptimizedModel:
    """In bfloat16 where the processor computes in it and the scores survive it."""
    network = fuse_layers(model)
    exact = OptimizedModel(model, torch.float32, network)
    pictures = model.probe_inputs(count=4)
    decided = model.target.kind == "class" and model.spec.fit == "gradient"
    if not decided or pictures is None or not has_fast_bfloat16(exact.device.type):
        return exact
    quick = OptimizedModel(model, torch.bfloat16, network)
    scores, quick_scores = (each(pictures, {})[0] for each in (exact, quick))
    return quick if _relative_error(scores, quick_scores) <= TOLERANCE else exact


@torch.no_grad()
def _build_int8(model: BaseModel) -> OptimizedModel:
    """With the ranges of ordinary pictures: the same on every machine, whatever is asked of it first."""
    name = model.spec.name
    pictures = model.probe_inputs(count=1, small=True)
    if model.target.kind != "class" or pictures is None:
        raise OptionError(f"{name} does not tell classes of pictures; 8-bit integers are for those that do")
    if model_device(model).type != "cpu" or not has_vnni():
        raise OptionError(
            f"precision 'int8' needs a processor with instructions for it (VNNI), and {name} on it; "
            "choose auto, float32 or bfloat16"
        )
    network = fuse_layers(model)
    share = quantizable_fraction(network)
    if share < _MIN_QUANTIZED_FRACTION:
        raise OptionError(
            f"{name}: {share:.0%} of its weights belong to convolutions, and only those are computed in "
            "8-bit integers; choose auto, float32 or bfloat16"
        )
    exact = OptimizedModel(model, torch.float32, network)
    inputs, valid = model.typical_inputs(_NUM_CALIBRATION_SAMPLES)
    with record_ranges(exact.network) as ranges:
        scores, _ = exact(inputs, valid)
    quick = OptimizedModel(model, torch.int8, quantize_int8(network, ranges, exact.normalize(pictures)))
    quick_scores, _ = quick(inputs, valid)
    noise = _relative_error(scores, quick_scores)
    if noise > _MAX_INT8_ERROR:
        raise OptionError(
            f"{name}: in 8-bit integers its scores differ by {noise:.0%} of what tells ordinary pictures "
            "apart; choose auto, float32 or bfloat16"
        )
    return quick


def _relative_error(values: Tensor, approximate: Tensor) -> float:
    """Error as a fraction of what tells the samples apart: an error that is small beside the values
    can still be large beside their differences."""
    error = approximate - values
    spread = (values - values.mean(0)).norm()
    return float((error - error.mean(0)).norm() / spread) if spread > 0 else 0.0


def _weights_version(model: BaseModel) -> tuple:
    """Changes whenever a parameter or buffer is written, replaced or moved."""
    return tuple(
        (name, value.data_ptr(), value.dtype, value.device, -1 if value.is_inference() else value._version)
        for name, value in model.state_dict(keep_vars=True).items()
    )
