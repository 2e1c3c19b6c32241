"""What a model of fields or masks says about a data set, batch by batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader

from geovision.datasets.base import GeoDataset, collate
from geovision.errors import DatasetError
from geovision.models.ensembles import EnsembleMembers, predict_ensemble
from geovision.models.geomodel import GeoModel
from geovision.models.protocols import HasReferencePeriod

__all__ = ["DensePredictions", "EnsembleConfig", "predict_batches"]


@dataclass(frozen=True)
class EnsembleConfig:
    """How many answers a model is asked for; None: those that it has of itself. And the seed of chance."""

    num_members: int | None = None
    seed: int = 0


class DensePredictions(NamedTuple):
    """What a model said about a batch: ``(batch, 1, y, x)``, NaN where nothing counts; and its several
    answers where it was asked for them and has them."""

    prediction: Tensor
    truth: Tensor
    groups: list[str]
    sources: list[str]
    members: EnsembleMembers | None = None


def predict_batches(
    model: GeoModel,
    data: GeoDataset,
    *,
    batch_size: int = 32,
    progress: bool = False,
    ensemble: EnsembleConfig | None = None,
) -> Iterator[DensePredictions]:
    """Ask a model of fields or masks about every sample of a data set, batch by batch.

    Args:
        model: Left as it was found; it is asked in evaluation mode, in float32, where it lies.
        ensemble: Ask for several answers as well.

    Raises:
        DatasetError: The data set is empty, or of another task.
        OptionError: Several answers of a model that has but one.
    """
    if not len(data):
        raise DatasetError(f"{data.card.name}: holds no samples to evaluate on")
    if data.task != model.task.name:
        raise DatasetError(
            f"{data.card.name} is of task {data.task!r}, {model.spec.name} of {model.task.name!r}"
        )
    was_training = model.training
    model.eval()
    try:
        yield from _iter_batches(model, data, batch_size, progress, ensemble)
    finally:
        model.train(was_training)


def _iter_batches(
    model: GeoModel, data: GeoDataset, batch_size: int, progress: bool, ensemble: EnsembleConfig | None
) -> Iterator[DensePredictions]:
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    known = {spec.name for spec in model.inputs}
    loader = DataLoader(data, batch_size=batch_size, collate_fn=collate)
    with reference_period(model, data):
        yield from _predict_loader(model, loader, known, device, progress, ensemble)


@contextlib.contextmanager
def reference_period(model: GeoModel, data: GeoDataset) -> Iterator[None]:
    """Let a model whose answers depend on the whole period know that it is this data set."""
    network = model.network
    if not isinstance(network, HasReferencePeriod) or "whole_period" not in model.spec.capabilities:
        yield
        return

    def ask(days: Sequence[int]) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
        for sample in (data[day] for day in days):
            inputs = {name: values.unsqueeze(0) for name, values in sample["inputs"].items()}
            valid = {name: mask.unsqueeze(0) for name, mask in sample["valid"].items() if name in inputs}
            yield dict(model.normalize(inputs, valid)), valid

    with network.period(ask, len(data)):
        yield


def _predict_loader(
    model: GeoModel,
    loader: DataLoader,
    input_names: set[str],
    device: torch.device,
    progress: bool,
    ensemble: EnsembleConfig | None,
) -> Iterator[DensePredictions]:
    head: Any = model.head
    first, begin = True, 0
    console = Console(stderr=True)
    for batch in track(loader, "evaluating", console=console, disable=not progress, transient=True):
        inputs = {name: value.to(device) for name, value in batch["inputs"].items() if name in input_names}
        valid = {name: value.to(device) for name, value in batch["valid"].items() if name in input_names}
        if first:
            model.validate_inputs(inputs, valid=valid)
            first = False
        with torch.no_grad():
            output = model(inputs, valid=valid or None)
            prediction, truth = head.scored(
                output.values.float().cpu(), batch["target"], batch["valid"].get("target")
            )
            members = None
            if ensemble:
                members = predict_ensemble(
                    model,
                    inputs,
                    valid,
                    output.values,
                    count=ensemble.num_members,
                    seed=ensemble.seed,
                    begin=begin,
                )
        if output.valid is not None:
            prediction = prediction.where(output.valid.cpu().expand_as(prediction), torch.nan)
            if members:
                fields = members.fields
                members = members._replace(fields=fields.where(output.valid.expand_as(fields), torch.nan))
        begin += len(truth)
        yield DensePredictions(prediction, truth, batch["group"], batch["source"], members)
