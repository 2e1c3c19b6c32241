"""Prediction functions for windows, in this process or on workers.

Workers load the model from a folder.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from geovision.accelerate.optimized import OptimizedModel, optimize_model
from geovision.errors import StorageError
from geovision.inference import executor
from geovision.inference.sliding_window import PredictFn
from geovision.models.geomodel import GeoModel
from geovision.models.loading import read
from geovision.spec import ClassTarget, Target

__all__ = ["LocalPredictor", "make_predict_fn", "output_names", "temporary_sibling_dir"]


def output_names(target: Target) -> tuple[str, ...]:
    """Return the names of the layers that a model predicts.

    The layers are probabilities for classes and masks, and values in the unit of the target for fields.

    Args:
        target: Target of the model.

    Returns:
        The positive class if the target has one, otherwise all classes; for masks and fields, the name of
        the target.
    """
    if isinstance(target, ClassTarget):
        return (target.positive,) if target.positive else target.classes
    return (target.name,)


def make_predict_fn(
    model: GeoModel, precision: str, executor_config: executor.ExecutorConfig | None, scratch: Path
) -> PredictFn:
    """Return the function that predicts batches of windows.

    Args:
        model: Model that predicts.
        precision: Precision, as for `GeoModel.predict`.
        executor_config: Workers that predict. None selects this process.
        scratch: Folder that the workers can read. The model is saved there if workers are used.

    Returns:
        A callable that can be pickled if workers are used.
    """
    if executor_config is None or not (executor_config.num_workers or executor_config.scheduler):
        return LocalPredictor(optimize_model(model, precision))
    return _WorkerPredictor(str(model.save(scratch / "model")), precision, executor_config.threads)


class LocalPredictor:
    """Prediction function that runs a model in this process.

    Args:
        optimized: Model, optimized for inference.
    """

    def __init__(self, optimized: OptimizedModel) -> None:
        self.optimized = optimized

    def __call__(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        """Predict a batch of windows.

        Args:
            inputs: Values by input name, shape (window, *layout).
            valid: Valid masks by input name, of the same shapes.

        Returns:
            Shape (window, layer) for classes, (window, 1, y, x) for masks and fields.
        """
        return _predict(self.optimized, inputs, valid)


@dataclass(frozen=True)
class _WorkerPredictor:
    """Prediction function that loads a model from a shared folder."""

    folder: str
    precision: str
    threads: int

    def __call__(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        return _predict(optimize_model(_load_model(self.folder), self.precision), inputs, valid)


@lru_cache(maxsize=1)
def _load_model(folder: str) -> GeoModel:
    return read(Path(folder))


def _predict(optimized: OptimizedModel, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
    """Predict a batch of windows; see `LocalPredictor.__call__`."""
    # A mask without missing values would only cost time.
    masks = {name: _match_memory_format(mask) for name, mask in valid.items() if not mask.all()}
    values, _ = optimized(inputs, masks)
    target = optimized.head.target
    if isinstance(target, ClassTarget):
        found = optimized.head.probabilities(values)
        return found[:, [target.classes.index(target.positive)]] if target.positive else found
    found = optimized.head.estimate(values)
    predicted = optimized.valid_mask(inputs, masks, values)
    return found if predicted is None else torch.where(predicted.expand_as(found), found, torch.nan)


def _match_memory_format(mask: Tensor) -> Tensor:
    """Return a mask with the memory format of the values."""
    return mask.contiguous(memory_format=torch.channels_last if mask.ndim == 4 else torch.contiguous_format)


@contextmanager
def temporary_sibling_dir(folder: Path) -> Iterator[Path]:
    """Create a temporary folder and remove it on exit.

    It is created inside `folder`, on the same disk as the results, and is also removed after an error.

    Args:
        folder: Folder of the results. It is created if it does not exist.

    Yields:
        Path of the temporary folder.

    Raises:
        StorageError: If the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".geovision-scene-", dir=folder))
    except OSError as error:
        raise StorageError(
            f"{folder}: could not be written ({error.strerror}); choose another folder"
        ) from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
