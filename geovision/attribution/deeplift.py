"""Contributions of the values of one layer: DeepLIFT with the rescale rule.

Captum computes them.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from geovision.attribution.layers import flip_axes
from geovision.attribution.target import AttributionTarget
from geovision.errors import MissingExtraError, OptionError

__all__ = ["deeplift"]


def deeplift(target: AttributionTarget, layer: str) -> Tensor:
    """Compute the contribution of each value of a layer.

    The method is that of Shrikumar et al. (2017, arXiv:1704.02685). Differences from the baseline are
    propagated from the layer to the score. Layers before it only run forward. The contributions add up to the
    difference of the scores under two conditions: every later operation is linear, or is a ReLU, a pooling or
    a similar function; and each such function is a module of its own that runs once. Gates and products are
    linearized at the sample, so check `completeness`.

    Args:
        target: Sample and score to explain.
        layer: Name of the layer in the network.

    Returns:
        Signed contributions in the shape of the output of the layer for one sample: (channel, y, x) or
            tokens.

    Raises:
        OptionError: The network runs several times per sample, or the layer does not run exactly once or
            returns several tensors.
        MissingExtraError: captum is not installed.
    """
    if len(flip_axes(target.model.network)) > 1:
        raise OptionError(
            f"{target.model.spec.name} runs on several views of a sample, which deeplift does not support; "
            "try integrated-gradients"
        )
    try:
        from captum.attr import LayerDeepLift
    except ImportError as error:
        raise MissingExtraError("captum", "explain") from error
    runs = _count_calls(target, layer)
    if runs != 1:
        raise OptionError(f"layer {layer!r} runs {runs} times per sample; choose a layer that runs once")
    # A copy, because captum leaves attributes on modules and no module may work in place.
    wrapped = _TargetModule(target.with_model(copy.deepcopy(target.model)))
    wrapped.requires_grad_(True)  # captum's hooks need gradients before the layer, too
    for module in wrapped.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    with warnings.catch_warnings():
        # captum warns of its hooks, and that gradients at corners are a matter of convention.
        warnings.simplefilter("ignore")
        found: Any = LayerDeepLift(wrapped, wrapped.model.network.get_submodule(layer)).attribute(
            target.tensors, baselines=target.baselines
        )
    if not isinstance(found, Tensor):
        raise OptionError(f"layer {layer!r} returns several tensors; choose a layer within it")
    return found.detach()[0]


def _count_calls(target: AttributionTarget, layer: str) -> int:
    """Return the number of runs of a layer for one sample."""
    runs: list[None] = []
    module = target.model.network.get_submodule(layer)
    hook = module.register_forward_hook(lambda *_: runs.append(None))
    try:
        with torch.no_grad():
            target.score(*target.tensors)
    finally:
        hook.remove()
    return len(runs)


class _TargetModule(nn.Module):
    """Score of a target as a module, for libraries that use hooks."""

    def __init__(self, target: AttributionTarget) -> None:
        super().__init__()
        self.model, self._target = target.model, target

    def forward(self, *tensors: Tensor) -> Tensor:
        return self._target.score(*tensors)
