"""Layers that return maps, and the choice of the layer to explain.

A network may declare four optional attributes; without them, one forward pass finds the layers:

- `explained_layer`: name of the preferred layer, within the module that declares it.
- `as_maps`: method that converts the output of a layer to ``(batch, channel, y, x)``, for tokens and for
  channels that come last.
- `layer_channels`: mapping from a layer to the names of its channels, both as the network names them.
- `views`: axes along which each copy of an image is mirrored, if the network runs on several copies in one
  batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geovision.attribution.target import AttributionTarget
from geovision.errors import OptionError, nearest
from geovision.models.protocols import HasExplainedLayer, HasLayerChannels, HasLayerMaps, HasViews

__all__ = [
    "ForwardFn",
    "channel_names",
    "default_layer",
    "flip_axes",
    "select_layer",
    "spatial_layers",
    "to_feature_maps",
]

_MAX_NAMES = 40

ForwardFn = Callable[[], Tensor]


def select_layer(target: AttributionTarget, layer: str | None) -> str:
    """Return the name of the layer to explain.

    Args:
        target: Sample and score to explain.
        layer: Name of the layer in the network. None: the layer that the network prefers, or else its last
            layer with maps.

    Returns:
        The name of the layer.

    Raises:
        OptionError: The layer does not exist, or the network has no layer with maps. The message lists the
            available layers.
    """
    network = target.model.network
    if layer is None:
        for prefix, module in network.named_modules():
            if isinstance(module, HasExplainedLayer):
                return f"{prefix}.{module.explained_layer}" if prefix else module.explained_layer
        layers = spatial_layers(target)
        if not layers:
            raise OptionError(f"{target.model.spec.name} has no layer that returns maps; try occlusion")
        return layers[-1]
    if layer in dict(network.named_modules()) and layer:
        return layer
    layers = spatial_layers(target)
    near = nearest(layer, layers)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    raise OptionError(
        f"{target.model.spec.name} has no layer {layer!r}.{meant} Layers with maps: {_format_names(layers)}"
    )


def default_layer(network: nn.Module) -> str | None:
    """Return the layer whose channels the network names.

    Args:
        network: Network of a model.

    Returns:
        The name of the layer; None if the network names no channels.
    """
    prefix, names = _layer_channels(network)
    own = next(iter(names), None)
    return f"{prefix}.{own}" if prefix and own else own


def spatial_layers(target: AttributionTarget) -> list[str]:
    """Return the names of the layers with maps of several cells.

    Args:
        target: Sample with which the network runs once.

    Returns:
        The names in the order in which the layers run.
    """
    network = target.model.network
    found: dict[str, None] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _given: Any, result: Any) -> None:
            maps = to_feature_maps(network, name, result) if isinstance(result, Tensor) else None
            if maps is not None and maps.shape[-2] * maps.shape[-1] > 1:
                found.setdefault(name)

        return hook

    hooks = [module.register_forward_hook(note(name)) for name, module in network.named_modules() if name]
    try:
        with torch.no_grad():
            target.score(*target.tensors)
    finally:
        for hook in hooks:
            hook.remove()
    return list(found)


def to_feature_maps(network: nn.Module, layer: str, values: Tensor) -> Tensor | None:
    """Convert the output of a layer to feature maps.

    Args:
        network: Network that contains the layer.
        layer: Name of the layer in the network.
        values: Output of the layer.

    Returns:
        The maps, shape (batch, channel, y, x); None if the output is not a map.
    """
    parts = layer.split(".")
    for count in range(len(parts), -1, -1):
        owner = network.get_submodule(".".join(parts[:count]))
        if isinstance(owner, HasLayerMaps):
            return owner.as_maps(values)
    return values if values.ndim == 4 else None


def channel_names(network: nn.Module, layer: str, count: int) -> tuple[str, ...]:
    """Return the names of the channels of a layer.

    Args:
        network: Network that contains the layer.
        layer: Name of the layer in the network.
        count: Number of channels.

    Returns:
        The names that the network declares, or else ``"LAYER.NUMBER"``.
    """
    prefix, names = _layer_channels(network)
    own = layer.removeprefix(f"{prefix}.") if prefix else layer
    return tuple(names.get(own, [f"{layer}.{number}" for number in range(count)]))


def flip_axes(network: nn.Module) -> tuple[tuple[int, ...], ...]:
    """Return the axes along which each view of an image is mirrored.

    Args:
        network: Network of a model.

    Returns:
        One tuple of axes per view; ``((),)`` if the network runs once on the unchanged image.
    """
    return next((module.views for module in network.modules() if isinstance(module, HasViews)), ((),))


def _layer_channels(network: nn.Module) -> tuple[str, Mapping[str, Sequence[str]]]:
    """Return the outermost module with channel names, and these names.

    The module is given by name, the channel names by layer.
    """
    for name, module in network.named_modules():
        if isinstance(module, HasLayerChannels):
            return name, module.layer_channels
    return "", {}


def _format_names(names: list[str]) -> str:
    """Return the names as text; only the outer ones of many."""
    depth = max((name.count(".") for name in names), default=0)
    shown = names
    while len(shown) > _MAX_NAMES and depth > 0:
        depth -= 1
        shown = [name for name in names if name.count(".") <= depth]
    left = len(names) - len(shown)
    return ", ".join(shown) + (f", and {left} within these" if left else "") if names else "none"
