"""What a model has to know of its training data before the first step: scales of its inputs, reach of its
answers. Never taken from what is validated or tested on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from geovision.datasets.base import GeoDataset, collate
from geovision.models.geomodel import GeoModel
from geovision.training.data import Rows

__all__ = ["fit_statistics", "takes_statistics"]

_MOST_BYTES = 2**30
"""Of samples that statistics are taken of; of more, evenly spaced ones are."""


def fit_statistics(model: GeoModel, data: GeoDataset | Rows) -> None:
    """Fit what the network and the head of a model take from training data, in place.

    The network is given ``fit_statistics(inputs, valid)``, normalised as its `forward` sees them; the head
    ``fit_statistics(target, valid)``. What has none is left alone.
    """
    network, head = _fitting(model.network), _fitting(model.head)
    inputs, valid, target = _samples(data)
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    there = valid.get("target")
    masks = {name: mask.to(device) for name, mask in valid.items() if name != "target"}
    if network is not None:
        given = {name: values.to(device) for name, values in inputs.items()}
        network(model.normalise(given, masks), masks)
    if head is not None:
        head(target.to(device), None if there is None else there.to(device))


def takes_statistics(model: GeoModel) -> bool:
    """Whether a model takes anything from its training data before the first step."""
    return any(_fitting(part) is not None for part in (model.network, model.head))


def _fitting(part: nn.Module) -> Callable[..., None] | None:
    found: Any = getattr(part, "fit_statistics", None)
    return found


def _samples(data: GeoDataset | Rows) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor], Tensor]:
    """Inputs, masks and targets of all samples, or of evenly spaced ones."""
    if isinstance(data, Rows):
        inputs = {n: v.float() / 255 if v.dtype == torch.uint8 else v for n, v in data.inputs.items()}
        return inputs, data.valid, data.target
    first = data[0]
    each = sum(values.nbytes for values in (*first["inputs"].values(), first["target"]))
    count = max(1, min(len(data), _MOST_BYTES // each))
    chosen = torch.linspace(0, len(data) - 1, count).round().long().tolist()
    batch = collate([data[index] for index in chosen])
    return batch["inputs"], batch["valid"], batch["target"]
