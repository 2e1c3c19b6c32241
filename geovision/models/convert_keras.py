"""Weights of the small Xception from a Keras file (``.h5``), as its authors' code writes them.

The file is read as data, by h5py: no Keras, and nothing in it is executed. Its layout is that of
Keras 2, ``model_weights/LAYER/LAYER/WEIGHT:0``, the layers listed in the attribute ``layer_names``, or
the same without ``model_weights`` where the weights alone were saved.

Axes in Keras and here, for k x k kernels, ``i`` channels in and ``o`` out:

    convolution    kernel (k, k, i, o)             -> (o, i, k, k)
    separable      depthwise_kernel (k, k, i, 1)   -> (i, 1, k, k)
                   pointwise_kernel (1, 1, i, o)   -> (o, i, 1, 1)
    dense          kernel (i, o)                   -> (o, i)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geovision.errors import MissingExtraError, OptionError, WeightsCorruptError
from geovision.models.geomodel import GeoModel
from geovision.models.xception_small import SeparableConv2d, XceptionSmall

__all__ = ["load_keras_weights", "read_keras_layers"]

Arrays = Mapping[str, np.ndarray]

# What a layer of each kind holds; the first that fits is its kind.
_LAYER_KINDS: Mapping[str, frozenset[str]] = {
    "convolution": frozenset({"kernel", "bias"}),
    "separable convolution": frozenset({"depthwise_kernel", "pointwise_kernel", "bias"}),
    "batch normalisation": frozenset({"gamma", "beta", "moving_mean", "moving_variance"}),
}


def load_keras_weights(model: GeoModel, path: str | Path) -> GeoModel:
    """Fill a ``polarlow-xception`` with the weights of a Keras file of the same architecture.

    The layers of each kind are taken in the order in which the file lists them, which is that of the
    network. The classes stand in the order of the last layer's units: no polar low, polar low.

    Args:
        model: Of the same channels and filters as the file's.
        path: The ``.h5`` file.

    Returns:
        The same model.

    Raises:
        OptionError: The model is no small Xception.
        WeightsCorruptError: The file cannot be read, or a layer is missing, left over or of another shape.
        MissingExtraError: h5py is not installed.
    """
    network: Any = model.network
    head: Any = model.head
    if not isinstance(network, XceptionSmall) or not isinstance(getattr(head, "linear", None), nn.Linear):
        raise OptionError(f"{model.spec.name} is no small Xception; Keras weights are those of one")
    path = Path(path)
    state: dict[nn.Module, dict[str, Tensor]] = {}
    wanted = _expected_layers([*network.modules(), head.linear])
    found = read_keras_layers(path)
    for kind in wanted:
        own, given = wanted[kind], [layer for layer in found if layer[1] == kind]
        if len(own) != len(given):
            raise WeightsCorruptError(
                f"{path}: {len(given)} layers of kind {kind}, the network has {len(own)}"
            )
        for (name, module), (layer, _, arrays) in zip(own, given, strict=True):
            state[module] = _convert_arrays(kind, module, arrays, where=f"{path}: layer {layer!r} for {name}")
    with torch.no_grad():  # nothing is changed before all of it fits
        for module, tensors in state.items():
            own_state = module.state_dict()
            for key, value in tensors.items():
                own_state[key].copy_(value)
    return model


def read_keras_layers(path: Path) -> list[tuple[str, str, dict[str, np.ndarray]]]:
    """(layer, kind, arrays by weight name) of every layer with weights, in the file's order.

    Raises:
        WeightsCorruptError: It is missing, no HDF5 file, of another layout, or has a layer of no known kind.
        MissingExtraError: h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError("h5py", "geo") from error
    try:
        with h5py.File(path, "r") as file:
            root: Any = file.get("model_weights", file)
            names = [_decode_name(name) for name in root.attrs["layer_names"]]
            layers = [(name, _arrays(root[name], h5py.Dataset)) for name in names]
    except (OSError, KeyError, AttributeError) as error:
        reason = str(error).splitlines()[0].strip("'\"") if str(error) else type(error).__name__
        raise WeightsCorruptError(
            f"{path}: not a Keras file in the layout model_weights/LAYER/LAYER/WEIGHT:0 ({reason})"
        ) from error
    return [(name, _layer_kind(name, arrays, path), arrays) for name, arrays in layers if arrays]


