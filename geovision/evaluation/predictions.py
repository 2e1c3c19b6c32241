"""Predictions of a classification on every sample of a dataset."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader

from geovision._atomic_io import write_files
from geovision.datasets.base import GeoDataset, collate
from geovision.errors import DatasetError, InputError
from geovision.metrics.class_mapping import merge_probabilities, merge_targets, merging_for
from geovision.models.geomodel import GeoModel
from geovision.spec import ClassTarget

__all__ = ["Predictions", "collect_predictions"]

_ARRAY_FIELDS = ("probabilities", "labels", "logits", "features", "folds", "positions")
_STRING_FIELDS = ("classes", "groups", "sources")


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions and labels, one row per sample.

    Attributes:
        classes: Classes, in the order of the columns.
        probabilities: Probabilities, float32, shape (sample, class); rows sum to 1.
        labels: Column of the target class, int64, shape (sample,).
        groups: Group of each sample, which splits keep together.
        sources: Source of each sample, such as a path.
        logits: Logits before calibration, float32, shape (sample, model class). None: unknown.
        features: Input of the head, float32, shape (sample, feature). None: not stored.
        folds: Fold whose model made the prediction, int64, shape (sample,). None: one model predicted all.
        positions: Index of each sample in its dataset, int64, shape (sample,). None: unknown.
    """

    classes: tuple[str, ...]
    probabilities: Tensor
    labels: Tensor
    groups: tuple[str, ...]
    sources: tuple[str, ...]
    logits: Tensor | None = None
    features: Tensor | None = None
    folds: Tensor | None = None
    positions: Tensor | None = None

    def __post_init__(self) -> None:
        rows, columns = self.probabilities.shape
        if columns != len(self.classes):
            raise InputError(f"{columns} columns of probabilities for {len(self.classes)} classes")
        for name in (*_ARRAY_FIELDS, "groups", "sources"):
            value = getattr(self, name)
            if value is not None and len(value) != rows:
                raise InputError(f"{len(value)} {name} for {rows} rows of probabilities")
        if rows and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < columns:
            raise InputError(
                f"labels from {int(self.labels.min())} to {int(self.labels.max())}; "
                f"{columns} classes are numbered from 0"
            )
        wrong = (self.probabilities.sum(1) - 1).abs() > 1e-3
        if bool(wrong.any()):
            first = int(wrong.nonzero()[0])
            raise InputError(
                f"probabilities of {self.sources[first]} sum to "
                f"{float(self.probabilities[first].sum()):.4g}, not to 1"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def predicted(self) -> Tensor:
        """Column of the most probable class, int64, shape (sample,)."""
        return self.probabilities.argmax(1)

    @property
    def confidence(self) -> Tensor:
        """Probability of the most probable class, shape (sample,)."""
        return self.probabilities.amax(1)

    @property
    def correct(self) -> Tensor:
        """Whether the most probable class is the label, bool, shape (sample,)."""
        return self.predicted == self.labels

    def take(self, rows: Tensor) -> Self:
        """Return a selection of rows.

        Args:
            rows: Indices, or mask of shape (sample,).
        """
        numbers = torch.arange(len(self))[rows]
        arrays = {
            name: value[numbers] for name in _ARRAY_FIELDS if (value := getattr(self, name)) is not None
        }
        groups = tuple(self.groups[number] for number in numbers.tolist())
        sources = tuple(self.sources[number] for number in numbers.tolist())
        return dataclasses.replace(self, groups=groups, sources=sources, **arrays)

    def at_temperature(self, temperature: float | Tensor) -> Self:
        """Return the predictions with probabilities at another temperature.

        Args:
            temperature: Temperature, one for all samples or shape (sample,).

        Raises:
            InputError: There are no logits, or their classes differ.
        """
        if self.logits is None or self.logits.shape != self.probabilities.shape:
            raise InputError("The predictions have no logits of these classes. Collect them again.")
        scale = torch.as_tensor(temperature, dtype=torch.float32).reshape(-1, 1)
        return dataclasses.replace(self, probabilities=(self.logits / scale).softmax(1))

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Concatenate predictions with the same classes.

        Args:
            parts: Predictions, at least one. Arrays that one of them lacks are omitted.

        Raises:
            InputError: The classes differ.
        """
        first = parts[0]
        arrays = {}
        for name in _ARRAY_FIELDS:
            values = [value for part in parts if (value := getattr(part, name)) is not None]
            arrays[name] = torch.cat(values) if len(values) == len(parts) else None
        if any(part.classes != first.classes for part in parts):
            raise InputError("predictions with different classes cannot be joined")
        groups, sources = (
            tuple(each for part in parts for each in getattr(part, n)) for n in _STRING_FIELDS[1:]
        )
        return cls(first.classes, groups=groups, sources=sources, **arrays)  # type: ignore[arg-type]

    def save(self, path: str | Path) -> Path:
        """Write one file atomically.

        ``.npz`` contains everything. ``.csv`` contains source, group, fold, label, prediction and
        probabilities.

        Args:
            path: Path with suffix ``.npz`` or ``.csv``.

        Returns:
            The path.

        Raises:
            InputError: The path has another suffix.
            StorageError: The file could not be written.
        """
        path = Path(path)
        if path.suffix not in (".npz", ".csv"):
            raise InputError(f"{path}: predictions are stored as .npz or .csv")
        write = self.write_npz if path.suffix == ".npz" else self.write_csv
        write_files(path.parent, {path.name: write})
        return path

    def write_npz(self, path: Path) -> None:
        """Write all arrays to a file, directly and not atomically.

        Args:
            path: Path of the file.
        """
        arrays = {n: value.numpy() for n in _ARRAY_FIELDS if (value := getattr(self, n)) is not None}
        strings = {name: np.array(getattr(self, name), dtype=np.str_) for name in _STRING_FIELDS}
        with path.open("wb") as stream:  # numpy appends .npz to a path that lacks it
            np.savez_compressed(stream, **arrays, **strings)  # type: ignore[arg-type]

    def write_csv(self, path: Path) -> None:
        """Write the table to a file, directly and not atomically.

        Args:
            path: Path of the file.
        """
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["source", "group", "fold", "label", "predicted", *self.classes])
            folds = self.folds.tolist() if self.folds is not None else [""] * len(self)
            rows = zip(
                self.sources,
                self.groups,
                folds,
                self.labels.tolist(),
                self.predicted.tolist(),
                self.probabilities.tolist(),
                strict=True,
            )
            for source, group, fold, label, predicted, row in rows:
                values = (f"{value:.7g}" for value in row)
                writer.writerow([source, group, fold, self.classes[label], self.classes[predicted], *values])

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read predictions that `save` wrote.

        A table contains no logits and no features.

        Args:
            path: Path with suffix ``.npz`` or ``.csv``.

        Raises:
            InputError: The file is missing or has another format.
        """
        path = Path(path)
        try:
            return cls._read_npz(path) if path.suffix == ".npz" else cls._read_csv(path)
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise InputError(f"{path}: not a file of predictions ({error})") from error

    @classmethod
    def _read_npz(cls, path: Path) -> Self:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in _ARRAY_FIELDS if name in file}
            strings = {name: tuple(file[name].tolist()) for name in _STRING_FIELDS}
        return cls(**arrays, **strings)  # type: ignore[arg-type]

    @classmethod
    def _read_csv(cls, path: Path) -> Self:
        with path.open(encoding="utf-8", newline="") as stream:
            (_, _, _, _, _, *classes), *rows = csv.reader(stream)
        sources, groups, folds, labels, _, *columns = zip(*rows, strict=True)
        return cls(
            tuple(classes),
            torch.tensor([[float(value) for value in column] for column in columns]).T.contiguous(),
            torch.tensor([classes.index(label) for label in labels]),
            groups,
            sources,
            folds=torch.tensor([int(fold) for fold in folds]) if all(folds) else None,
        )


