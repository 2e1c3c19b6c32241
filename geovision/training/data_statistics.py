"""Statistics of the training data that a model needs.

Before the first step, these are the scales of inputs and the limits of predictions; after the last step, the
distribution of predictions. Validation and test data are never used.
"""

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
"""Largest size of the samples that statistics are computed from; larger data sets are subsampled evenly."""

_BATCH_SIZE = 64
"""Number of samples per forward pass."""


def fit_statistics(model: GeoModel, data: GeoDataset | InMemoryDataset) -> None:
    """Fit the statistics of network and head of a model, in place.

    The hooks are `HasInputStatistics` and `HasBaseModel` of the network, and `HasTargetStatistics` of the
    head.

    Args:
        model: Model to fit.
        data: Training data.
    """
    network, head = model.network, model.head
    inputs, valid, target = _load_samples(data)
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    target_mask = valid.get("target")
    masks = {name: mask.to(device) for name, mask in valid.items() if name != "target"}
    target = target.to(device)
    target_mask = None if target_mask is None else target_mask.to(device)
    if isinstance(network, HasInputStatistics | HasBaseModel):
        given = model.normalize({name: values.to(device) for name, values in inputs.items()}, masks)
        if isinstance(network, HasInputStatistics):
            network.fit_statistics(given, masks)
        if isinstance(network, HasBaseModel):
            network.fit_base(given, masks, target, target_mask)
    if isinstance(head, HasTargetStatistics):
        head.fit_statistics(target, target_mask)


def needs_statistics(model: GeoModel) -> bool:
    """Return whether a model needs training statistics before the first step.

    Args:
        model: Model.
    """
    return isinstance(model.network, HasInputStatistics | HasBaseModel) or isinstance(
        model.head, HasTargetStatistics
    )


def has_postprocessing(model: GeoModel) -> bool:
    """Return whether the head is fitted to training predictions.

    Args:
        model: Model.
    """
    return isinstance(model.head, HasPostprocessing)


@torch.inference_mode()
def fit_postprocessing(model: GeoModel, data: GeoDataset | InMemoryDataset) -> None:
    """Fit the head to the predictions of the training data, in place.

    Args:
        model: Model whose head is a `HasPostprocessing`.
        data: Training data.
    """
    head = model.head
    assert isinstance(head, HasPostprocessing)
    inputs, valid, target = _load_samples(data)
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    target_mask = valid.pop("target", None)
    before = model.training
    model.eval()
    values = []
    for rows in torch.arange(len(target)).split(_BATCH_SIZE):
        given = {name: each[rows].to(device) for name, each in inputs.items()}
        masks = {name: each[rows].to(device) for name, each in valid.items()}
        values.append(model(given, valid=masks or None).values.float())
    target_mask = None if target_mask is None else target_mask.to(device)
    head.fit_postprocessing(torch.cat(values), target.to(device), target_mask)
    model.train(before)


def _load_samples(data: GeoDataset | InMemoryDataset) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Return inputs, masks and targets, evenly subsampled if too large."""
    if isinstance(data, InMemoryDataset):
        inputs = {n: v.float() / 255 if v.dtype == torch.uint8 else v for n, v in data.inputs.items()}
        return inputs, dict(data.valid), data.target
    first = data[0]
    each = sum(values.nbytes for values in (*first["inputs"].values(), first["target"]))
    count = max(1, min(len(data), _MAX_BYTES // each))
    chosen = torch.linspace(0, len(data) - 1, count).round().long().tolist()
    batch = collate([data[index] for index in chosen])
    return batch["inputs"], batch["valid"], batch["target"]
