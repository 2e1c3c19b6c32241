"""Golden predictions: a stored input and prediction that verify a model on another machine."""

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
"""Name of the file with the golden prediction."""

TOLERANCE = 1e-3
"""Maximum difference, relative to the largest value if that exceeds 1. CPUs differ in rounding."""

_INPUT, _OUTPUT = "input.", "output"


def write_golden(model: GeoModel, path: Path, *, axes: Mapping[str, int] | None = None) -> None:
    """Write a generated input and its prediction.

    Args:
        model: Trained model.
        path: Output file, safetensors.
        axes: Lengths of axes of variable length, by name. Default: None.

    Raises:
        OptionError: If the length of an axis is unknown or contradicts the model, or all predicted values are
            missing.
    """
    inputs = random_inputs(model.inputs, 1, axes=axes)
    if inputs is None:
        raise OptionError(
            f"{model.spec.name}: the golden prediction requires the lengths of all input axes; pass them, "
            "such as axes={'y': 128, 'x': 128}"
        )
    if name := _mismatched_input(model, inputs):
        raise OptionError(f"{model.spec.name}: the axes of {name!r} are fixed; omit their lengths")
    arrays = {f"{_INPUT}{name}": values.contiguous() for name, values in inputs.items()}
    prediction = _predict(model, inputs)
    if prediction.isnan().all():
        raise OptionError(
            f"{model.spec.name} predicts no valid cell for its golden input, as untrained field models do; "
            "train it before publishing"
        )
    save_file(arrays | {_OUTPUT: prediction}, path)


def check_golden(model: GeoModel, path: Path) -> None:
    """Check that a model reproduces its golden prediction.

    Args:
        model: Trained model.
        path: File written by `write_golden`.

    Raises:
        WeightsCorruptError: If the prediction differs, or the file is invalid.
    """
    try:
        arrays = load_file(path)
        expected = arrays.pop(_OUTPUT)
        inputs = {name.removeprefix(_INPUT): values for name, values in arrays.items()}
        if name := _mismatched_input(model, inputs):
            raise ValueError(f"{name!r} has a size that the model does not accept")
        found = _predict(model, inputs)
        difference = (found - expected).abs()
        difference[found.isnan() & expected.isnan()] = 0  # cells without a valid prediction
        worst = float(difference.max())
    except (SafetensorError, OSError, KeyError, RuntimeError, ValueError) as error:
        raise WeightsCorruptError(
            f"{path}: not a golden prediction of {model.spec.name} ({error}); download the model again"
        ) from error
    if not worst <= TOLERANCE * max(1.0, float(expected.nan_to_num().abs().max())):
        raise WeightsCorruptError(
            f"{path}: {model.spec.name} differs by {worst:.2g} from its published golden prediction; its "
            "weights were changed, or a library version computes differently"
        )


def _mismatched_input(model: GeoModel, inputs: Mapping[str, Tensor]) -> str:
    """Return the name of an input with wrong axis lengths; empty if all are right."""
    for spec in model.inputs:
        shape = sample_shape(spec)
        if shape is not None and spec.name in inputs and tuple(inputs[spec.name].shape[1:]) != shape:
            return spec.name
    return ""


def _predict(model: GeoModel, inputs: Mapping[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model(inputs).values.float().cpu().contiguous()
