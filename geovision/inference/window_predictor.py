"""A model as what is asked about windows: in this process, or on workers that read it from a folder."""

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
    """Names of what a model says of a place: the class that is looked for, or all classes, each with its
    probability; a mask, the same; or a field, in its unit."""
    if isinstance(target, ClassTarget):
        return (target.positive,) if target.positive else target.classes
    return (target.name,)


def make_predict_fn(
    model: GeoModel, precision: str, executor_config: executor.ExecutorConfig | None, scratch: Path
) -> PredictFn:
    """What is asked about windows.

    Args:
        precision: As for `GeoModel.predict`.
        executor_config: Who asks; None: this process.
        scratch: A folder that the workers see.
    """
    if executor_config is None or not (executor_config.num_workers or executor_config.scheduler):
        return LocalPredictor(optimize_model(model, precision))
    return _WorkerPredictor(str(model.save(scratch / "model")), precision, executor_config.threads)


class LocalPredictor:
    """A model in this process."""

    def __init__(self, optimized: OptimizedModel) -> None:
        self.optimized = optimized

    def __call__(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        return _predict(self.optimized, inputs, valid)


@dataclass(frozen=True)
class _WorkerPredictor:
    """A model in a folder that workers share."""

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
    """``(window, layer)`` of classes, ``(window, 1, y, x)`` of masks and fields; see `output_names`."""
    # Where all is there, nothing has to be masked.
    masks = {name: _match_memory_format(mask) for name, mask in valid.items() if not mask.all()}
    values, _ = optimized(inputs, masks)
    target = optimized.head.target
    if isinstance(target, ClassTarget):
        found = optimized.head.probabilities(values)
        return found[:, [target.classes.index(target.positive)]] if target.positive else found
    found = optimized.head.estimate(values)
    there = optimized.valid_mask(inputs, masks, values)
    return found if there is None else torch.where(there.expand_as(found), found, torch.nan)


def _match_memory_format(mask: Tensor) -> Tensor:
    """A mask in memory as the values are."""
    return mask.contiguous(memory_format=torch.channels_last if mask.ndim == 4 else torch.contiguous_format)


@contextmanager
def temporary_sibling_dir(folder: Path) -> Iterator[Path]:
    """A folder beside the results, gone in the end whatever happens."""
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
