"""What a model has to know of its training data before the first step, scales of its inputs and reach of its
answers, and after the last, how its answers are spread. Never taken from what is validated or tested on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from geovision.datasets.base import GeoDataset, collate
from geovision.models.geomodel import GeoModel
from geovision.training.data_loading import InMemoryDataset

__all__ = ["fit_postprocessing", "fit_statistics", "has_postprocessing", "needs_statistics"]

_MAX_BYTES = 2**30
"""Of samples that statistics are taken of; of more, evenly spaced ones are."""

_BATCH_SIZE = 64
"""Samples that are answered together."""


def fit_statistics(model: GeoModel, data: GeoDataset | InMemoryDataset) -> None:
    """Fit what the network and the head of a model take from training data, in place.

    The network is given ``fit_statistics(inputs, valid)``, normalised as its `forward` sees them; the head
    ``fit_statistics(target, valid)``; a network that begins with a fit to the targets has
    ``fit_base(inputs, valid, target, there)``. What has none is left alone.
    """
    network, head = _statistics_hook(model.network), _statistics_hook(model.head)
    base: Any = getattr(model.network, "fit_base", None)
    inputs, valid, target = _load_samples(data)
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    there = valid.get("target")
    masks = {name: mask.to(device) for name, mask in valid.items() if name != "target"}
    target, there = target.to(device), None if there is None else there.to(device)
    if network is not None or base is not None:
        given = model.normalize({name: values.to(device) for name, values in inputs.items()}, masks)
        if network is not None:
            network(given, masks)
        if base is not None:
            base(given, masks, target, there)
    if head is not None:
        head(target, there)


def needs_statistics(model: GeoModel) -> bool:
    """Whether a model takes anything from its training data before the first step."""
    parts = (
        _statistics_hook(model.network),
        _statistics_hook(model.head),
        getattr(model.network, "fit_base", None),
    )
    return any(part is not None for part in parts)


def has_postprocessing(model: GeoModel) -> bool:
    """Whether the head takes anything from the answers to the training data after the last step."""
    return hasattr(model.head, "fit_answers")


@torch.inference_mode()
def fit_postprocessing(model: GeoModel, data: GeoDataset | InMemoryDataset) -> None:
    """Give the head ``fit_answers(values, target, valid)``, what it said of the training data, in place."""
    head: Any = model.head
    inputs, valid, target = _load_samples(data)
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    there = valid.pop("target", None)
    before = model.training
    model.eval()
    values = []
    for rows in torch.arange(len(target)).split(_BATCH_SIZE):
        given = {name: each[rows].to(device) for name, each in inputs.items()}
        masks = {name: each[rows].to(device) for name, each in valid.items()}
        values.append(model(given, valid=masks or None).values.float())
    head.fit_answers(torch.cat(values), target.to(device), None if there is None else there.to(device))
    model.train(before)


def _statistics_hook(part: nn.Module) -> Callable[..., None] | None:
    found: Any = getattr(part, "fit_statistics", None)
    return found


def _load_samples(data: GeoDataset | InMemoryDataset) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Inputs, masks and targets of all samples, or of evenly spaced ones."""
    if isinstance(data, InMemoryDataset):
        inputs = {n: v.float() / 255 if v.dtype == torch.uint8 else v for n, v in data.inputs.items()}
        return inputs, dict(data.valid), data.target
    first = data[0]
    each = sum(values.nbytes for values in (*first["inputs"].values(), first["target"]))
    count = max(1, min(len(data), _MAX_BYTES // each))
    chosen = torch.linspace(0, len(data) - 1, count).round().long().tolist()
    batch = collate([data[index] for index in chosen])
    return batch["inputs"], batch["valid"], batch["target"]
