"""Optimized copy of a model, kept until the weights change.

The optimizations, measured by ``benchmarks/predict_speed.py``, are:

- Batch normalization is folded into the convolution before it.
- The convolution also computes the activation that follows, with the oneDNN operator that PyTorch's compiler
  uses, but without compilation.
- The kernel does one-sided padding.
- Tensors are channels-last.
- A batch is split into chunks whose feature maps stay in the memory of the process.
- The network computes in bfloat16 where that is faster and gives nearly the same scores, or in 8-bit integers
  on request.

The head stays in float32.
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
"""Largest error of the scores with which ``auto`` chooses bfloat16.

The error is a fraction of the spread of the scores over generated images. Residual networks and transformers
stay below it (0.007 to 0.02 measured). MobileNetV2 does not (0.10 to 0.19); its prediction changes for about
one photo in ten.
"""

_NUM_CALIBRATION_SAMPLES = 32
"""Number of typical images that calibrate the ranges of 8-bit integers.

Each image has tens of thousands of values at each layer.
"""

_MIN_QUANTIZED_FRACTION = 0.5
"""Smallest share of the weights in 8-bit integers with which quantization saves time."""

_MAX_INT8_ERROR = 0.3
"""Largest accepted error of the scores in 8-bit integers, defined as for `TOLERANCE`."""

_MAX_FEATURE_MAP_BYTES = 16_000_000
"""Largest size of a feature map, below the size from which the C library maps each array separately."""


class OptimizedModel:
    """Normalization, network and head of a model, optimized for inference.

    Args:
        model: Model to copy; it stays unchanged.
        dtype: Data type of the network: ``torch.float32``, ``torch.bfloat16``, or ``torch.int8`` for its
            convolutions, with float32 between them.
        network: Result of `fuse_layers` for the model, if it is already available; for ``torch.int8`` the
            result of `quantize_int8`, which is required. Default: call `fuse_layers`.
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
        """Data type of everything that is not an integer."""
        return torch.float32 if self.dtype == torch.int8 else self.dtype

    @torch.inference_mode()
    def _max_chunk_size(self, model: BaseModel) -> int | None:
        """Return the number of samples per chunk; None: any number.

        With this number all feature maps stay below `_MAX_FEATURE_MAP_BYTES`. The system allocates, clears
        and frees a larger array at each layer. For 32 photos this takes as long as the computation of
        MobileNetV2. A small array stays in the memory of the process.
        """
        probe = model.probe_inputs(count=1, small=True)
        if probe is None:
            return None
        normalized = {name: value.to(self._float_dtype) for name, value in self.normalize(probe).items()}
        largest: float = _largest_feature_map(self.network, normalized)
        first = self.specs[0]
        if first.size is not None:  # probe inputs may be smaller than the model's own inputs
            largest *= math.prod(first.size) / math.prod(probe[first.name].shape[-2:])
        return max(1, int(_MAX_FEATURE_MAP_BYTES / max(largest, 1)))

    @torch.inference_mode()
    def __call__(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return scores and features of a batch, in float32, on the CPU.

        Args:
            inputs: Inputs by name, shape (batch, *layout), in physical units or in counts whose full scale is
                1.
            valid: Masks of valid values by name; an input without mask is completely valid.

        Returns:
            Output of the head and features of the network, one row per sample.
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
        normalized = {
            name: value.to(self._float_dtype) for name, value in self.normalize(batch, masks).items()
        }
        features = self.network(normalized, valid=masks or None, context=None).float()
        return self.head(features).cpu(), features.cpu()

    def valid_mask(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor], values: Tensor
    ) -> Tensor | None:
        """Return the mask of valid predictions of a batch.

        See `GeoModel.valid_mask`.

        Args:
            inputs: Inputs by name, shape (batch, *layout).
            valid: Masks of valid values by name.
            values: Output of the head.

        Returns:
            The mask; None if all predictions are valid.
        """
        return combined_valid_mask((self.network, self.head), inputs, valid or None, values)


def _slice_batch(batch: Mapping[str, Tensor], start: int, stop: int) -> dict[str, Tensor]:
    return {name: value[start:stop] for name, value in batch.items()}


def _to_channels_last(values: Tensor) -> Tensor:
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values


