"""What each channel of one layer contributes, by captum: DeepLIFT with the rescale rule."""

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
    """Contribution of each value of a layer to what is explained (Shrikumar et al. 2017, arXiv:1704.02685).

    Differences from the baseline are followed from the layer to the answer; what lies before it is only run.
    They add up to the difference of the answers where all that follows is linear, or a ReLU, a pooling or
    the like that is a module of its own and runs once. Gates and products are taken as linear in the point,
    so `completeness` is to be looked at.

    Args:
        layer: Its name in the network.

    Returns:
        One sample of what the layer gives, ``(channel, y, x)`` or tokens, signed.

    Raises:
        OptionError: A sample passes the network several times, or the layer does not run once or gives
            several tensors.
        MissingExtraError: captum is not installed.
    """
    if len(flip_axes(target.model.network)) > 1:
        raise OptionError(
            f"{target.model.spec.name} looks at a sample from several sides at once, which deeplift does "
            "not follow; try integrated-gradients"
        )
    try:
        from captum.attr import LayerDeepLift
    except ImportError as error:
        raise MissingExtraError("captum", "explain") from error
    runs = _count_calls(target, layer)
    if runs != 1:
        raise OptionError(f"layer {layer!r} runs {runs} times a sample; name one that runs once")
    # Of a copy: what captum leaves on modules is not the model's, and nothing may work in place.
    asked = _TargetModule(target.with_model(copy.deepcopy(target.model)))
    asked.requires_grad_(True)  # its hooks ask for it in front of the layer, too
    for module in asked.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its hooks, and that answers at corners are a matter of choice
        found: Any = LayerDeepLift(asked, asked.model.network.get_submodule(layer)).attribute(
            target.tensors, baselines=target.baselines
        )
    if not isinstance(found, Tensor):
        raise OptionError(f"layer {layer!r} gives several tensors; name one within it")
    return found.detach()[0]


def _count_calls(target: AttributionTarget, layer: str) -> int:
    """How often a layer runs for one sample."""
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
    """A question as a module, for what hooks modules."""

    def __init__(self, target: AttributionTarget) -> None:
        super().__init__()
        self.model, self._target = target.model, target

    def forward(self, *tensors: Tensor) -> Tensor:
        return self._target.score(*tensors)
