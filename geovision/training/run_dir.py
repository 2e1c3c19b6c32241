"""Folder of a training run: description, checkpoint, log and trained model.

- ``recipe.json``: model, data and recipe; only the same training can be resumed in the folder
- ``last.ckpt``: last checkpoint
- ``log.csv``: one row per epoch
- ``tensorboard/``: the same values for TensorBoard
- ``model/``: trained model, after the end of the training
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from geovision import _atomic_io
from geovision.datasets.base import GeoDataset
from geovision.errors import OptionError, WeightsCorruptError
from geovision.models.geomodel import GeoModel
from geovision.spec import Recipe

__all__ = ["RunDir", "describe_run", "to_json_types"]


class RunDir:
    """Folder of a training run.

    Args:
        path: Path of the folder.

    Attributes:
        checkpoint: Path of the checkpoint, which may be missing.
        model: Folder of the trained model, which may be missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "last.ckpt"
        self.model = path / "model"
        self._recipe = path / "recipe.json"

    @property
    def finished(self) -> bool:
        """Whether the folder contains a trained model."""
        return (self.model / "config.json").is_file()

    def open(self, run: dict[str, Any], *, resume: bool) -> None:
        """Create the folder of a training, or reopen it to resume.

        Args:
            run: Description of the training, see `describe_run`.
            resume: Whether to resume the training in the folder.

        Raises:
            OptionError: The folder contains a training and `resume` is False, or another training.
            StorageError: The folder cannot be written.
        """
        if self._recipe.is_file():
            self._reopen(run, resume=resume)
            for half_written in self.path.glob(".*.part"):  # by an interrupted process
                half_written.unlink(missing_ok=True)
        elif self.model.exists() or self.checkpoint.exists():
            raise OptionError(f"{self.path} contains files of another training; choose an empty folder")
        else:
            _atomic_io.write_text(self._recipe, json.dumps(run, indent=2, ensure_ascii=False) + "\n")

    def _reopen(self, run: dict[str, Any], *, resume: bool) -> None:
        if not resume:
            state = "a finished" if self.finished else "an unfinished"
            hint = "use its model" if self.finished else "continue it with resume=True"
            raise OptionError(f"{self.path} contains {state} training; {hint}, or choose another folder")
        try:
            known = json.loads(self._recipe.read_text(encoding="utf-8"))
        except ValueError as error:
            raise OptionError(f"{self._recipe} is not readable ({error}); choose another folder") from error
        difference = _difference(known, run)
        if difference:
            raise OptionError(f"{self.path} contains another training, {difference}; choose another folder")

    def state(self) -> dict[str, Any] | None:
        """Return the checkpoint, or None if there is none.

        Raises:
            WeightsCorruptError: The checkpoint cannot be read.
        """
        if not self.checkpoint.is_file():
            return None
        try:
            return torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:
            raise WeightsCorruptError(
                f"{self.checkpoint} is not a readable checkpoint ({type(error).__name__}); "
                "start again in another folder"
            ) from error


def describe_run(
    model: GeoModel, data: GeoDataset, validation: GeoDataset | None, recipe: Recipe
) -> dict[str, Any]:
    """Return the description of a training that ``recipe.json`` contains.

    Two trainings with the same description are the same training.

    Args:
        model: Model to train.
        data: Training samples.
        validation: Validation samples, or None.
        recipe: Training recipe.
    """
    return to_json_types(
        {
            "model": model.spec.name,
            "options": dataclasses.asdict(model.config),
            "classes": model.target.classes,
            "data": {"name": data.card.name, "samples": len(data)},
            "validation": None if validation is None else {"samples": len(validation)},
            "recipe": dataclasses.asdict(recipe),
        }
    )


def to_json_types(value: Any) -> Any:
    """Return a value as it is read from JSON.

    Tuples become lists.

    Args:
        value: Value of types that JSON supports.
    """
    return json.loads(json.dumps(value))


def _difference(known: Any, wanted: Any, place: str = "") -> str:
    """Describe the first difference of two descriptions; empty if there is none."""
    if isinstance(known, dict) and isinstance(wanted, dict):
        # Options that are missing in the folder were added by a later version of geovision.
        pairs = [(key, value, wanted.get(key)) for key, value in known.items()]
    elif isinstance(known, list) and isinstance(wanted, list) and len(known) == len(wanted):
        pairs = [(str(number), a, b) for number, (a, b) in enumerate(zip(known, wanted, strict=True), 1)]
    else:
        return "" if known == wanted else f"with {place} {known!r}, not {wanted!r}"
    found = (_difference(a, b, f"{place}.{key}" if place else key) for key, a, b in pairs)
    return next((difference for difference in found if difference), "")
