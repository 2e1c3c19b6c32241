"""Base class of datasets of photos with one class each.

An adapter lists the files of its layout (`ImageDataset.scan`). The base class provides everything else:
decoding, classes, near-duplicate groups, folds, subsets and figures.
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
"""Key of the measurements that accompany a photo, the same as in models."""


@dataclass(frozen=True)
class ImageRecord:
    """File and metadata of one photo, which is not read yet.

    Attributes:
        path: File of the photo.
        label: Code of the class, or "" if the photo has no usable class.
        group: Group that a split keeps together. Default: "", the near-duplicate group.
        split: Name of the official split. Default: "", no split.
        scalars: Available measurements by channel name, in the unit of the channel. Default: none.
    """

    path: Path
    label: str
    group: str = ""
    split: str = ""
    scalars: Mapping[str, float] = field(default_factory=dict)


def list_images(folder: Path) -> list[Path]:
    """Return the image files of one folder, sorted by name, without hidden files.

    Files are recognized by their extension.

    Args:
        folder: Folder to list; subfolders are not searched.
    """
    known = extensions()
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in known and not path.name.startswith(".")
    )


class ImageDataset(GeoDataset):
    """Photos with one class each.

    A sample contains ``inputs["image"]``, float32, shape ``(3, y, x)``, 0 to 1, and ``target``, int64, an
    index into `target.classes`. If the dataset has measurements, it also contains ``inputs["scalars"]``,
    float32, shape ``(measurement,)``, and their ``valid`` mask.

    Args:
        root: Folder of the files, in the layout of their authors.
        split: One of `splits`. Default: None, all photos.
        size: Height and width that photos are resized to, in pixels. Default: None, the size of the task.
        transforms: Function from a sample to a sample, applied last. Default: None.
        download: Whether to download the files to `root`, if the dataset has a download. Default: False.

    Attributes:
        root: Folder of the files.
        input_spec: Image input that the photos are decoded for.
        target: Classes, in the order of the labels.
        scalars: Measurements that accompany the photos; often none.

    Raises:
        DatasetError: `root` is missing, empty, or has another layout.
        OptionError: The dataset has no such split.
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
            raise DatasetError(f"{self.root}: contains no image; {self.card.name} expects {self.card.layout}")
        self.target = self.build_target(self._records)
        self.scalars: tuple[Channel, ...] = tuple(
            channel
            for channel in task.scalars
            if any(channel.name in record.scalars for record in self._records)
        )
        self._record_labels = self._label_indices()
        # Results of reading every file. All subsets share this mapping.
        self._cache: dict[str, Any] = {}
        self._index = np.arange(len(self._records))
        if split is not None:
            self._index = np.asarray(self.split_indices(split), dtype=np.int64)

    # --- methods for adapters ---------------------------------------------------------------------

    @abc.abstractmethod
    def scan(self) -> Sequence[ImageRecord]:
        """Return the records of all photos below `root`, in a stable order.

        No photo is read.

        Raises:
            DatasetError: The folder has another layout. The message contains the expected and the observed
                layout.
        """

    def build_target(self, records: Sequence[ImageRecord]) -> ClassTarget:
        """Return the classes of the dataset; by default those of the task.

        Args:
            records: Records of all photos.
        """
        target = registry.find_task(self.task).target
        if not isinstance(target, ClassTarget):
            raise DatasetError(
                f"task {self.task!r} has no classes; an image dataset needs a classification task"
            )
        return target

    def split_indices(self, split: str) -> Sequence[int]:
        """Return the positions of the photos of a split, by default from their records.

        Args:
            split: Name of the split.
        """
        return [index for index, record in enumerate(self._records) if record.split == split]

    def find_groups(self) -> Sequence[str]:
        """Return the near-duplicate group of every record, named after its first member."""
        paths = [record.path for record in self._records]
        return near_duplicate_groups(fingerprints(paths, self.input_spec), self._relative_names(paths))

    def _relative_names(self, paths: Sequence[Path]) -> list[str]:
        return [Path(os.path.relpath(path, self.root)).as_posix() for path in paths]

    # --- samples ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of photos."""
        return len(self._index)

    def read_sample(self, index: int) -> Sample:
        """Read one sample, before `transforms`.

        Args:
            index: Position of the sample.

        Raises:
            DatasetError: The file cannot be read.
        """
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
        """Return one photo as uint8, shape ``(3, y, x)``.

        Args:
            index: Position of the photo.

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
        """Return the class index of every record, int64."""
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
        """Class index of each photo, int64, shape ``(photo,)``."""
        return self._record_labels[self._index]

    @property
    def paths(self) -> list[Path]:
        """File of each photo."""
        return [self._records[number].path for number in self._index]

    @property
    def names(self) -> list[str]:
        """Path of each photo relative to `root`, with forward slashes."""
        return self._relative_names(self.paths)

    @property
    def near_duplicate_groups(self) -> list[str]:
        """Near-duplicate group of each photo, computed at the first access.

        Finding the groups reads every file once. All subsets share the result.

        Raises:
            DatasetError: Files cannot be read; the message lists all of them.
        """
        found = self._all_groups()
        return [found[number] for number in self._index.tolist()]

    def _all_groups(self) -> Sequence[str]:
        if "groups" not in self._cache:
            self._cache["groups"] = self.find_groups()
        return self._cache["groups"]

    @property
    def groups(self) -> list[str]:
        """Split group of each photo: that of its record, or its near-duplicate group."""
        return [self._group(int(number)) for number in self._index]

    def _group(self, number: int) -> str:
        return self._records[number].group or self._all_groups()[number]

    def soft_targets(self) -> np.ndarray:
        """Return the mean one-hot label of each near-duplicate group.

        Only the samples of this dataset or subset count. If one image has two labels, each gets half of the
        weight.

        Returns:
            Soft targets, float32, shape ``(photo, class)``.
        """
        onehot = np.eye(len(self.target.classes), dtype=np.float32)[self.labels]
        _, group = np.unique(self.near_duplicate_groups, return_inverse=True)
        total = np.zeros((group.max() + 1, onehot.shape[1]), dtype=np.float32)
        np.add.at(total, group, onehot)
        return (total / total.sum(axis=1, keepdims=True))[group]

    def folds(self, *, seed: int = 0, k: int = 5, grouped: bool = True) -> list[TrainTestSplit]:
        """Return `k` pairs of (training, test) positions, stratified by class.

        Args:
            seed: Seed of the shuffling. Default: 0.
            k: Number of folds. Default: 5.
            grouped: Whether to keep groups together. False ignores them, as most published splits do, so that
                the test data contain near-duplicates of training photos. Use False only to measure how much
                this inflates scores. Default: True.

        Raises:
            DatasetError: There are too few groups or photos.
            MissingExtraError: scikit-learn is not installed.
        """
        from geovision.datasets.splits import folds_to_splits, grouped_folds, random_folds

        if grouped:
            return folds_to_splits(grouped_folds(self.labels, self.groups, k=k, seed=seed), k)
        return folds_to_splits(random_folds(self.labels, k=k, seed=seed), k)

    # --- derived datasets -------------------------------------------------------------------------

    def subset(self, indices: Sequence[int] | np.ndarray) -> Self:
        """Return the dataset with these photos only, in this order.

        Args:
            indices: Positions of the photos.
        """
        other = copy.copy(self)
        other._index = self._index[np.asarray(indices, dtype=np.int64)]
        return other

    def with_input(self, spec: InputSpec) -> Self:
        """Return the same photos at the size of a model input.

        Args:
            spec: Image input of a model; a size of None keeps that of the dataset.
        """
        return self if spec.size in (None, self.input_spec.size) else self.with_size(spec.size)

    def with_size(self, size: tuple[int, int]) -> Self:
        """Return the same photos at another size.

        Args:
            size: Height and width, in pixels.
        """
        other = copy.copy(self)
        other.input_spec = self.input_spec.with_size(size)
        return other

    def with_classes(self, classes: Sequence[str]) -> Self:
        """Return the same photos with labels among other classes, such as those of a model.

        A label matches the class with the same code or with this English name, whatever the case. For
        example, the folder ``cumulus`` matches ``Cu``.

        Args:
            classes: Class codes, in the order of the new labels.

        Raises:
            DatasetError: A label matches none of the classes. The message contains both.
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
        """Return the same photos with these measurements, in this order.

        A measurement that the dataset lacks is missing in every sample.

        Args:
            names: Names of measurements of the task.

        Raises:
            OptionError: The task has no such measurement.
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
        """Return the same photos at the size and with the measurements of a model.

        Args:
            model: Model that is trained, evaluated or calibrated with the photos.
        """
        return self.with_input(model.inputs[0]).with_scalars(model.config.scalars)

    # --- figures ----------------------------------------------------------------------------------

    def plot(self, sample: Sample, prediction: Prediction | None = None) -> Figure:
        """Plot the photo with its label and, if given, the most probable classes.

        Args:
            sample: Sample of this dataset.
            prediction: Prediction of a model for the sample. Default: None.
        """
        from geovision.heads.prediction import ClassPrediction
        from geovision.plots import plot_classification

        label = self.target.classes[int(sample["target"])]
        image = sample["inputs"]["image"].permute(1, 2, 0).numpy()
        predicted = cast("ClassPrediction | None", prediction)
        return plot_classification(
            image,
            label=label,
            source=Path(sample["source"]).name,
            probabilities=dict(predicted.top(5)) if predicted else {},
            flags=predicted.flags if predicted else (),
        )

    def plot_samples(self, *, per_class: int = 3) -> Figure:
        """Plot the first few photos of each class that has any.

        Args:
            per_class: Largest number of photos of a class. Default: 3.
        """
        from geovision.plots import plot_image_grid

        chosen = [
            index
            for label in np.unique(self.labels)
            for index in np.flatnonzero(self.labels == label)[:per_class]
        ]
        small = self.with_size((128, 128)).subset(chosen)
        titles = [self.target.classes[label] for label in small.labels]
        images = [small.pixels(index).transpose(1, 2, 0) for index in range(len(small))]
        return plot_image_grid(images, titles, columns=2 * per_class)
