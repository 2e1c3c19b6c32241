"""Inputs made up for a model, to look at its network with."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from geovision.models.input_items import Loaded, stacked
from geovision.models.layers.normalization import physical
from geovision.spec import InputSpec, resolve

if TYPE_CHECKING:
    from geovision.models.geomodel import GeoModel

__all__ = ["generated_inputs", "ordinary_inputs", "ordinary_samples", "sample_shape"]


def sample_shape(spec: InputSpec, axes: Mapping[str, int] | None = None) -> tuple[int, ...] | None:
    """Lengths of the axes of one sample; None where one of them is not known.

    Args:
        axes: Lengths by name, for those that the specification leaves open, and instead of its own.
    """
    known = dict(zip(("y", "x"), spec.size, strict=True)) if spec.size else {}
    known |= {"channel": len(spec.channels)} | dict(axes or {}) | {"channel": len(spec.channels)}
    shape = [known.get(axis, 0) for axis in spec.layout.split()]
    return tuple(shape) if all(shape) else None


def generated_inputs(
    specs: Sequence[InputSpec], count: int, *, axes: Mapping[str, int] | None = None, seed: int = 0
) -> dict[str, Tensor] | None:
    """A batch in physical units; None where the sizes are not known.

    Structure at every scale, as in a sky: noise whose amplitude falls with the wave number, about the
    mean of each channel and within its hard range.

    Args:
        axes: As for `sample_shape`.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = {}
    for spec in specs:
        shape = sample_shape(spec, axes)
        if shape is None:
            return None
        values = torch.randn((count, *shape), generator=generator)
        if spec.layout.split()[-2:] == ["y", "x"]:
            falls = torch.hypot(torch.fft.fftfreq(shape[-2])[:, None], torch.fft.rfftfreq(shape[-1])) + 1e-2
            values = torch.fft.irfft2(torch.fft.rfft2(values) / falls**1.5, s=shape[-2:])
            values = values / values.std((-2, -1), keepdim=True)
        along = [-1 if axis == "channel" else 1 for axis in spec.layout.split()]
        mean, std, low, high = (
            torch.tensor(numbers).view(along)
            for numbers in zip(*((c.mean, c.std, *c.valid_range) for c in spec.channels), strict=True)
        )
        inputs[spec.name] = (mean + std * values).clamp(low, high)
    return inputs


def ordinary_samples(model: GeoModel, count: int, *, seed: int = 0) -> Iterator[Loaded]:
    """Samples that the generator of the task's main data set makes."""
    adapter = resolve(model.task.datasets[model.task.dataset])
    with tempfile.TemporaryDirectory() as folder:
        root = adapter.synthetic(Path(folder), count, seed=seed)
        data = adapter(root, size=model.inputs[0].size)
        for index in range(min(count, len(data))):
            sample = data[index]
            yield Loaded(sample["inputs"], sample["valid"])


def ordinary_inputs(
    model: GeoModel, count: int, *, seed: int = 0
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs and masks of a batch of `ordinary_samples`, in physical units."""
    inputs, valid = stacked(list(ordinary_samples(model, count, seed=seed)), model.inputs)
    specs = {spec.name: spec for spec in model.inputs}
    return {name: physical(values, specs[name]) for name, values in inputs.items()}, valid
