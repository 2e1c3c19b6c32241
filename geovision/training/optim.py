"""Parameter groups, optimizer and learning-rate schedule of a stage."""

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
"""Key in a parameter group: relative decrease of the weights per step, independent of the learning rate."""


def find_backbone(model: GeoModel) -> nn.Module:
    """Return the part of a model that may have pretrained weights.

    This is the first module that assigns its parameters to layers (timm's `group_matcher`), or the whole
    network if there is none.

    Args:
        model: Model.
    """
    return next((m for m in model.network.modules() if isinstance(m, HasParameterLayers)), model.network)


def _layer_indices(network: nn.Module, *, coarse: bool) -> dict[str, int]:
    """Return the layer index of each parameter by name, from 0."""
    if not isinstance(network, HasParameterLayers):
        return {}
    return timm.models.group_parameters(network, network.group_matcher(coarse=coarse), reverse=True)


def freeze(model: GeoModel, stage: Stage) -> list[nn.Module]:
    """Freeze the parameters that a stage does not train.

    Args:
        model: Model.
        stage: Stage of the recipe.

    Returns:
        Modules that stay in evaluation mode during training.
    """
    network = find_backbone(model)
    if stage.train == "head":
        network.requires_grad_(False)
        return [network]
    frozen: list[nn.Module] = []
    if stage.freeze:
        layers = _layer_indices(network, coarse=True)
        frozen_names = {name for name, layer in layers.items() if layer < stage.freeze}
        for name, parameter in network.named_parameters():
            if name in frozen_names:
                parameter.requires_grad_(False)
        frozen += [
            module
            for module in network.modules()
            if (own := list(module.parameters())) and not any(p.requires_grad for p in own)
        ]
    if stage.batch_norm == "frozen":
        frozen += [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    return frozen


def parameter_groups(model: GeoModel, stage: Stage) -> list[dict[str, Any]]:
    """Group the trainable parameters by learning rate and weight decay.

    Biases, normalization layers and the parameters that the network excludes (position embeddings, class
    tokens) have no weight decay. With `layer_decay`, the last layer of the backbone has the rate `lr`. Each
    other layer has `layer_decay` times the rate of the next one (Clark et al. 2020, arXiv:2003.10555).

    Args:
        model: Model.
        stage: Stage of the recipe.

    Returns:
        Parameter groups of torch.optim.
    """
    # timm.optim.param_groups_layer_decay expects one timm network. Here the backbone may be a part of the
    # model, and the head has a rate of its own.
    network = find_backbone(model)
    layers = _layer_indices(network, coarse=False) if stage.layer_decay != 1 else {}
    last = max(layers.values(), default=0)
    without_decay = network.no_weight_decay() if isinstance(network, HasNoWeightDecay) else ()
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
        decay = 0.0 if parameter.ndim <= 1 or name in without_decay else stage.weight_decay
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
    """Return the optimizer of a stage and its learning-rate schedule.

    The schedule is stepped after every batch.

    Args:
        model: Model.
        stage: Stage of the recipe.
        steps_per_epoch: Number of steps per epoch.
        fused: Whether to use the fused implementation on devices that support it. Default: True.
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
        if stage.schedule != "cosine":  # `Plateau` changes the base rate instead
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * min((step - warm) / max(total - warm, 1), 1)))

    return optimizer, LambdaLR(optimizer, factor)


def _decay_by_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """Divide the weight decay by the learning rate, which AdamW multiplies."""
    for group in optimizer.param_groups:
        rate = float(group["lr"])
        group["weight_decay"] = group[STEP_DECAY] / rate if rate > 0 else 0.0


def _supports_fused(model: GeoModel) -> bool:
    return all(p.device.type in ("cpu", "cuda") and p.dtype == torch.float32 for p in model.parameters())
