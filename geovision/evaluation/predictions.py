"""What a model said about every sample of a data set, as a plain record that can be kept."""

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
    """Answers and truths, row by row.

    Attributes:
        classes: In the order of the columns.
        probabilities: float32 ``(sample, class)``, rows that sum to 1.
        labels: int64 ``(sample,)``, the column of the true class.
        groups: What each sample must not be parted from.
        sources: Where each sample was read from.
        logits: float32 ``(sample, model class)`` before calibration; None where they are not known.
        features: float32 ``(sample, feature)``, what the head saw; None where they were not kept.
        folds: int64 ``(sample,)``, the fold whose model answered; None: one model answered all.
        positions: int64 ``(sample,)``, where each sample stands in its data set.
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
        """Column of the likeliest class, int64 ``(sample,)``."""
        return self.probabilities.argmax(1)

    @property
    def confidence(self) -> Tensor:
        """Probability of the likeliest class, ``(sample,)``."""
        return self.probabilities.amax(1)

    @property
    def correct(self) -> Tensor:
        """Whether the likeliest class is the true one, bool ``(sample,)``."""
        return self.predicted == self.labels

    def take(self, rows: Tensor) -> Self:
        """These rows alone, by index or by mask."""
        numbers = torch.arange(len(self))[rows]
        arrays = {
            name: value[numbers] for name in _ARRAY_FIELDS if (value := getattr(self, name)) is not None
        }
        groups = tuple(self.groups[number] for number in numbers.tolist())
        sources = tuple(self.sources[number] for number in numbers.tolist())
        return dataclasses.replace(self, groups=groups, sources=sources, **arrays)

    def at_temperature(self, temperature: float | Tensor) -> Self:
        """The same logits as probabilities at another temperature, one for all or ``(sample,)``.

        Raises:
            InputError: The logits were not kept, or are those of other classes.
        """
        if self.logits is None or self.logits.shape != self.probabilities.shape:
            raise InputError("a temperature needs the logits of these very classes; collect them again")
        scale = torch.as_tensor(temperature, dtype=torch.float32).reshape(-1, 1)
        return dataclasses.replace(self, probabilities=(self.logits / scale).softmax(1))

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """All rows of several records with the same classes; what one of them lacks is left out."""
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
        """Write one file, whole or not at all: ``.npz`` with everything, or ``.csv`` with source,
        group, fold, label, prediction and probabilities.

        Raises:
            InputError: Another suffix.
            StorageError: It could not be written.
        """
        path = Path(path)
        if path.suffix not in (".npz", ".csv"):
            raise InputError(f"{path}: predictions are kept as .npz or .csv")
        write = self.write_npz if path.suffix == ".npz" else self.write_csv
        write_files(path.parent, {path.name: write})
        return path

    def write_npz(self, path: Path) -> None:
        """Write every array to this very path."""
        arrays = {n: value.numpy() for n in _ARRAY_FIELDS if (value := getattr(self, n)) is not None}
        words = {name: np.array(getattr(self, name), dtype=np.str_) for name in _STRING_FIELDS}
        with path.open("wb") as stream:  # numpy appends .npz to a path that lacks it
            np.savez_compressed(stream, **arrays, **words)  # type: ignore[arg-type]

    def write_csv(self, path: Path) -> None:
        """Write the table to this very path."""
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
        """Read what `save` wrote. A table holds no logits and no features.

        Raises:
            InputError: It is missing or not such a file.
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
            words = {name: tuple(file[name].tolist()) for name in _STRING_FIELDS}
        return cls(**arrays, **words)  # type: ignore[arg-type]

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


# --- asking a model -----------------------------------------------------------------------------


def collect_predictions(
    model: GeoModel,
    data: GeoDataset,
    *,
    batch_size: int = 32,
    features: bool = False,
    progress: bool = False,
) -> Predictions:
    """Ask a model about every sample of a data set.

    The classes of the data set are matched to the model's by name: they are the same, or some of
    them, or coarser ones that the data set says how to add up (`GeoDataset.merging`); samples of
    classes that it excludes are left out.

    Args:
        model: Left as it was found; it is asked in evaluation mode, in float32, where it lies.
        batch_size: Samples a forward pass.
        features: Keep what the head saw.
        progress: Show a bar on stderr.

    Raises:
        DatasetError: The data set is empty, of another task, or of classes that do not match.
    """
    own, classes = _common_classes(model, data)
    merging = None
    if data.class_mapping is not None or not set(own) <= set(classes):
        merging = merging_for(classes, own, data.class_mapping, dataset=data.card.name)
    logits, seen, labels, groups, sources = _predict(model, data, batch_size, features, progress)
    head: Any = model.head
    with torch.no_grad():
        probabilities = head.probabilities(logits.to(head.temperature.device)).cpu()
    if merging is None:
        labels = torch.tensor([classes.index(name) for name in own])[labels]
    else:
        labels = merge_targets(labels, own, merging)
        probabilities = merge_probabilities(probabilities, classes, merging)
    scored = labels >= 0
    return Predictions(
        merging.classes if merging else classes,
        probabilities,
        labels.clamp_min(0),
        tuple(groups),
        tuple(sources),
        logits=logits,
        features=seen,
        positions=torch.arange(len(labels)),
    ).take(scored)


def _common_classes(model: GeoModel, data: GeoDataset) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes of the data set and of the model.

    Raises:
        DatasetError: There are none to compare.
    """
    if not len(data):
        raise DatasetError(f"{data.card.name}: holds no samples to evaluate on")
    if data.task != model.task.name:
        raise DatasetError(
            f"{data.card.name} is of task {data.task!r}, {model.spec.name} of {model.task.name!r}"
        )
    if not isinstance(model.target, ClassTarget) or not isinstance(data.target, ClassTarget):
        raise DatasetError(f"{data.card.name}: only classes are collected, not a {model.target.kind}")
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
    known = {spec.name for spec in model.inputs}
    logits: list[Tensor] = []
    seen: list[Tensor] = []
    labels: list[Tensor] = []
    groups: list[str] = []
    sources: list[str] = []
    console = Console(stderr=True)
    for batch in track(loader, "evaluating", console=console, disable=not progress, transient=True):
        inputs = {name: value.to(device) for name, value in batch["inputs"].items() if name in known}
        valid = {name: value.to(device) for name, value in batch["valid"].items() if name in known}
        if not labels:
            model.validate_inputs(inputs, valid=valid)
        with torch.no_grad():
            what_the_head_sees = model.features(inputs, valid=valid)
            logits.append(model.head(what_the_head_sees).float().cpu())
        if features:
            seen.append(what_the_head_sees.float().cpu())
        labels.append(batch["target"])
        groups += batch["group"]
        sources += batch["source"]
    return torch.cat(logits), torch.cat(seen) if features else None, torch.cat(labels), groups, sources
