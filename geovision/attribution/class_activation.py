"""Class activation maps: feature maps weighted by the gradient of the score.

With A the feature maps of the layer and S the logit of the class:

    Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391)  ReLU(sum over k of mean over y, x of (dS/dA_k) A_k)
    LayerCAM (Jiang et al. 2021, doi:10.1109/TIP.2021.3089943)       ReLU(sum over k of ReLU(dS/dA_k) A_k)

Grad-CAM has one weight per feature map, so it suits the last layers. LayerCAM has one weight per cell, so it
is also valid in earlier layers with finer maps.
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
    """Compute the class activation map of one layer.

    Args:
        target: Sample and score to explain.
        layer: Name of the layer in the network.
        method: ``"gradcam"`` or ``"layercam"``.

    Returns:
        The map on the cells of the layer, at least 0, shape (y, x); shape (time, y, x) if the layer runs more
        than once per sample.

    Raises:
        OptionError: The layer returns no maps, returns maps of a single cell, does not run, or has no
            influence on the score.
    """
    network = target.model.network
    maps = []
    for activation, gradient in _activations_and_gradients(target, layer):
        passages = weight_activations(network, layer, activation, gradient, method)
        maps.append(_merge_orientations(merge_flipped_passes(passages, flip_axes(network)), target).relu())
    if len({each.shape for each in maps}) > 1:
        raise OptionError(
            f"layer {layer!r} runs {len(maps)} times on maps of several sizes; choose another layer"
        )
    if maps[0].numel() == 1:
        finer = spatial_layers(target)
        raise OptionError(
            f"layer {layer!r} has one cell for this size of input, so its map shows no location; "
            + (f"choose a finer layer, such as {finer[-1]!r}" if finer else "try occlusion")
        )
    return maps[0] if len(maps) == 1 else torch.stack(maps)


def _activations_and_gradients(target: AttributionTarget, layer: str) -> list[tuple[Tensor, Tensor]]:
    """Return output and gradient of the layer, for each of its runs."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _given: Any, result: Any) -> Tensor:
        if not isinstance(result, Tensor):
            raise OptionError(f"layer {layer!r} returns several tensors; choose a layer within it")
        kept.append(result)
        return result.clone()  # the next layer may work in place

    hook = target.model.network.get_submodule(layer).register_forward_hook(keep)
    try:
        with target.inputs_with_grad() as tensors:
            score = target.score(*tensors).sum()
    finally:
        hook.remove()
    if not kept:
        raise OptionError(f"layer {layer!r} does not run; choose another layer")
    gradients = torch.autograd.grad(score, kept, allow_unused=True)
    if any(gradient is None for gradient in gradients):
        raise OptionError(f"layer {layer!r} has no influence on the prediction; choose another layer")
    return [(a.detach(), g) for a, g in zip(kept, gradients, strict=True)]


def weight_activations(
    network: nn.Module, layer: str, activation: Tensor, gradient: Tensor, method: str
) -> Tensor:
    """Return the weighted sum of the feature maps, before the ReLU.

    Args:
        network: Network that contains the layer.
        layer: Name of the layer in the network.
        activation: Output of the layer.
        gradient: Gradient of the score with respect to the output, of the same shape.
        method: ``"gradcam"`` or ``"layercam"``.

    Returns:
        One map per forward pass of a sample, shape (pass, y, x).

    Raises:
        OptionError: The layer returns no maps.
    """
    a, g = to_feature_maps(network, layer, activation), to_feature_maps(network, layer, gradient)
    if a is None or g is None:
        raise OptionError(
            f"layer {layer!r} returns shape {tuple(activation.shape)}, which is not a map; "
            "choose another layer"
        )
    weights = g.mean((2, 3), keepdim=True) if method == "gradcam" else g.relu()
    return (weights * a).sum(1)


def merge_flipped_passes(passages: Tensor, flip_axes: Sequence[tuple[int, ...]]) -> Tensor:
    """Return the sum of the maps of all passes of each image.

    A network may run on mirrored copies of the images of a batch: first all images in one view, then all in
    the next.

    Args:
        passages: Map of each pass, shape (pass, y, x).
        flip_axes: Axes along which each view is mirrored.

    Returns:
        One map per image, shape (image, y, x).
    """
    if len(flip_axes) == 1:
        return passages
    by_view = passages.unflatten(0, (len(flip_axes), -1)).unbind()
    return sum(maps.flip(axes) for maps, axes in zip(by_view, flip_axes, strict=True))  # type: ignore[return-value]


def _merge_orientations(maps: Tensor, target: AttributionTarget) -> Tensor:
    """Return the sum of the maps of all orientations.

    The maps are turned back to the orientation of the sample.
    """
    turns = target.orientations
    if len(maps) != len(turns):
        raise OptionError(
            f"the layer returned {len(maps)} maps of one image, expected {len(turns)}; choose another layer"
        )
    return sum(turn.invert(each) for turn, each in zip(turns, maps, strict=True))  # type: ignore[return-value]
