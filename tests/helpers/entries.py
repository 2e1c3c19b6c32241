"""Tiny models of all registry entries, with random samples of the correct form."""

from __future__ import annotations

import torch
from torch import Tensor

from geovision import registry
from geovision.datasets.base import DatasetCard, GeoDataset, Sample
from geovision.models.geomodel import GeoModel, ModelConfig, build_model
from geovision.spec import Channel, ClassTarget, FieldTarget, InputSpec, ModelSpec, Task
from geovision.training import closed_form
from geovision.training.data_statistics import fit_statistics, needs_statistics

__all__ = [
    "ENTRIES",
    "SIZE",
    "Drawn",
    "batch_of",
    "inputs_of",
    "name_of",
    "plausible",
    "target_of",
    "target_values",
    "tiny",
]

ENTRIES = list(registry.models().values())
SIZE = (32, 32)


def name_of(entry: ModelSpec | Task) -> str:
    return entry.name


def tiny(spec: ModelSpec, *, scalars: tuple[str, ...] = (), size: tuple[int, int] = SIZE) -> GeoModel:
    """Return the tiny model of an entry with fixed weights, fitted if predictions need it."""
    torch.manual_seed(0)
    task = registry.find_task(spec.task)
    model = build_model(spec, task, ModelConfig(model_args=spec.tiny_args, size=size, scalars=scalars)).eval()
    if spec.fit == "closed_form":
        closed_form.fit(model, Drawn(model, 24), progress=False)
    elif needs_statistics(model):
        fit_statistics(model, Drawn(model, 24))
    return model


class Drawn(GeoDataset):
    """Random samples of the correct form."""

    card = DatasetCard("drawn", "Drawn", "", "", "", "sample", "none")

    def __init__(self, model: GeoModel, count: int) -> None:
        self.task, self.target = model.task.name, model.target
        self.inputs = inputs_of(model, count, seed=5)
        first = next(iter(self.inputs.values()))
        if isinstance(model.target, ClassTarget):
            self.truth = torch.arange(count) % len(model.target.classes)
        else:
            factor = getattr(model.network, "factor", 1)
            self.truth = target_values(model, (count, 1, *(side * factor for side in first.shape[-2:])))

    def __len__(self) -> int:
        return len(self.truth)

    def read_sample(self, index: int) -> Sample:
        inputs = {name: values[index] for name, values in self.inputs.items()}
        return Sample(inputs=inputs, valid={}, target=self.truth[index], group=str(index), source=str(index))

    @property
    def groups(self) -> list[str]:
        return [str(index) for index in range(len(self))]

    def subset(self, indices):
        raise NotImplementedError

    def plot(self, sample, prediction=None):
        raise NotImplementedError

    @classmethod
    def synthetic(cls, root, n, *, seed=0):
        raise NotImplementedError


def target_values(model: GeoModel, shape: tuple[int, ...]) -> Tensor:
    """Return random fields in the range of the target, or binary masks."""
    draw = torch.rand(shape, generator=torch.Generator().manual_seed(7))
    if isinstance(model.target, FieldTarget):
        return plausible(model.target.channel, shape, torch.Generator().manual_seed(7))
    return (draw < 0.3).float()


def plausible(channel: Channel, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return values within two standard deviations of the mean and the valid range."""
    low = max(channel.valid_range[0], channel.mean - 2 * channel.std)
    high = min(channel.valid_range[1], channel.mean + 2 * channel.std)
    return low + (high - low) * torch.rand(shape, generator=generator)


def batch_of(spec: InputSpec, count: int, *, seed: int = 0) -> Tensor:
    """Return a batch in physical units with the axes of the input."""
    generator = torch.Generator().manual_seed(seed)
    axes = [axis for axis in spec.layout.split() if axis != "channel"]
    sizes = {"y": (spec.size or SIZE)[0], "x": (spec.size or SIZE)[1]}
    shape = (count, *(sizes.get(axis, 3) for axis in axes))
    return torch.stack([plausible(c, shape, generator) for c in spec.channels], dim=1 + spec.channel_axis)


def inputs_of(model: GeoModel, count: int, *, seed: int = 0) -> dict[str, Tensor]:
    return {spec.name: batch_of(spec, count, seed=seed) for spec in model.inputs}


def target_of(model: GeoModel, values: Tensor) -> Tensor:
    """Return a target that matches the prediction: cyclic classes, or a mask or field."""
    if isinstance(model.target, ClassTarget):
        return torch.arange(len(values)) % len(model.target.classes)
    return target_values(model, (len(values), 1, *values.shape[-2:]))
