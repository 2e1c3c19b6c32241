"""The folder of one training: what it is, how far it is, what came of it.

recipe.json      what is trained on what and how; a training that differs does not go on here
last.ckpt        where it stands
log.csv          a row an epoch
tensorboard/     the same for TensorBoard
model/           the trained model, when all is done
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
    """A training's folder.

    Attributes:
        checkpoint: Path of the checkpoint; it need not exist.
        model: Folder of the trained model; the same.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "last.ckpt"
        self.model = path / "model"
        self._recipe = path / "recipe.json"

    @property
    def finished(self) -> bool:
        return (self.model / "config.json").is_file()

    def open(self, run: dict[str, Any], *, resume: bool) -> None:
        """Make the folder a training's own, or go on with the one that is in it.

        Raises:
            OptionError: It holds a training that `resume` does not ask for, or another one.
            StorageError: It cannot be written.
        """
        if self._recipe.is_file():
            self._reopen(run, resume=resume)
            for half_written in self.path.glob(".*.part"):  # by a process that was killed
                half_written.unlink(missing_ok=True)
        elif self.model.exists() or self.checkpoint.exists():
            raise OptionError(f"{self.path}: holds files of another training; choose an empty folder")
        else:
            _atomic_io.write_text(self._recipe, json.dumps(run, indent=2, ensure_ascii=False) + "\n")

    def _reopen(self, run: dict[str, Any], *, resume: bool) -> None:
        if not resume:
            what = "a finished" if self.finished else "an unfinished"
            hint = "use what is there" if self.finished else "go on with it by resume=True"
            raise OptionError(f"{self.path}: holds {what} training; {hint}, or choose another folder")
        try:
            known = json.loads(self._recipe.read_text(encoding="utf-8"))
        except ValueError as error:
            raise OptionError(f"{self._recipe}: not readable ({error}); choose another folder") from error
        difference = _difference(known, run)
        if difference:
            raise OptionError(f"{self.path}: holds another training, {difference}; choose another folder")

    def state(self) -> dict[str, Any] | None:
        """The checkpoint, or None where there is none yet.

        Raises:
            WeightsCorruptError: It cannot be read.
        """
        if not self.checkpoint.is_file():
            return None
        try:
            return torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:
            raise WeightsCorruptError(
                f"{self.checkpoint} is not a readable checkpoint ({type(error).__name__}); "
                "begin again in another folder"
            ) from error


def describe_run(
    model: GeoModel, data: GeoDataset, validation: GeoDataset | None, recipe: Recipe
) -> dict[str, Any]:
    """What makes a training that training, as it stands in ``recipe.json``."""
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
    """A value as it comes back from a JSON file: tuples as lists."""
    return json.loads(json.dumps(value))


def _difference(known: Any, wanted: Any, place: str = "") -> str:
    """The first place where two descriptions differ, in words; "" where none does."""
    if isinstance(known, dict) and isinstance(wanted, dict):
        # An option that the folder does not know came with a later geovision.
        pairs = [(key, value, wanted.get(key)) for key, value in known.items()]
    elif isinstance(known, list) and isinstance(wanted, list) and len(known) == len(wanted):
        pairs = [(str(number), a, b) for number, (a, b) in enumerate(zip(known, wanted, strict=True), 1)]
    else:
        return "" if known == wanted else f"with {place} {known!r}, not {wanted!r}"
    found = (_difference(a, b, f"{place}.{key}" if place else key) for key, a, b in pairs)
    return next((words for words in found if words), "")
