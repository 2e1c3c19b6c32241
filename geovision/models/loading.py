"""Loading of models from folders that `geovision.models.serialization` writes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from geovision import _atomic_io, registry
from geovision.errors import GeovisionError, WeightsCorruptError, WeightsNotAvailableError
from geovision.models.geomodel import GeoModel, ModelConfig, build_model
from geovision.models.serialization import CARD, CONFIG, WEIGHTS, read_config
from geovision.spec import Grid, GridPair

__all__ = ["read"]


def read(folder: Path) -> GeoModel:
    """Load a saved model, on the CPU and in evaluation mode.

    No code in the folder is executed.

    Args:
        folder: Folder with the weights, the configuration and the model card.

    Returns:
        The model.

    Raises:
        WeightsNotAvailableError: The folder, its configuration or its weights are missing.
        WeightsCorruptError: The configuration is invalid, the digest of the weights differs from the
            configuration, or the arrays do not match the architecture.
    """
    config = read_config(folder)
    path = folder / WEIGHTS
    if not path.is_file():
        raise WeightsNotAvailableError(f"{folder} has no {WEIGHTS}; copy the complete folder")
    if _atomic_io.sha256(path) != config["sha256"]:
        raise WeightsCorruptError(
            f"{path} does not match {CONFIG}: its sha256 differs. Copy the folder or train the model again."
        )
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsCorruptError(f"{path} is not a readable safetensors file: {error}") from error
    model = _rebuild(config, folder)
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise WeightsCorruptError(f"{path} does not match {config['model']}: {first}") from error
    model.training_record = config.get("training", {})
    model.card = _card(folder / CARD)
    return model.eval()


def _card(path: Path) -> str:
    """Return the text of the model card, on which no computation depends."""
    return path.read_text("utf-8", errors="replace") if path.is_file() else ""


def _rebuild(config: dict[str, Any], folder: Path) -> GeoModel:
    spec = registry.find_model(config["model"])
    stored = config["config"]
    for name, hint in get_type_hints(ModelConfig).items():
        if name in stored and not _fits(stored[name], hint):
            raise WeightsCorruptError(f"{folder / CONFIG}: {name} has an invalid value, {stored[name]!r:.40}")
    try:
        options = ModelConfig(**{name: _frozen(value) for name, value in stored.items()})
        options = dataclasses.replace(options, grids=_grids(stored.get("grids")))
        with torch.device("cpu"):
            return build_model(spec, registry.find_task(spec.task), options)
    except (TypeError, KeyError, ValueError, RuntimeError, GeovisionError) as error:
        (reason, *_) = (str(error) or type(error).__name__).splitlines()
        raise WeightsCorruptError(
            f"{folder / CONFIG} has options that {spec.name} does not support: {reason}"
        ) from error


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a JSON value matches the type of an option."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, each) for each in parts)
    if kind is tuple and parts[-1] is ...:
        return isinstance(value, list) and all(_fits(each, parts[0]) for each in value)
    if kind is tuple:
        return isinstance(value, list) and len(value) == len(parts) and all(map(_fits, value, parts))
    if kind is Mapping:
        return isinstance(value, dict) and all(_fits(each, parts[1]) for each in value.values())
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return hint is Any or isinstance(value, dict if hint is GridPair else hint)


def _grids(stored: Any) -> GridPair | None:
    if stored is None:
        return None
    return GridPair(*(Grid(tuple(g["lat"]), tuple(g["lon"])) for g in (stored["given"], stored["target"])))


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