# --- prediction ---------------------------------------------------------------------------------


def collect_predictions(
    model: GeoModel,
    data: GeoDataset,
    *,
    batch_size: int = 32,
    features: bool = False,
    progress: bool = False,
) -> Predictions:
    """Predict every sample of a dataset with a class model.

    The classes of the dataset are matched to the model's by name. They are the same, a subset, or coarser
    classes with a mapping (`GeoDataset.class_mapping`). Samples of classes that the mapping excludes are
    omitted.

    Args:
        model: Class model. It predicts in evaluation mode, in float32 and on its device; its mode is restored
            afterwards.
        data: Samples.
        batch_size: Samples per forward pass. Default: 32.
        features: Whether to store the input of the head. Default: False.
        progress: Whether to show a progress bar on stderr. Default: False.

    Raises:
        DatasetError: The dataset is empty, belongs to another task, or its classes do not match.
    """
    data_classes, classes = _common_classes(model, data)
    merging = None
    if data.class_mapping is not None or not set(data_classes) <= set(classes):
        merging = merging_for(classes, data_classes, data.class_mapping, dataset=data.card.name)
    logits, features_list, labels, groups, sources = _predict(model, data, batch_size, features, progress)
    head: Any = model.head
    with torch.no_grad():
        probabilities = head.probabilities(logits.to(head.temperature.device)).cpu()
    if merging is None:
        labels = torch.tensor([classes.index(name) for name in data_classes])[labels]
    else:
        labels = merge_targets(labels, data_classes, merging)
        probabilities = merge_probabilities(probabilities, classes, merging)
    scored = labels >= 0
    return Predictions(
        merging.classes if merging else classes,
        probabilities,
        labels.clamp_min(0),
        tuple(groups),
        tuple(sources),
        logits=logits,
        features=features_list,
        positions=torch.arange(len(labels)),
    ).take(scored)


