"""Predictions of the user's photos with pretrained weights."""

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
    """Photo with its prediction.

    Attributes:
        name: Path relative to the folder.
        thumbnail: Path of the thumbnail.
        prediction: Prediction of the model.
    """

    name: str
    thumbnail: Path
    prediction: ClassPrediction


@dataclass(frozen=True)
class PhotoPredictions:
    """Predictions of one task for a folder of photos.

    Attributes:
        task: Task of the predictions.
        model: Name of the model; empty if the task has no pretrained weights.
        weights: Weights with their training data and scores.
        photos: Photos in the order of their names.
        unreadable: Name and reason, for each file that could not be read.
        skipped: Names of files without the suffix of an image.
    """

    task: Task
    model: str = ""
    weights: WeightSpec | None = None
    photos: Sequence[PhotoPrediction] = ()
    unreadable: Sequence[tuple[str, str]] = ()
    skipped: Sequence[str] = ()


def predict_photos(model: GeoModel, folder: Path, out: Path) -> PhotoPredictions:
    """Predict every photo below a folder.

    Files that cannot be read are listed in the result.

    Args:
        model: Classifier of images.
        folder: Folder of photos, searched recursively; or a single file.
        out: Folder of the thumbnails.

    Returns:
        Predictions with thumbnails, and the names of unreadable and skipped files.
    """
    predictions = model.predict(folder, skip_errors=True)
    photos, unreadable = [], []
    for number, prediction in enumerate(predictions, 1):
        path = Path(prediction.source)
        name = _relative_to(path, folder)
        if prediction.error is not None:
            unreadable.append((name, prediction.error.removeprefix(f"{path}: ")))
            continue
        thumbnail = _thumbnail(path, model, out / f"{number:04d}.jpg")
        photos.append(PhotoPrediction(name, thumbnail, prediction))  # type: ignore[arg-type]
    predicted = {Path(prediction.source) for prediction in predictions}
    return PhotoPredictions(
        model.task,
        model.spec.name,
        next(iter(model.spec.weights), None),
        photos,
        unreadable,
        [_relative_to(path, folder) for path in _iter_visible_files(folder) if path not in predicted],
    )


def _thumbnail(path: Path, model: GeoModel, out: Path) -> Path:
    from PIL import Image

    from geovision.readers.images import read_rgb

    # The image is read as for the model: upright, eight bits, three channels.
    image = Image.fromarray(read_rgb(path, model.inputs[0]).transpose(1, 2, 0).copy())
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    write_files(out.parent, {out.name: lambda place: image.save(place, "JPEG", quality=85)})
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
