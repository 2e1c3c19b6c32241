"""Auroral forms of Kvammen et al. 2020: color all-sky frames from Kiruna in seven classes.

The record documents the seven classes and that the frames are from the Swedish Institute of Space Physics.
Two facts were found in third-party programs that read a copy: the class of a file is the number at the end of
its name, and the folder is the split. The order of the classes was found in only one of these programs.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from geovision import registry
from geovision.datasets.base import DatasetCard, Transforms
from geovision.datasets.image_classification import ImageDataset, ImageRecord, list_images
from geovision.errors import DatasetError, OptionError
from geovision.spec import ClassTarget, resolve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CLASS_ORDER", "KvammenAurora", "parse_night"]

CLASS_ORDER = ("arcs-bands", "breakup", "colored", "discrete", "edge", "clear-faint", "patchy")
"""Class of each number at the end of a file name, from 0.

The order is from the only third-party program that contains it.
"""

_FOLDERS = {"train": ("trainingimages",), "test": ("testimages", "testingimages")}
_LABEL = re.compile(r"class_(\d+)$", re.IGNORECASE)
_TIME = re.compile(r"(\d{4})(\d{2})(\d{2})(?:[-_T ]?(\d{2})(\d{2})(\d{2})?)?(?!\d)")
# All-sky cameras were introduced in the International Geophysical Year; other numbers are not years.
_YEARS = range(1950, 2100)


class KvammenAurora(ImageDataset):
    """Frames whose names end in ``class_0`` to ``class_6``, in a training and a test folder.

    One of the two folders is enough. If a file name starts with a date, as those of generated frames do, a
    split keeps nights together. Otherwise it keeps near-duplicates together.

    Args:
        root: Folder that contains ``TrainingImages``, ``TestImages`` (or ``TestingImages``).
        split: ``"train"`` or ``"test"``. Default: None, both.
        size: Height and width that frames are resized to, in pixels. Default: None, the size of the task.
        class_order: Class of each number, from 0. The default, `CLASS_ORDER`, comes from one source only;
            check it with `plot_class_order`.
        transforms: Function from a sample to a sample, applied last. Default: None.
        download: Whether to download the files to `root`, if the dataset has a download. Default: False.

    Raises:
        DatasetError: The folders are missing, a name contains no class, or a number has no class.
        OptionError: `class_order` does not contain each class of the task once.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="kvammen",
        title="Replication Data for: Auroral Image Classification with Deep Neural Networks",
        source="doi:10.18710/SSA38J",
        license="see its DataverseNO record; users must contact the Kiruna observatory before use",
        citation="Kvammen, Wickstrøm, McKay and Partamies 2020, Auroral image classification with deep "
        "neural networks, JGR Space Physics 125, doi:10.1029/2020JA027808; frames: Swedish Institute of "
        "Space Physics (IRF)",
        split_group="night if the file name starts with a date, otherwise the near-duplicate group",
        layout="TrainingImages and TestImages (or TestingImages) with PNG files whose names end in class_0 "
        "to class_6",
        caveats=(
            "The class of each number was found in one third-party program only. `plot_class_order` plots "
            "one frame of each number; pass `class_order=` for another order.",
            "Frames minutes apart show the same aurora. It is not documented that the published test frames "
            "are from other nights than the training frames, so scores on them may be too high.",
            "Clean frames only: no moon, no twilight, no clouds, no ambiguous forms. Archives contain many "
            "such frames, which a model trained on this dataset has never encountered.",
            "One camera in Kiruna: a model also learns its colors, its lens and its horizon. Frames of a "
            "gray or 16-bit camera are out of distribution, and the class colored cannot be recognized in "
            "them.",
            "The authors stress that there is no consensus on the forms and on the criteria of the classes.",
            "The layout, the order of the numbers and the size of the files (128 pixels) are inferred from "
            "third-party programs, not documented.",
        ),
    )
    task: ClassVar[str] = "aurora"
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    def __init__(
        self,
        root: Path,
        *,
        split: str | None = None,
        size: tuple[int, int] | None = None,
        class_order: Sequence[str] = CLASS_ORDER,
        transforms: Transforms | None = None,
        download: bool = False,
    ) -> None:
        self.class_order = _validate_order(tuple(class_order), self.task)
        super().__init__(root, split=split, size=size, transforms=transforms, download=download)

    def scan(self) -> Sequence[ImageRecord]:
        """Return the records of all frames in the training and test folders.

        Raises:
            DatasetError: The folders are missing, a name contains no class, or a number has no class.
        """
        folders = {split: self._split_folder(split) for split in self.splits}
        if not any(folders.values()):
            raise DatasetError(f"{self.root}: {_describe_contents(self.root)}; expected {self.card.layout}")
        return [
            self._record(path, split)
            for split, folder in folders.items()
            if folder is not None
            for path in list_images(folder)
        ]

    def _split_folder(self, split: str) -> Path | None:
        known = _FOLDERS[split]
        found = [p for p in sorted(self.root.iterdir()) if p.is_dir() and p.name.lower() in known]
        if len(found) > 1:
            raise DatasetError(
                f"{self.root}: {' and '.join(path.name for path in found)} could both be the {split} split; "
                "keep one of them"
            )
        return found[0] if found else None

    def _record(self, path: Path, split: str) -> ImageRecord:
        number = _LABEL.search(path.stem)
        if number is None:
            raise DatasetError(
                f"{path}: the name does not end in class_0 to class_{len(self.class_order) - 1}; expected "
                f"{self.card.layout}"
            )
        if int(number[1]) >= len(self.class_order):
            raise DatasetError(
                f"{path}: there is no class {number[1]}; expected names that end in class_0 to "
                f"class_{len(self.class_order) - 1}"
            )
        return ImageRecord(path, self.class_order[int(number[1])], parse_night(path.stem), split)

    def split_indices(self, split: str) -> Sequence[int]:
        """Return the positions of the frames of a split.

        Args:
            split: "train" or "test".

        Raises:
            DatasetError: The folder of the split is missing.
        """
        indices = super().split_indices(split)
        if not indices:
            raise DatasetError(f"{self.root}: the {split} split is missing; expected {self.card.layout}")
        return indices

    def plot_class_order(self) -> Figure:
        """Plot the first frame of each number with its assumed class, to check the order."""
        from geovision.plots import plot_image_grid

        numbers = np.array([self.class_order.index(self.target.classes[label]) for label in self.labels])
        shown = [number for number in range(len(self.class_order)) if (numbers == number).any()]
        first = [int(np.flatnonzero(numbers == number)[0]) for number in shown]
        frames = self.with_size((128, 128)).subset(first)
        images = [frames.pixels(index).transpose(1, 2, 0) for index in range(len(frames))]
        return plot_image_grid(images, [f"class_{n}: {self.class_order[n]}" for n in shown], columns=4)

    @classmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        """Write generated frames in the layout of this dataset.

        Args:
            root: Folder to write to.
            n: Number of frames.
            seed: Seed of the generator. Default: 0.
        """
        return resolve("geovision.datasets.synthetic.aurora:write")(Path(root), n, seed=seed)


