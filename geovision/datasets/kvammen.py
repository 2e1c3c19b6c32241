"""The auroral forms of Kvammen et al. 2020: colour all-sky frames from Kiruna in seven classes.

What the record publishes: the seven classes, and that the frames are those of the Swedish Institute
of Space Physics. That a file's class is the number at the end of its name, and which folder is which
split, is seen in programs of others that read a copy; which number is which class in one of them
alone.
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
"""The class of each number at the end of a file's name, from 0, by the one third-party program that
says so."""

_FOLDERS = {"train": ("trainingimages",), "test": ("testimages", "testingimages")}
_LABEL = re.compile(r"class_(\d+)$", re.IGNORECASE)
_TIME = re.compile(r"(\d{4})(\d{2})(\d{2})(?:[-_T ]?(\d{2})(\d{2})(\d{2})?)?(?!\d)")
# All-sky cameras came into use with the International Geophysical Year; other numbers are no years.
_YEARS = range(1950, 2100)


class KvammenAurora(ImageDataset):
    """Frames whose names end in ``class_0`` to ``class_6``, in one folder to train and one to test.

    One of the two folders is enough. Where a name begins with a date, as those of generated frames
    do, a split keeps nights together; where it does not, near-duplicate groups.

    Args:
        root: Folder that holds ``TrainingImages``, ``TestImages`` (or ``TestingImages``).
        split: ``"train"`` or ``"test"``; None: both.
        size: (height, width) that frames are brought to; None: the task's own.
        class_order: The class of each number, from 0: `CLASS_ORDER` or another order of the same
            classes. The order comes from one source; look at `plot_class_order` before relying on it.

    Raises:
        DatasetError: No such folders, a name without a class, a number without a class.
        OptionError: `class_order` does not name each class of the task once.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="kvammen",
        title="Replication Data for: Auroral Image Classification with Deep Neural Networks",
        source="doi:10.18710/SSA38J",
        license="see its DataverseNO record; users are obliged to contact the Kiruna observatory before use",
        citation="Kvammen, Wickstrøm, McKay and Partamies 2020, Auroral image classification with deep "
        "neural networks, JGR Space Physics 125, doi:10.1029/2020JA027808; frames: Swedish Institute of "
        "Space Physics (IRF)",
        split_group="night where a file name begins with the date, else near-duplicate group",
        layout="TrainingImages and TestImages (or TestingImages) with PNG files whose names end in class_0 "
        "to class_6",
        caveats=(
            "Which number is which class is known from one third-party program only. `plot_class_order` "
            "shows one frame of each number; `class_order=` takes another order.",
            "Frames minutes apart show the same aurora. Nothing says that the published test frames are of "
            "other nights than the training frames, so scores on them may flatter.",
            "Clean frames only: no moon, no twilight, no clouds, no doubtful forms. An archive is full of "
            "them, and a model of this set has seen none.",
            "One camera in Kiruna: its colours, its lens and its horizon are learnt too. A grey or 16-bit "
            "camera is outside of what such a model knows, and the class colored cannot be told there.",
            "The authors stress that there is no consensus on the forms and on the criteria of the classes.",
            "Layout, the order of the numbers and the size of the files (128 pixels) are inferred from "
            "programs of others, not documented.",
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
                "keep one of them here"
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
                f"{path}: there is no class {number[1]}; the names end in class_0 to "
                f"class_{len(self.class_order) - 1}"
            )
        return ImageRecord(path, self.class_order[int(number[1])], parse_night(path.stem), split)

    def split_indices(self, split: str) -> Sequence[int]:
        indices = super().split_indices(split)
        if not indices:
            raise DatasetError(f"{self.root}: the {split} split is not here; expected {self.card.layout}")
        return indices

    def plot_class_order(self) -> Figure:
        """A picture sheet with the first frame of each number under the class that it is taken for, to
        check the order by."""
        from geovision.plots import plot_image_grid

        numbers = np.array([self.class_order.index(self.target.classes[label]) for label in self.labels])
        shown = [number for number in range(len(self.class_order)) if (numbers == number).any()]
        first = [int(np.flatnonzero(numbers == number)[0]) for number in shown]
        frames = self.with_size((128, 128)).subset(first)
        pictures = [frames.pixels(index).transpose(1, 2, 0) for index in range(len(frames))]
        return plot_image_grid(pictures, [f"class_{n}: {self.class_order[n]}" for n in shown], columns=4)

    @classmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        return resolve("geovision.datasets.synthetic.aurora:write")(Path(root), n, seed=seed)


def parse_night(stem: str) -> str:
    """The night of a frame by the date and time in UTC at the beginning of its name, as the date of
    its evening; "" where the name does not begin with a date.

    With a time, a night lasts from noon to noon UTC, which holds for Europe and the Atlantic.
    Without one the date itself is taken.

    >>> night_of_name("20190113_021500_class_3"), night_of_name("20190112_class_3"), night_of_name("0042")
    ('2019-01-12', '2019-01-12', '')
    """
    found = _TIME.match(stem)
    if found is None:
        return ""
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
    try:
        moment = datetime.datetime(year, month, day, hour, minute, second)
    except ValueError:  # eight digits that are no date
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
            f"class_order names {', '.join(order)}; it must name each of {', '.join(target.classes)} once"
        )
    return order


def _describe_contents(root: Path) -> str:
    """What a folder holds that is not this layout, in a few words."""
    entries = sorted(root.iterdir())
    if not entries:
        return "the folder is empty"
    if any(_LABEL.search(path.stem) for path in list_images(root)):
        return "frames without a folder; the folder says whether they are to train or to test"
    known = {name for names in _FOLDERS.values() for name in names}
    for entry in entries:
        if entry.is_dir() and any(inner.name.lower() in known for inner in entry.iterdir()):
            return f"the folders are one further down, give {entry}"
    shown = ", ".join(entry.name for entry in entries[:4])
    return f"no TrainingImages or TestImages among {shown}{', …' if len(entries) > 4 else ''}"
