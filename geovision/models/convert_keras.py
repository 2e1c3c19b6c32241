"""Conversion of Keras weights (``.h5``) of the small Xception.

The files are those that the code of its authors writes. The file is read by h5py as data. Keras is not
needed, and no code in the file is executed. The layout is that of Keras 2:
``model_weights/LAYER/LAYER/WEIGHT:0``, with the layers listed in the attribute ``layer_names``. The group
``model_weights`` is absent if only the weights were saved.

Axes in Keras and here, for k x k kernels with ``i`` input and ``o`` output channels::

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

# Names of the arrays of each kind of layer; the first match is the kind of the layer.
_LAYER_KINDS: Mapping[str, frozenset[str]] = {
    "convolution": frozenset({"kernel", "bias"}),
    "separable convolution": frozenset({"depthwise_kernel", "pointwise_kernel", "bias"}),
    "batch normalization": frozenset({"gamma", "beta", "moving_mean", "moving_variance"}),
}


def load_keras_weights(model: GeoModel, path: str | Path) -> GeoModel:
    """Load the weights of a Keras file into a ``polarlow-xception`` model.

    The layers of each kind are used in the order of the file, which is that of the network. The classes have
    the order of the units of the last layer: no polar low, polar low.

    Args:
        model: Model with the same channels and filters as the file.
        path: Path of the ``.h5`` file.

    Returns:
        The same model.

    Raises:
        OptionError: The model is not a small Xception.
        WeightsCorruptError: The file cannot be read, or a layer is missing, superfluous or of another shape.
        MissingExtraError: h5py is not installed.
    """
    network: Any = model.network
    head: Any = model.head
    if not isinstance(network, XceptionSmall) or not isinstance(getattr(head, "linear", None), nn.Linear):
        raise OptionError(f"{model.spec.name} is not a small Xception; Keras weights need polarlow-xception")
    path = Path(path)
    state: dict[nn.Module, dict[str, Tensor]] = {}
    wanted = _expected_layers([*network.modules(), head.linear])
    found = read_keras_layers(path)
    for kind in wanted:
        own, given = wanted[kind], [layer for layer in found if layer[1] == kind]
        if len(own) != len(given):
            raise WeightsCorruptError(
                f"{path} has {len(given)} layers of kind {kind}; the network has {len(own)}"
            )
        for (name, module), (layer, _, arrays) in zip(own, given, strict=True):
            state[module] = _convert_arrays(kind, module, arrays, where=f"{path}: layer {layer!r} for {name}")
    with torch.no_grad():  # the model is changed only after all layers have been validated
        for module, tensors in state.items():
            own_state = module.state_dict()
            for key, value in tensors.items():
                own_state[key].copy_(value)
    return model


def read_keras_layers(path: Path) -> list[tuple[str, str, dict[str, np.ndarray]]]:
    """Read all layers with weights from a Keras file.

    Args:
        path: Path of the ``.h5`` file.

    Returns:
        Name, kind and arrays by weight name of each layer, in the order of the file.

    Raises:
        WeightsCorruptError: The file is missing or not an HDF5 file, has another layout, or has a layer of an
            unknown kind.
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
            f"{path} is not a Keras file with the layout model_weights/LAYER/LAYER/WEIGHT:0 ({reason})"
        ) from error
    return [(name, _layer_kind(name, arrays, path), arrays) for name, arrays in layers if arrays]


def _decode_name(name: Any) -> str:
    return name.decode("utf-8") if isinstance(name, bytes) else str(name)


def _arrays(group: Any, kind: type) -> dict[str, np.ndarray]:
    """Return all arrays below the group of a layer.

    The keys are the last parts of their names, without ``:0``.
    """
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
            f"{path}: layer {layer!r} has the arrays {sorted(arrays)}, unlike all layers of the network"
        )
    return "dense" if found == "convolution" and arrays["kernel"].ndim == 2 else found


def _expected_layers(modules: list[nn.Module]) -> dict[str, list[tuple[str, nn.Module]]]:
    """Return the layers of the network by kind, in their order.

    Each layer has a label for messages.
    """
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
                yield "batch normalization", module
            case nn.Linear():
                yield "dense", module


def _convert_arrays(kind: str, module: nn.Module, arrays: Arrays, *, where: str) -> dict[str, Tensor]:
    """Convert the arrays of a layer to the form of a module."""
    state = module.state_dict()
    converted = {}
    for key, (name, axes) in _WEIGHT_NAMES[kind].items():
        array = np.transpose(arrays[name], axes) if arrays[name].ndim == len(axes) else arrays[name]
        if array.shape != tuple(state[key].shape):
            raise WeightsCorruptError(
                f"{where}: {name!r} has shape {arrays[name].shape}, "
                f"which does not match {key} of shape {tuple(state[key].shape)}"
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
    "batch normalization": {
        "weight": ("gamma", _VECTOR),
        "bias": ("beta", _VECTOR),
        "running_mean": ("moving_mean", _VECTOR),
        "running_var": ("moving_variance", _VECTOR),
    },
    "dense": {"weight": ("kernel", (1, 0)), "bias": ("bias", _VECTOR)},
}
"""Keras name and order of the axes for each parameter of a module, by kind of layer."""
