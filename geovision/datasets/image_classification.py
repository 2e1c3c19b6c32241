"""The base of every data set of photos with one class each.

An adapter says what its folder holds (`ImageDataset.scan`); everything else is here: decoding,
classes, near-duplicate groups, folds, subsets, pictures.
"""

from __future__ import annotations

import abc
import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch
from torch import Tensor

from geovision import registry
from geovision.datasets.base import GeoDataset, Sample, Transforms
from geovision.datasets.duplicates import fingerprints, near_duplicate_groups
from geovision.errors import DatasetError, InputError, OptionError
from geovision.readers.images import extensions
from geovision.spec import Channel, ClassTarget, InputSpec, resolve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from geovision.datasets.splits import TrainTestSplit
    from geovision.heads.prediction import Prediction
    from geovision.models.geomodel import GeoModel

__all__ = ["SCALARS", "ImageDataset", "ImageRecord", "list_images"]

SCALARS = "scalars"
"""Key of the measurements beside the photo, the same as in models."""


@dataclass(frozen=True)
class ImageRecord:
    """One photo, before it is read.

    Attributes:
        path: The file.
        label: Code of its class, or "" where it has none that counts.
        group: What a split must not cut; "": its near-duplicate group.
        split: Official split; "" where there is none.
        scalars: Measurements that are there, by channel name, in the unit of the channel.
    """

    path: Path
    label: str
    group: str = ""
    split: str = ""
    scalars: Mapping[str, float] = field(default_factory=dict)


def list_images(folder: Path) -> list[Path]:
    """The files of one folder that are called like pictures, sorted by name, hidden ones left out."""
    known = extensions()
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in known and not path.name.startswith(".")
    )