def _cast(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return the network in another precision.

    Batch normalization that is not folded keeps float32.
    """
    if dtype == torch.float32:
        return network
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    kept = [copy.deepcopy(norm.state_dict()) for norm in norms]
    network = network.to(dtype)
    for norm, state in zip(norms, kept, strict=True):
        norm.float().load_state_dict(state)
    return network


def _largest_feature_map(network: nn.Module, inputs: Mapping[str, Tensor]) -> int:
    """Return the size of the largest layer output, in bytes."""
    largest = 0

    def record(layer: nn.Module, args: Any, result: Any) -> None:
        nonlocal largest
        if isinstance(result, Tensor):
            largest = max(largest, result.numel() * result.element_size())

    hooks = [layer.register_forward_hook(record) for layer in network.modules()]
    try:
        network(dict(inputs), valid=None, context=None)
    finally:
        for hook in hooks:
            hook.remove()
    return largest


# --- cache of optimized models ------------------------------------------------------------------

_CACHE: weakref.WeakKeyDictionary[BaseModel, tuple[Any, OptimizedModel]] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def optimize_model(model: BaseModel, precision: str) -> OptimizedModel:
    """Return the optimized copy of a model.

    The copy is cached and created again after a change of the weights.

    Args:
        model: Model to copy.
        precision: One of `PRECISIONS`; see `GeoModel.predict`.

    Returns:
        The optimized copy.

    Raises:
        OptionError: The model or this machine does not support 8-bit integers.
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
    """Return a copy in bfloat16 or float32.

    It uses bfloat16 if that is faster on this machine and accurate enough.
    """
    network = fuse_layers(model)
    exact = OptimizedModel(model, torch.float32, network)
    probe = model.probe_inputs(count=4)
    is_candidate = model.target.kind == "class" and model.spec.fit == "gradient"
    if not is_candidate or probe is None or not has_fast_bfloat16(exact.device.type):
        return exact
    fast = OptimizedModel(model, torch.bfloat16, network)
    scores, fast_scores = (each(probe, {})[0] for each in (exact, fast))
    return fast if _relative_error(scores, fast_scores) <= TOLERANCE else exact


@torch.no_grad()
def _build_int8(model: BaseModel) -> OptimizedModel:
    """Return a copy in 8-bit integers, calibrated on typical images.

    The ranges are the same on every machine and do not depend on the first inputs of the user.
    """
    name = model.spec.name
    probe = model.probe_inputs(count=1, small=True)
    if model.target.kind != "class" or probe is None:
        raise OptionError(
            f"{name} does not classify images, so 8-bit integers are not supported; "
            "choose auto, float32 or bfloat16"
        )
    if model_device(model).type != "cpu" or not has_vnni():
        raise OptionError(
            f"precision 'int8' needs a processor with VNNI instructions and {name} on the CPU; "
            "choose auto, float32 or bfloat16"
        )
    network = fuse_layers(model)
    share = quantizable_fraction(network)
    if share < _MIN_QUANTIZED_FRACTION:
        raise OptionError(
            f"{name}: only {share:.0%} of its weights are in convolutions that 8-bit integers support, "
            f"at least {_MIN_QUANTIZED_FRACTION:.0%} are needed; choose auto, float32 or bfloat16"
        )
    exact = OptimizedModel(model, torch.float32, network)
    inputs, valid = model.typical_inputs(_NUM_CALIBRATION_SAMPLES)
    with record_ranges(exact.network) as ranges:
        scores, _ = exact(inputs, valid)
    fast = OptimizedModel(model, torch.int8, quantize_int8(network, ranges, exact.normalize(probe)))
    fast_scores, _ = fast(inputs, valid)
    error = _relative_error(scores, fast_scores)
    if error > _MAX_INT8_ERROR:
        raise OptionError(
            f"{name}: in 8-bit integers its scores differ by {error:.0%} of their spread, at most "
            f"{_MAX_INT8_ERROR:.0%} are accepted; choose auto, float32 or bfloat16"
        )
    return fast


def _relative_error(values: Tensor, approximate: Tensor) -> float:
    """Return the error as a fraction of the differences between samples.

    An error that is small compared with the values can be large compared with their differences.
    """
    error = approximate - values
    spread = (values - values.mean(0)).norm()
    return float((error - error.mean(0)).norm() / spread) if spread > 0 else 0.0


def _weights_version(model: BaseModel) -> tuple:
    """Return a key that changes with every change of the weights.

    A parameter or buffer changes when it is written, replaced or moved.
    """
    return tuple(
        (name, value.data_ptr(), value.dtype, value.device, -1 if value.is_inference() else value._version)
        for name, value in model.state_dict(keep_vars=True).items()
    )