def _decode_name(name: Any) -> str:
    return name.decode("utf-8") if isinstance(name, bytes) else str(name)


def _arrays(group: Any, kind: type) -> dict[str, np.ndarray]:
    """Every array below a layer's group, by the last part of its name without ``:0``."""
    arrays: dict[str, np.ndarray] = {}

    def visit(name: str, node: Any) -> None:
        if isinstance(node, kind):
            arrays[name.rpartition("/")[2].partition(":")[0]] = np.asarray(node)  # type: ignore[arg-type]

    group.visititems(visit)
    return arrays


def _layer_kind(layer: str, arrays: Arrays, path: Path) -> str:
    found = next((kind for kind, names in _LAYER_KINDS.items() if names == set(arrays)), "")
    if not found:
        raise WeightsCorruptError(
            f"{path}: layer {layer!r} holds {sorted(arrays)}; no layer of the network does"
        )
    return "dense" if found == "convolution" and arrays["kernel"].ndim == 2 else found


def _expected_layers(modules: list[nn.Module]) -> dict[str, list[tuple[str, nn.Module]]]:
    """The layers of the network by kind, in their order, each with a word for messages."""
    wanted: dict[str, list[tuple[str, nn.Module]]] = {"dense": [], **{kind: [] for kind in _LAYER_KINDS}}
    inner = {
        id(part) for m in modules if isinstance(m, SeparableConv2d) for part in (m.depthwise, m.pointwise)
    }
    for kind, module in _iter_kinds(modules):
        if id(module) not in inner:
            wanted[kind].append((f"{kind} {len(wanted[kind]) + 1}", module))
    return wanted


def _iter_kinds(modules: list[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    for module in modules:
        match module:
            case SeparableConv2d():
                yield "separable convolution", module
            case nn.Conv2d():
                yield "convolution", module
            case nn.BatchNorm2d():
                yield "batch normalisation", module
            case nn.Linear():
                yield "dense", module


def _convert_arrays(kind: str, module: nn.Module, arrays: Arrays, *, where: str) -> dict[str, Tensor]:
    """The arrays of one layer under the names and in the axes of a module."""
    state = module.state_dict()
    converted = {}
    for key, (name, axes) in _WEIGHT_NAMES[kind].items():
        array = np.transpose(arrays[name], axes) if arrays[name].ndim == len(axes) else arrays[name]
        if array.shape != tuple(state[key].shape):
            raise WeightsCorruptError(
                f"{where}: {name!r} has shape {arrays[name].shape}, "
                f"which is not that of {key} {tuple(state[key].shape)} here"
            )
        converted[key] = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    return converted


_VECTOR = (0,)
_WEIGHT_NAMES: Mapping[str, Mapping[str, tuple[str, tuple[int, ...]]]] = {
    "convolution": {"weight": ("kernel", (3, 2, 0, 1)), "bias": ("bias", _VECTOR)},
    "separable convolution": {
        "depthwise.weight": ("depthwise_kernel", (2, 3, 0, 1)),
        "pointwise.weight": ("pointwise_kernel", (3, 2, 0, 1)),
        "pointwise.bias": ("bias", _VECTOR),
    },
    "batch normalisation": {
        "weight": ("gamma", _VECTOR),
        "bias": ("beta", _VECTOR),
        "running_mean": ("moving_mean", _VECTOR),
        "running_var": ("moving_variance", _VECTOR),
    },
    "dense": {"weight": ("kernel", (1, 0)), "bias": ("bias", _VECTOR)},
}
"""By kind of layer: the module's state's name to the Keras name and the order of its axes."""
