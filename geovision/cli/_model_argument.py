"""A model as it is named on the command line: by name, by name and weights, or by a saved folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from geovision import api, registry
from geovision.errors import OptionError, WeightsNotAvailableError
from geovision.hub.repo_id import PREFIX
from geovision.spec import ModelSpec

if TYPE_CHECKING:
    from geovision.models.geomodel import GeoModel

__all__ = ["find_entry", "model_folder", "open_model"]


def open_model(name: str, weights: str | None) -> GeoModel:
    """A trained model.

    Args:
        name: A registry name, ``hf:owner/repo@revision``, or a folder: of a model, or of the training that
            made it.
        weights: A tag or a folder; None: the default weights of the name.

    Raises:
        OptionError: A folder and weights at once.
        UnknownModelError: Neither a folder nor a name.
        WeightsNotAvailableError: A path where no folder is, or a name without weights.
    """
    folder = Path(name)
    if folder.is_dir():
        if weights:
            raise OptionError(f"{name} is a saved model and has its weights; leave out --weights")
        return api.load(_resolve_run_dir(folder))
    if name.startswith(PREFIX):
        if weights:
            raise OptionError(f"{name} is a trained model and has its weights; leave out --weights")
        return api.create(name)
    if _is_path(name):
        raise WeightsNotAvailableError(f"{name}: no such folder; it is to hold a trained model")
    return api.create(name, pretrained=weights or True)


def model_folder(name: str) -> Path:
    """Where a model lies that is named by its folder.

    Raises:
        OptionError: It is named otherwise.
    """
    if not Path(name).is_dir():
        raise OptionError(f"{name} is no folder of a trained model; say where the new one goes with --out")
    return _resolve_run_dir(Path(name))


def find_entry(name: str) -> ModelSpec | None:
    """The entry that is named, None for a path; a mistyped name is refused before anything slow is imported.

    Raises:
        UnknownModelError: Neither a path nor a name.
    """
    return None if Path(name).is_dir() or _is_path(name) else registry.find_model(name)


def _resolve_run_dir(folder: Path) -> Path:
    """A training keeps its model one folder further down."""
    inner = folder / "model"
    return inner if inner.is_dir() and not (folder / "config.json").exists() else folder


def _is_path(name: str) -> bool:
    """Whether a name can only be meant as a path: no model's name has a slash."""
    return "/" in name or "\\" in name