def _common_classes(model: GeoModel, data: GeoDataset) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the classes of the dataset and of the model.

    Raises:
        DatasetError: The dataset is empty, belongs to another task, or a target is not a class.
    """
    if not len(data):
        raise DatasetError(f"{data.card.name} contains no samples to evaluate on")
    if data.task != model.task.name:
        raise DatasetError(
            f"{data.card.name} belongs to task {data.task!r}, and {model.spec.name} to {model.task.name!r}"
        )
    if not isinstance(model.target, ClassTarget) or not isinstance(data.target, ClassTarget):
        raise DatasetError(
            f"{data.card.name}: expected a class model and class labels, not a {model.target.kind}"
        )
    return data.target.classes, model.target.classes


def _predict(
    model: GeoModel, data: GeoDataset, batch_size: int, features: bool, progress: bool
) -> tuple[Tensor, Tensor | None, Tensor, list[str], list[str]]:
    was_training = model.training
    model.eval()
    try:
        return _batches(model, data, batch_size, features, progress)
    finally:
        model.train(was_training)


def _batches(
    model: GeoModel, data: GeoDataset, batch_size: int, features: bool, progress: bool
) -> tuple[Tensor, Tensor | None, Tensor, list[str], list[str]]:
    parameter = next(model.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    loader = DataLoader(data.with_input(model.inputs[0]), batch_size=batch_size, collate_fn=collate)
    input_names = {spec.name for spec in model.inputs}
    logits: list[Tensor] = []
    features_list: list[Tensor] = []
    labels: list[Tensor] = []
    groups: list[str] = []
    sources: list[str] = []
    console = Console(stderr=True)
    for batch in track(loader, "evaluating", console=console, disable=not progress, transient=True):
        inputs = {name: value.to(device) for name, value in batch["inputs"].items() if name in input_names}
        valid = {name: value.to(device) for name, value in batch["valid"].items() if name in input_names}
        if not labels:
            model.validate_inputs(inputs, valid=valid)
        with torch.no_grad():
            head_input = model.features(inputs, valid=valid)
            logits.append(model.head(head_input).float().cpu())
        if features:
            features_list.append(head_input.float().cpu())
        labels.append(batch["target"])
        groups += batch["group"]
        sources += batch["source"]
    return (
        torch.cat(logits),
        torch.cat(features_list) if features else None,
        torch.cat(labels),
        groups,
        sources,
    )