class ImageDataset(GeoDataset):
    """Photos with one class each.

    A sample holds ``inputs["image"]`` (float32 ``(3, y, x)``, 0-1), ``inputs["scalars"]`` (float32
    ``(measurement,)``) with its ``valid`` mask where the data set has measurements, and ``target``
    (int64, index into `target.classes`).

    Args:
        root: Folder of the files, in the layout of their authors.
        split: One of `splits`; None: everything.
        size: (height, width) that photos are brought to; None: the task's own.

    Attributes:
        root: As given.
        input_spec: What the photo is read to.
        target: The classes, in the order of the labels.
        scalars: The measurements that come with the photos, often none.

    Raises:
        DatasetError: `root` is missing, empty, or of another layout.
        OptionError: No such split.
    """

    target: ClassTarget

    def __init__(
        self,
        root: Path,
        *,
        split: str | None = None,
        size: tuple[int, int] | None = None,
        transforms: Transforms | None = None,
        download: bool = False,
    ) -> None:
        self.root = self._prepare(root, transforms, download)
        if split not in (None, *self.splits):
            known = ", ".join(self.splits) or "none"
            raise OptionError(f"{self.card.name} has no split {split!r}; its splits: {known}")
        if not self.root.is_dir():
            raise DatasetError(f"{self.root}: no such folder; {self.card.name} expects {self.card.layout}")
        task = registry.find_task(self.task)
        self._read = resolve(task.inputs[0].reader)
        self.input_spec: InputSpec = task.inputs[0] if size is None else task.inputs[0].with_size(size)
        self._records = tuple(self.scan())
        if not self._records:
            raise DatasetError(f"{self.root}: holds no image; {self.card.name} expects {self.card.layout}")
        self.target = self.build_target(self._records)
        self.scalars: tuple[Channel, ...] = tuple(
            channel
            for channel in task.scalars
            if any(channel.name in record.scalars for record in self._records)
        )
        self._record_labels = self._label_indices()
        # What reading every file found: once for all subsets, which point to this same mapping.
        self._cache: dict[str, Any] = {}
        self._index = np.arange(len(self._records))
        if split is not None:
            self._index = np.asarray(self.split_indices(split), dtype=np.int64)

    # --- what an adapter fills in -----------------------------------------------------------------

    @abc.abstractmethod
    def scan(self) -> Sequence[ImageRecord]:
        """Every photo under `root`, in a stable order, without reading one.

        Raises:
            DatasetError: Another layout; the message says what was expected and what was found.
        """

    def build_target(self, records: Sequence[ImageRecord]) -> ClassTarget:
        """The classes of the data set; those of the task unless an adapter says otherwise."""
        target = registry.find_task(self.task).target
        if not isinstance(target, ClassTarget):
            raise DatasetError(f"task {self.task!r} has no classes")
        return target

    def split_indices(self, split: str) -> Sequence[int]:
        """Which photos are in a split; those whose record says so unless an adapter overrides it."""
        return [index for index, record in enumerate(self._records) if record.split == split]

    def find_groups(self) -> Sequence[str]:
        """The near-duplicate group of every record, by the name of its first member."""
        paths = [record.path for record in self._records]
        return near_duplicate_groups(fingerprints(paths, self.input_spec), self._relative_names(paths))

    def _relative_names(self, paths: Sequence[Path]) -> list[str]:
        return [Path(os.path.relpath(path, self.root)).as_posix() for path in paths]

    # --- what it holds ----------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._index)

    def read_sample(self, index: int) -> Sample:
        number = int(self._index[index])
        record = self._records[number]
        image = torch.from_numpy(self.pixels(index)).float() / 255
        inputs, valid = {"image": image}, {}
        if self.scalars:
            inputs[SCALARS], valid[SCALARS] = self._measurements(record)
        return Sample(
            inputs=inputs,
            valid=valid,
            target=torch.tensor(self._record_labels[number]),
            group=self._group(number),
            source=str(record.path),
        )

    def pixels(self, index: int) -> np.ndarray:
        """One photo as uint8 ``(3, y, x)``.

        Raises:
            DatasetError: The file cannot be read.
        """
        path = self._records[int(self._index[index])].path
        try:
            return self._read(path, self.input_spec, self.input_spec.size)
        except InputError as error:
            raise DatasetError(
                f"{self.card.name}: {error}. All such files: geovision audit {self.card.name} {self.root}"
            ) from error

    def _measurements(self, record: ImageRecord) -> tuple[Tensor, Tensor]:
        values = torch.zeros(len(self.scalars))
        present = torch.zeros(len(self.scalars), dtype=torch.bool)
        for position, channel in enumerate(self.scalars):
            if channel.name in record.scalars:
                values[position] = record.scalars[channel.name]
                present[position] = True
        return values, present

    def _label_indices(self) -> np.ndarray:
        """Class index of every record; int64."""
        position = {code: index for index, code in enumerate(self.target.classes)}
        unknown = sorted({record.label for record in self._records} - set(position))
        if unknown:
            raise DatasetError(
                f"{self.root}: unknown class {', '.join(map(repr, unknown))}; "
                f"known: {', '.join(self.target.classes)}"
            )
        return np.array([position[record.label] for record in self._records], dtype=np.int64)

    @property
    def labels(self) -> np.ndarray:
        """Class index of each photo; int64 ``(n,)``."""
        return self._record_labels[self._index]

    @property
    def paths(self) -> list[Path]:
        """The file of each photo."""
        return [self._records[number].path for number in self._index]

    @property
    def names(self) -> list[str]:
        """The path of each photo below `root`, with forward slashes."""
        return self._relative_names(self.paths)

    @property
    def near_duplicate_groups(self) -> list[str]:
        """Near-duplicate group of each photo, found at the first access.

        Finding the groups reads every file once. All subsets share the result.

        Raises:
            DatasetError: Files that cannot be read, all of them named.
        """
        found = self._all_groups()
        return [found[number] for number in self._index.tolist()]

    def _all_groups(self) -> Sequence[str]:
        if "groups" not in self._cache:
            self._cache["groups"] = self.find_groups()
        return self._cache["groups"]

    @property
    def groups(self) -> list[str]:
        """What a split must not cut, for each photo: its own group, or its near-duplicate group."""
        return [self._group(int(number)) for number in self._index]

    def _group(self, number: int) -> str:
        return self._records[number].group or self._all_groups()[number]

    def soft_targets(self) -> np.ndarray:
        """Mean of the one-hot labels within each near-duplicate group of these very samples;
        float32 ``(n, class)``. One picture filed under two classes gets half of each."""
        onehot = np.eye(len(self.target.classes), dtype=np.float32)[self.labels]
        _, group = np.unique(self.near_duplicate_groups, return_inverse=True)
        total = np.zeros((group.max() + 1, onehot.shape[1]), dtype=np.float32)
        np.add.at(total, group, onehot)
        return (total / total.sum(axis=1, keepdims=True))[group]

    def folds(self, *, seed: int = 0, k: int = 5, grouped: bool = True) -> list[TrainTestSplit]:
        """`k` pairs of (training, test) positions, classes spread evenly, no group on both sides.

        Args:
            grouped: False ignores the groups, as most published splits do, and so tests on near-copies
                of training photos: for measuring how much that flatters, for nothing else.

        Raises:
            DatasetError: There are too few groups or photos.
            MissingExtraError: scikit-learn is not installed.
        """
        from geovision.datasets.splits import folds_to_splits, grouped_folds, random_folds

        if grouped:
            return folds_to_splits(grouped_folds(self.labels, self.groups, k=k, seed=seed), k)
        return folds_to_splits(random_folds(self.labels, k=k, seed=seed), k)

    # --- others made from it ----------------------------------------------------------------------

    def subset(self, indices: Sequence[int] | np.ndarray) -> Self:
        other = copy.copy(self)
        other._index = self._index[np.asarray(indices, dtype=np.int64)]
        return other

    def with_input(self, spec: InputSpec) -> Self:
        return self if spec.size in (None, self.input_spec.size) else self.with_size(spec.size)

    def with_size(self, size: tuple[int, int]) -> Self:
        """The same photos at another (height, width)."""
        other = copy.copy(self)
        other.input_spec = self.input_spec.with_size(size)
        return other

    def with_classes(self, classes: Sequence[str]) -> Self:
        """The same photos with their labels among these classes, in this order: those of a model, say.

        A label matches a class of the same name, or whose card has it as its English name; case does
        not count, so a folder ``cumulus`` is ``Cu``.

        Raises:
            DatasetError: A photo has a label that is none of them; both sides are named.
        """
        own = registry.find_task(self.task).target
        cards = {code: own.card(code) for code in classes} if isinstance(own, ClassTarget) else {}
        position: dict[str, int] = {}
        for index, code in enumerate(classes):
            card = cards.get(code)
            for name in (code, *([card.name.en] if card else [])):
                position.setdefault(name.casefold(), index)
        new = np.array([position.get(code.casefold(), -1) for code in self.target.classes], dtype=np.int64)
        present = np.unique(self.labels)
        unknown = [self.target.classes[label] for label in present if new[label] < 0]
        if unknown:
            raise DatasetError(
                f"{self.root}: unknown class {', '.join(map(repr, unknown))}; known: {', '.join(classes)}"
            )
        other = copy.copy(self)
        known_cards = tuple(card for card in cards.values() if card)
        complete = len(known_cards) == len(classes)
        other.target = ClassTarget(tuple(classes), known_cards if complete else ())
        other._record_labels = new[self._record_labels]
        return other

    def with_scalars(self, names: Sequence[str]) -> Self:
        """The same photos with these measurements, in this order; one that the files lack is
        missing in every sample.

        Raises:
            OptionError: The task knows no such measurement.
        """
        known = {channel.name: channel for channel in registry.find_task(self.task).scalars}
        for name in names:
            if name not in known:
                raise OptionError(
                    f"task {self.task!r} has no measurement {name!r}; known: {', '.join(known) or 'none'}"
                )
        other = copy.copy(self)
        other.scalars = tuple(known[name] for name in names)
        return other

    def adapt_to(self, model: GeoModel) -> Self:
        return self.with_input(model.inputs[0]).with_scalars(model.config.scalars)

    # --- pictures ---------------------------------------------------------------------------------

    def plot(self, sample: Sample, prediction: Prediction | None = None) -> Figure:
        """The photo under its label; with a prediction, the likeliest classes beside it."""
        from geovision.heads.prediction import ClassPrediction
        from geovision.plots import plot_classification

        label = self.target.classes[int(sample["target"])]
        image = sample["inputs"]["image"].permute(1, 2, 0).numpy()
        answer = cast("ClassPrediction | None", prediction)
        return plot_classification(
            image,
            label=label,
            source=Path(sample["source"]).name,
            probabilities=dict(answer.top(5)) if answer else {},
            flags=answer.flags if answer else (),
        )

    def plot_samples(self, *, per_class: int = 3) -> Figure:
        """A picture sheet: the first few photos of each class that has any."""
        from geovision.plots import plot_image_grid

        chosen = [
            index
            for label in np.unique(self.labels)
            for index in np.flatnonzero(self.labels == label)[:per_class]
        ]
        small = self.with_size((128, 128)).subset(chosen)
        titles = [self.target.classes[label] for label in small.labels]
        pictures = [small.pixels(index).transpose(1, 2, 0) for index in range(len(small))]
        return plot_image_grid(pictures, titles, columns=2 * per_class)
