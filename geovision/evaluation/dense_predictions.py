"""Batch-wise predictions of field and mask models on a dataset."""

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
    """Ensemble to predict.

    Attributes:
        num_members: Number of members. Default: None, those that the model provides.
        seed: Seed of the random draws. Default: 0.
    """

    num_members: int | None = None
    seed: int = 0


class DensePredictions(NamedTuple):
    """Predictions of a batch.

    Attributes:
        prediction: Prediction, shape (batch, 1, y, x), NaN where missing.
        truth: Target, same shape, NaN where missing.
        groups: Group of each sample.
        sources: Source of each sample.
        members: Ensemble members, if requested. Default: None.
    """

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
    """Predict every sample of a dataset with a field or mask model, in batches.

    Args:
        model: Field or mask model. It predicts in evaluation mode, in float32 and on its device; its mode is
            restored afterwards.
        data: Samples.
        batch_size: Samples per forward pass. Default: 32.
        progress: Whether to show a progress bar on stderr. Default: False.
        ensemble: Ensemble to predict in addition. Default: None.

    Yields:
        Predictions of each batch, in the order of the samples.

    Raises:
        DatasetError: The dataset is empty, or belongs to another task.
        OptionError: An ensemble is requested of a model without members.
    """
    if not len(data):
        raise DatasetError(f"{data.card.name} contains no samples to evaluate on")
    if data.task != model.task.name:
        raise DatasetError(
            f"{data.card.name} belongs to task {data.task!r}, and {model.spec.name} to {model.task.name!r}"
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
    input_names = {spec.name for spec in model.inputs}
    loader = DataLoader(data, batch_size=batch_size, collate_fn=collate)
    with reference_period(model, data):
        yield from _predict_loader(model, loader, input_names, device, progress, ensemble)


@contextlib.contextmanager
def reference_period(model: GeoModel, data: GeoDataset) -> Iterator[None]:
    """Set the dataset as the reference period of a model whose predictions depend on it.

    Args:
        model: Field or mask model. Models without a reference period are not changed.
        data: Samples of the period.
    """
    network = model.network
    if not isinstance(network, HasReferencePeriod) or "whole_period" not in model.spec.capabilities:
        yield
        return

    def iter_days(days: Sequence[int]) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
        for sample in (data[day] for day in days):
            inputs = {name: values.unsqueeze(0) for name, values in sample["inputs"].items()}
            valid = {name: mask.unsqueeze(0) for name, mask in sample["valid"].items() if name in inputs}
            yield dict(model.normalize(inputs, valid)), valid

    with network.period(iter_days, len(data)):
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