def parse_night(stem: str) -> str:
    """Return the night of a frame from the date and time in its name.

    The date and time are in UTC. With a time, a night lasts from noon to noon UTC, which is suitable for
    Europe and the Atlantic. Without a time, the date itself is the night.

    Args:
        stem: File name without extension.

    Returns:
        Date of the evening, or "" if the name does not start with a date.

    >>> parse_night("20190113_021500_class_3"), parse_night("20190112_class_3"), parse_night("0042")
    ('2019-01-12', '2019-01-12', '')
    """
    found = _TIME.match(stem)
    if found is None:
        return ""
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
    try:
        moment = datetime.datetime(year, month, day, hour, minute, second)
    except ValueError:  # eight digits that are not a date
        return ""
    if year not in _YEARS:
        return ""
    before_noon = found[4] is not None and hour < 12
    return str(moment.date() - datetime.timedelta(days=int(before_noon)))


def _validate_order(order: tuple[str, ...], task: str) -> tuple[str, ...]:
    target = registry.find_task(task).target
    assert isinstance(target, ClassTarget)
    if sorted(order) != sorted(target.classes):
        raise OptionError(
            f"class_order is {', '.join(order)}; it must contain each of {', '.join(target.classes)} once"
        )
    return order


def _describe_contents(root: Path) -> str:
    """Describe the content of a folder that does not have the layout of this dataset."""
    entries = sorted(root.iterdir())
    if not entries:
        return "the folder is empty"
    if any(_LABEL.search(path.stem) for path in list_images(root)):
        return "frames without a split folder; the folder determines the split"
    known = {name for names in _FOLDERS.values() for name in names}
    for entry in entries:
        if entry.is_dir() and any(inner.name.lower() in known for inner in entry.iterdir()):
            return f"the folders are in {entry}, pass that folder"
    shown = ", ".join(entry.name for entry in entries[:4])
    return f"no TrainingImages or TestImages among {shown}{', …' if len(entries) > 4 else ''}"
