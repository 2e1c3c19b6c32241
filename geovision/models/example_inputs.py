"""Example inputs of a model: random fields and samples of the task's generator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from geovision.models.input_items import InputSample, stack_samples
from geovision.models.layers.normalization import to_physical
from geovision.spec import InputSpec, resolve

if TYPE_CHECKING:
    from geovision.models._base import BaseModel

__all__ = ["probe_inputs", "random_inputs", "sample_shape", "synthetic_inputs", "synthetic_samples"]


def sample_shape(spec: InputSpec, axes: Mapping[str, int] | None = None) -> tuple[int, ...] | None:
    """Return the lengths of the axes of one sample.

    Args:
        spec: Specification of the input.
        axes: Lengths by name of the axis. They replace those of the specification. Default: none.

    Returns:
        Shape of a sample. None if the length of an axis is unknown.
    """
    known = dict(zip(("y", "x"), spec.size, strict=True)) if spec.size else {}
    known |= {"channel": len(spec.channels)} | dict(axes or {}) | {"channel": len(spec.channels)}
    shape = [known.get(axis, 0) for axis in spec.layout.split()]
    return tuple(shape) if all(shape) else None


def random_inputs(
    specs: Sequence[InputSpec], count: int, *, axes: Mapping[str, int] | None = None, seed: int = 0
) -> dict[str, Tensor] | None:
    """Return a batch of random inputs in physical units.

    The fields have structure at every scale, like an image of the sky. They are noise with an amplitude that
    decreases with the wave number, centered on the mean of each channel and within its valid range.

    Args:
        specs: Specifications of the inputs.
        count: Number of samples.
        axes: Lengths by name of the axis, as for `sample_shape`. Default: none.
        seed: Seed of the generator. Default: 0.

    Returns:
        Inputs by name. None if the size of an input is unknown.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = {}
    for spec in specs:
        shape = sample_shape(spec, axes)
        if shape is None:
            return None
        values = torch.randn((count, *shape), generator=generator)
        if spec.layout.split()[-2:] == ["y", "x"]:
            rows, columns = torch.fft.fftfreq(shape[-2])[:, None], torch.fft.rfftfreq(shape[-1])
            wave_number = torch.hypot(rows, columns) + 1e-2
            values = torch.fft.irfft2(torch.fft.rfft2(values) / wave_number**1.5, s=shape[-2:])
            values = values / values.std((-2, -1), keepdim=True)
        along = [-1 if axis == "channel" else 1 for axis in spec.layout.split()]
        mean, std, low, high = (
            torch.tensor(numbers).view(along)
            for numbers in zip(*((c.mean, c.std, *c.valid_range) for c in spec.channels), strict=True)
        )
        inputs[spec.name] = (mean + std * values).clamp(low, high)
    return inputs


def probe_inputs(model: BaseModel, *, count: int, small: bool = False) -> dict[str, Tensor] | None:
    """Return random inputs for tracing a network.

    Args:
        model: Model whose inputs are vectors or images.
        count: Number of samples.
        small: Reduce inputs to at most 96 cells per axis if the network accepts any size. Default: False.

    Returns:
        Inputs by name. None if the size of an input is unknown, or if an input has another layout.
    """
    if any(spec.layout not in ("channel", "channel y x") for spec in model.inputs):
        return None
    # The order of the layers does not depend on the size, and small inputs are faster.
    small = small and "any_size" in model.spec.capabilities
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    inputs: dict[str, Tensor] = {}
    for seed, spec in enumerate(model.inputs):
        axes = {a: min(n, 96) for a, n in zip("yx", spec.size, strict=True)} if small and spec.size else {}
        found = random_inputs([spec], count, axes=axes, seed=seed)
        if found is None:
            return None
        inputs |= {name: values.to(device) for name, values in found.items()}
    return inputs


def synthetic_samples(model: BaseModel, count: int, *, seed: int = 0) -> Iterator[InputSample]:
    """Yield generated samples of the task, as read by the adapter of its main dataset.

    Args:
        model: Model of the task. Its first input defines the size of the samples.
        count: Number of samples.
        seed: Seed of the generator. Default: 0.
    """
    adapter = resolve(model.task.datasets[model.task.dataset])
    for sample in adapter.synthetic_samples(count, seed=seed, size=model.inputs[0].size):
        yield InputSample(sample["inputs"], sample["valid"])


def synthetic_inputs(
    model: BaseModel, count: int, *, seed: int = 0
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return a batch of `synthetic_samples` in physical units, and its masks.

    Args:
        model: Model of the task.
        count: Number of samples.
        seed: Seed of the generator. Default: 0.

    Returns:
        Inputs and masks, each by input name.
    """
    inputs, valid = stack_samples(list(synthetic_samples(model, count, seed=seed)), model.inputs)
    specs = {spec.name: spec for spec in model.inputs}
    return {name: to_physical(values, specs[name]) for name, values in inputs.items()}, valid
