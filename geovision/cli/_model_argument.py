"""Model argument of the commands: a registry name, a name with weights, or a folder."""

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
    """Open a trained model.

    Args:
        name: Registry name, ``hf:owner/repo@revision``, folder of a saved model, or folder of a training run.
        weights: Tag or folder of the weights. None: the default weights of the name.

    Returns:
        Trained model.

    Raises:
        OptionError: If both a trained model and `weights` are given.
        UnknownModelError: If there is no such folder and no such registry name.
        WeightsNotAvailableError: If the path does not exist, or the name has no weights.
    """
    folder = Path(name)
    if folder.is_dir():
        if weights:
            raise OptionError(f"{name} is a saved model with its own weights; omit --weights")
        return api.load(_resolve_run_dir(folder))
    if name.startswith(PREFIX):
        if weights:
            raise OptionError(f"{name} is a trained model with its own weights; omit --weights")
        return api.create(name)
    if _is_path(name):
        raise WeightsNotAvailableError(f"{name}: no such folder; expected a folder with a trained model")
    return api.create(name, pretrained=weights or True)


def model_folder(name: str) -> Path:
    """Return the folder of a saved model.

    Args:
        name: Folder of a saved model, or of a training run.

    Returns:
        Folder that contains the model.

    Raises:
        OptionError: If `name` is not a folder.
    """
    if not Path(name).is_dir():
        raise OptionError(f"{name} is not a folder of a trained model; pass --out for the new model")
    return _resolve_run_dir(Path(name))


def find_entry(name: str) -> ModelSpec | None:
    """Return the registry entry of a model.

    A mistyped name raises here, before slow imports.

    Args:
        name: Registry name, or path of a folder.

    Returns:
        Registry entry, or None for a path.

    Raises:
        UnknownModelError: If `name` is not a path and not a registry name.
    """
    return None if Path(name).is_dir() or _is_path(name) else registry.find_model(name)


def _resolve_run_dir(folder: Path) -> Path:
    """Return the subfolder ``model`` of a training run, or the folder itself."""
    inner = folder / "model"
    return inner if inner.is_dir() and not (folder / "config.json").exists() else folder


def _is_path(name: str) -> bool:
    """Return whether a name contains a slash; registry names do not."""
    return "/" in name or "\\" in name
