"""Options of commands that take a dataset, and their defaults."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from geovision import api, registry
from geovision.spec import ClassTarget, resolve

if TYPE_CHECKING:
    from geovision.datasets.base import GeoDataset
    from geovision.models.geomodel import GeoModel

__all__ = [
    "DATASET_HELP",
    "DATA_HELP",
    "adapted_samples",
    "default_layout",
    "open_training_data",
    "open_validation_data",
]

DATA_HELP = (
    "Folder of the data. For your data: one folder per class, a CSV file, or grids with a file grids.toml."
)
DATASET_HELP = "Layout of the data, such as ccsn. Default: the layout for your data."


def default_layout(task: str) -> str:
    """Return the name of the dataset that reads user data of a task.

    Args:
        task: Name of a task.

    Returns:
        ``"folder"`` for classes, otherwise the default dataset of the task.
    """
    found = registry.find_task(task)
    return "folder" if isinstance(found.target, ClassTarget) else found.dataset


def open_training_data(dataset: str, root: Path, split: str | None, task: str) -> GeoDataset:
    """Open a split for training.

    Args:
        dataset: Name of a dataset.
        root: Folder of the data.
        split: Name of a split. None: ``train`` if the dataset has an official one, otherwise all samples.
        task: Name of a task.

    Returns:
        Samples of the split.
    """
    if split is None and "train" in _official_splits(dataset, task):
        split = "train"
    return api.load_dataset(dataset, root, split=split, task=task, synchronous=False)


def open_validation_data(dataset: str, root: Path, task: str) -> GeoDataset | None:
    """Open the official validation split.

    Args:
        dataset: Name of a dataset.
        root: Folder of the data.
        task: Name of a task.

    Returns:
        Samples of the split, or None if the dataset has no official validation split.
    """
    if "val" not in _official_splits(dataset, task):
        return None
    return api.load_dataset(dataset, root, split="val", task=task)


def adapted_samples(model: GeoModel, dataset: str | None, root: Path, split: str | None) -> GeoDataset:
    """Open samples and adapt them to a trained model.

    Args:
        model: Trained model.
        dataset: Name of a dataset. None: the layout for user data.
        root: Folder of the data.
        split: Name of a split. None: all samples.

    Returns:
        Samples with the inputs and classes of the model.
    """
    name = dataset or default_layout(model.task.name)
    samples = api.load_dataset(name, root, split=split, task=model.task.name, synchronous=False)
    return samples.adapt_to(model)


def _official_splits(name: str, task: str) -> tuple[str, ...]:
    adapter: type[GeoDataset] = resolve(registry.dataset_reference(name, task)[1])
    return adapter.splits
