"""One input with the answer that was given to it: whether a model answers here as it did there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from geovision.errors import OptionError, WeightsCorruptError
from geovision.models.example_inputs import random_inputs, sample_shape
from geovision.models.geomodel import GeoModel

__all__ = ["GOLDEN_NAME", "TOLERANCE", "check_golden", "write_golden"]

GOLDEN_NAME = "golden.safetensors"
"""Name of the file."""

TOLERANCE = 1e-3
"""Largest difference, as a part of the largest value where that is above 1: processors round otherwise."""

_INPUT, _OUTPUT = "input.", "output"


def write_golden(model: GeoModel, path: Path, *, axes: Mapping[str, int] | None = None) -> None:
    """Ask a model about a generated sample, and write both down.

    Args:
        axes: Lengths of axes that its inputs leave open.

    Raises:
        OptionError: The length of an axis is not known or another, or the model answers nothing yet.
    """
    inputs = random_inputs(model.inputs, 1, axes=axes)
    if inputs is None:
        raise OptionError(
            f"{model.spec.name}: a golden answer needs an input, and not all lengths of its axes are known; "
            "give them, such as axes={'y': 128, 'x': 128}"
        )
    if name := _mismatched_input(model, inputs):
        raise OptionError(f"{model.spec.name}: the axes of {name!r} are fixed; leave their lengths out")
    arrays = {f"{_INPUT}{name}": values.contiguous() for name, values in inputs.items()}
    answer = _predict(model, inputs)
    if answer.isnan().all():
        raise OptionError(
            f"{model.spec.name} answers no cell of its golden input, as models of fields do until they are "
            "trained; train it before it is published"
        )
    save_file(arrays | {_OUTPUT: answer}, path)


def check_golden(model: GeoModel, path: Path) -> None:
    """Raise unless a model answers as it is written.

    Raises:
        WeightsCorruptError: It answers otherwise, or the file is not what it should be.
    """
    try:
        arrays = load_file(path)
        expected = arrays.pop(_OUTPUT)
        inputs = {name.removeprefix(_INPUT): values for name, values in arrays.items()}
        if name := _mismatched_input(model, inputs):
            raise ValueError(f"{name!r} has the size of another")
        found = _predict(model, inputs)
        difference = (found - expected).abs()
        difference[found.isnan() & expected.isnan()] = 0  # cells that a model does not answer
        worst = float(difference.max())
    except (SafetensorError, OSError, KeyError, RuntimeError, ValueError) as error:
        raise WeightsCorruptError(f"{path}: no golden answer of {model.spec.name} ({error})") from error
    if not worst <= TOLERANCE * max(1.0, float(expected.nan_to_num().abs().max())):
        raise WeightsCorruptError(
            f"{path}: {model.spec.name} does not answer as it did when it was published, by {worst:.2g}; its "
            "weights were changed, or this version of a library computes otherwise"
        )


def _mismatched_input(model: GeoModel, inputs: Mapping[str, Tensor]) -> str:
    """Name of an input whose axes are of other lengths than the model's; empty: none."""
    for spec in model.inputs:
        shape = sample_shape(spec)
        if shape is not None and spec.name in inputs and tuple(inputs[spec.name].shape[1:]) != shape:
            return spec.name
    return ""


def _predict(model: GeoModel, inputs: Mapping[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model(inputs).values.float().cpu().contiguous()
