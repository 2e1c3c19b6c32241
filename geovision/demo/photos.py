"""Answers about the reader's own photos, by weights that are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geovision._atomic_io import write_files
from geovision.spec import Task, WeightSpec

if TYPE_CHECKING:
    from geovision.heads.prediction import ClassPrediction
    from geovision.models.geomodel import GeoModel

__all__ = ["PhotoPrediction", "PhotoPredictions", "predict_photos"]

_THUMBNAIL = 480  # pixels of the longer side


@dataclass(frozen=True)
class PhotoPrediction:
    """One photo that was answered.

    Attributes:
        name: Its path below the folder.
        thumbnail: A small copy.
        prediction: What the model says.
    """

    name: str
    thumbnail: Path
    prediction: ClassPrediction


@dataclass(frozen=True)
class PhotoPredictions:
    """What one task's weights say about a folder of photos.

    Attributes:
        model: Name of the model; empty where the task has no weights yet.
        weights: What it was trained on, and what it is worth.
        photos: In the order of their names.
        unreadable: (name, why) of each file that could not be read.
        skipped: Names of files that are not called like pictures.
    """

    task: Task
    model: str = ""
    weights: WeightSpec | None = None
    photos: Sequence[PhotoPrediction] = ()
    unreadable: Sequence[tuple[str, str]] = ()
    skipped: Sequence[str] = ()


def predict_photos(model: GeoModel, folder: Path, out: Path) -> PhotoPredictions:
    """Ask a model about every photo below a folder; files that cannot be read are listed.

    Args:
        folder: Of photos, in folders or not; a single file will do.
        out: Where the thumbnails go.
    """
    answers = model.predict(folder, skip_errors=True)
    photos, unreadable = [], []
    for number, answer in enumerate(answers, 1):
        path = Path(answer.source)
        if answer.error is not None:
            unreadable.append((_relative_to(path, folder), answer.error.removeprefix(f"{path}: ")))
            continue
        thumbnail = _thumbnail(path, model, out / f"{number:04d}.jpg")
        photos.append(PhotoPrediction(_relative_to(path, folder), thumbnail, answer))  # type: ignore[arg-type]
    asked = {Path(answer.source) for answer in answers}
    return PhotoPredictions(
        model.task,
        model.spec.name,
        next(iter(model.spec.weights), None),
        photos,
        unreadable,
        [_relative_to(path, folder) for path in _iter_visible_files(folder) if path not in asked],
    )


def _thumbnail(path: Path, model: GeoModel, out: Path) -> Path:
    from PIL import Image

    from geovision.readers.images import read_rgb

    # Read as the model reads it: upright, eight bits, three channels.
    picture = Image.fromarray(read_rgb(path, model.inputs[0]).transpose(1, 2, 0).copy())
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    write_files(out.parent, {out.name: lambda place: picture.save(place, "JPEG", quality=85)})
    return out


def _iter_visible_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(
        path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _relative_to(path: Path, folder: Path) -> str:
    return (
        path.relative_to(folder).as_posix() if path.is_relative_to(folder) and path != folder else path.name
    )
