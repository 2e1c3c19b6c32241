"""Parameter groups, the optimiser and the learning rate of one stage."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import timm.models
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from geovision.models.geomodel import GeoModel
from geovision.models.protocols import HasNoWeightDecay, HasParameterLayers
from geovision.spec import Stage

__all__ = ["STEP_DECAY", "build_optimizer", "find_backbone", "freeze", "parameter_groups"]

STEP_DECAY = "step_decay"
"""Key in a parameter group: the fraction by which each step shrinks its weights, whatever the rate."""


def find_backbone(model: GeoModel) -> nn.Module:
    """The part of a model that may come with weights trained elsewhere: the innermost network that
    sorts its parameters into layers (timm's `group_matcher`), or the whole network."""
    return next((m for m in model.network.modules() if isinstance(m, HasParameterLayers)), model.network)


def _layer_indices(network: nn.Module, *, coarse: bool) -> dict[str, int]:
    """The layer of each parameter of a backbone, by name, the first layer being 0."""
    if not isinstance(network, HasParameterLayers):
        return {}
    return timm.models.group_parameters(network, network.group_matcher(coarse=coarse), reverse=True)


def freeze(model: GeoModel, stage: Stage) -> list[nn.Module]:
    """Stop the gradients of what a stage leaves as it is.

    Returns:
        The modules that stay in evaluation mode in training.
    """
    network = find_backbone(model)
    if stage.train == "head":
        network.requires_grad_(False)
        return [network]
    still: list[nn.Module] = []
    if stage.freeze:
        layers = _layer_indices(network, coarse=True)
        fixed = {name for name, layer in layers.items() if layer < stage.freeze}
        for name, parameter in network.named_parameters():
            if name in fixed:
                parameter.requires_grad_(False)
        still += [
            module
            for module in network.modules()
            if (own := list(module.parameters())) and not any(p.requires_grad for p in own)
        ]
    if stage.batch_norm == "frozen":
        still += [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    return still


def parameter_groups(model: GeoModel, stage: Stage) -> list[dict[str, Any]]:
    """What has a gradient, by learning rate and weight decay.

    Biases, normalisation and what a network asks for (position embeddings, class tokens) do not
    decay. With `layer_decay`, the rate of the backbone's last layer is `lr`, and each layer before
    it has `layer_decay` of the next one's (Clark et al. 2020, arXiv:2003.10555).
    """
    network = find_backbone(model)
    layers = _layer_indices(network, coarse=False) if stage.layer_decay != 1 else {}
    last = max(layers.values(), default=0)
    spared = network.no_weight_decay() if isinstance(network, HasNoWeightDecay) else ()
    inner = {id(parameter): name for name, parameter in network.named_parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        name = inner.get(id(parameter))
        if name is None:
            rate = stage.lr if stage.head_lr is None else stage.head_lr
        else:
            rate = stage.lr * stage.layer_decay ** (last - layers.get(name, last))
        decay = 0.0 if parameter.ndim <= 1 or name in spared else stage.weight_decay
        groups[rate, decay].append(parameter)
    found = [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]
    if stage.decay_by == "step":
        found = [group | {STEP_DECAY: group["weight_decay"]} for group in found]
    return found


def build_optimizer(
    model: GeoModel, stage: Stage, steps_per_epoch: int, *, fused: bool = True
) -> tuple[Optimizer, LambdaLR]:
    """The optimiser of a stage and its learning rate, stepped after every batch.

    Args:
        fused: All of a step in one pass over each parameter, on devices that can.
    """
    groups = parameter_groups(model, stage)
    optimizer: Optimizer
    if stage.optimizer == "adamw":
        optimizer = AdamW(groups, fused=fused and _supports_fused(model))
        if stage.decay_by == "step":
            optimizer.register_step_pre_hook(_decay_by_step)
    else:
        optimizer = SGD(groups, momentum=0.9, nesterov=True, fused=fused and _supports_fused(model))
    warm, total = stage.warmup * steps_per_epoch, stage.epochs * steps_per_epoch

    def factor(step: int) -> float:
        if step < warm:
            return min((step + 1) / warm, 1.0)
        if stage.schedule != "cosine":  # what a plateau changes is the rate that this is a factor of
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * min((step - warm) / max(total - warm, 1), 1)))

    return optimizer, LambdaLR(optimizer, factor)


def _decay_by_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """Divide the rate out of the decay: torch's AdamW shrinks weights by their product."""
    for group in optimizer.param_groups:
        rate = float(group["lr"])
        group["weight_decay"] = group[STEP_DECAY] / rate if rate > 0 else 0.0


def _supports_fused(model: GeoModel) -> bool:
    return all(p.device.type in ("cpu", "cuda") and p.dtype == torch.float32 for p in model.parameters())
