"""Maps of one layer, weighted by how they move the answer.

With A the maps of the layer and S the logit of the class:

    Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391)  ReLU(sum over k of mean over y, x of (dS/dA_k) A_k)
    LayerCAM (Jiang et al. 2021, doi:10.1109/TIP.2021.3089943)       ReLU(sum over k of ReLU(dS/dA_k) A_k)

The first takes one weight a map, so it is at home in the last layers; the second one a cell, and holds in
earlier, finer layers too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geovision.attribution.layers import flip_axes, spatial_layers, to_feature_maps
from geovision.attribution.target import AttributionTarget
from geovision.errors import OptionError

__all__ = ["class_activation", "merge_flipped_passes", "weight_activations"]


def class_activation(target: AttributionTarget, layer: str, method: str) -> Tensor:
    """The map of one layer.

    Args:
        layer: Its name in the network.
        method: ``"gradcam"`` or ``"layercam"``.

    Returns:
        ``(y, x)`` of the layer's own cells, 0 or above; ``(time, y, x)`` where the layer runs more than
        once a sample.

    Raises:
        OptionError: The layer gives no maps, or one of a single cell, does not run, or has no part in
            the answer.
    """
    network = target.model.network
    maps = []
    for activation, gradient in _activations_and_gradients(target, layer):
        passages = weight_activations(network, layer, activation, gradient, method)
        maps.append(_merge_orientations(merge_flipped_passes(passages, flip_axes(network)), target).relu())
    if len({each.shape for each in maps}) > 1:
        raise OptionError(f"layer {layer!r} runs {len(maps)} times on maps of several sizes; name another")
    if maps[0].numel() == 1:
        finer = spatial_layers(target)
        raise OptionError(
            f"layer {layer!r} has one cell for this size of input, which shows no place; "
            + (f"name a finer one, such as {finer[-1]!r}" if finer else "try occlusion")
        )
    return maps[0] if len(maps) == 1 else torch.stack(maps)


def _activations_and_gradients(target: AttributionTarget, layer: str) -> list[tuple[Tensor, Tensor]]:
    """What the layer gave and the gradient of the score with respect to it, for each of its runs."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _given: Any, result: Any) -> Tensor:
        if not isinstance(result, Tensor):
            raise OptionError(f"layer {layer!r} gives several tensors; name one within it")
        kept.append(result)
        return result.clone()  # what follows may work in place

    hook = target.model.network.get_submodule(layer).register_forward_hook(keep)
    try:
        with target.inputs_with_grad() as tensors:
            score = target.score(*tensors).sum()
    finally:
        hook.remove()
    if not kept:
        raise OptionError(f"layer {layer!r} does not run; name another")
    gradients = torch.autograd.grad(score, kept, allow_unused=True)
    if any(gradient is None for gradient in gradients):
        raise OptionError(f"layer {layer!r} has no part in the answer; name another")
    return [(a.detach(), g) for a, g in zip(kept, gradients, strict=True)]


def weight_activations(
    network: nn.Module, layer: str, activation: Tensor, gradient: Tensor, method: str
) -> Tensor:
    """Maps of a layer, weighted by how they move the answer and added up, before their negative part is
    taken away.

    Args:
        activation, gradient: What the layer gave, and how the score changes with it.
        method: ``"gradcam"`` or ``"layercam"``.

    Returns:
        ``(passage, y, x)``.

    Raises:
        OptionError: The layer gives no maps.
    """
    a, g = to_feature_maps(network, layer, activation), to_feature_maps(network, layer, gradient)
    if a is None or g is None:
        raise OptionError(f"layer {layer!r} gives {tuple(activation.shape)}, which is no map")
    weights = g.mean((2, 3), keepdim=True) if method == "gradcam" else g.relu()
    return (weights * a).sum(1)


def merge_flipped_passes(passages: Tensor, flip_axes: Sequence[tuple[int, ...]]) -> Tensor:
    """One map a picture ``(picture, y, x)`` from those of all its passages ``(passage, y, x)``, which add
    up: a network may mirror the pictures of a batch, all of them one after the other."""
    if len(flip_axes) == 1:
        return passages
    by_view = passages.unflatten(0, (len(flip_axes), -1)).unbind()
    return sum(maps.flip(axes) for maps, axes in zip(by_view, flip_axes, strict=True))  # type: ignore[return-value]


def _merge_orientations(maps: Tensor, target: AttributionTarget) -> Tensor:
    """The map of the sample from those of it in all orientations, which add up."""
    turns = target.orientations
    if len(maps) != len(turns):
        raise OptionError(f"a layer gave {len(maps)} maps of one picture; name another layer")
    return sum(turn.invert(each) for turn, each in zip(turns, maps, strict=True))  # type: ignore[return-value]
