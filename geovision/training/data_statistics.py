"""What a model has to know of its training data before the first step, scales of its inputs and reach of its
answers, and after the last, how its answers are spread. Never taken from what is validated or tested on."""

from __future__ import annotations

import torch
from torch import Tensor

from geovision.datasets.base import GeoDataset, collate
from geovision.heads.protocols import HasPostprocessing, HasTargetStatistics
from geovision.models.geomodel import GeoModel
from geovision.models.protocols import HasBaseModel, HasInputStatistics
from geovision.training.data_loading import InMemoryDataset

__all__ = ["fit_postprocessing", "fit_statistics", "has_postprocessing", "needs_statistics"]

_MAX_BYTES = 2**30
"""Of samples that statistics are taken of; of more, evenly spaced ones are."""

_BATCH_SIZE = 64
"""Samples that are answered together."""


def fit_statistics(model: GeoModel, data: GeoDataset | InMemoryDataset) -> None:
    """Fit the statistics of the network and the head of a model, in place.

    The hooks are `HasInputStatistics` and `HasBaseModel` of the network, `HasTargetStatistics` of the head.

    Args:
        model: The model.
        data: The training data.
    """
    network, head = model.network, model.head
    inputs, valid, target = _load_samples(data)
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    there = valid.get("target")
    masks = {name: mask.to(device) for name, mask in valid.items() if name != "target"}
    target, there = target.to(device), None if there is None else there.to(device)
    if isinstance(network, HasInputStatistics | HasBaseModel):
        given = model.normalize({name: values.to(device) for name, values in inputs.items()}, masks)
        if isinstance(network, HasInputStatistics):
            network.fit_statistics(given, masks)
        if isinstance(network, HasBaseModel):
            network.fit_base(given, masks, target, there)
    if isinstance(head, HasTargetStatistics):
        head.fit_statistics(target, there)


def needs_statistics(model: GeoModel) -> bool:
    """Return whether a model needs statistics of its training data before the first step."""
    return isinstance(model.network, HasInputStatistics | HasBaseModel) or isinstance(
        model.head, HasTargetStatistics
    )


def has_postprocessing(model: GeoModel) -> bool:
    """Return whether the head is fitted to predictions of the training data after the last step."""
    return isinstance(model.head, HasPostprocessing)


@torch.inference_mode()
def fit_postprocessing(model: GeoModel, data: GeoDataset | InMemoryDataset) -> None:
    """Fit the head to the predictions of the training data, in place.

    Args:
        model: A model whose head is a `HasPostprocessing`.
        data: The training data.
    """
    head = model.head
    assert isinstance(head, HasPostprocessing)
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
    head.fit_postprocessing(torch.cat(values), target.to(device), None if there is None else there.to(device))
    model.train(before)


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
