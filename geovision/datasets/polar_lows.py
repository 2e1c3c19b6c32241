"""Polar lows in Sentinel-1 pictures, by Grahn and Bianchi 2022: 800 x 800 pixels with and without one."""

from __future__ import annotations

import copy
import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self, cast

import numpy as np

from geovision.datasets.base import DatasetCard, Sample, Transforms
from geovision.datasets.class_folders import split_folder
from geovision.datasets.image_classification import ImageDataset, ImageRecord, list_images
from geovision.errors import DatasetError, OptionError
from geovision.spec import InputSpec, resolve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from geovision.heads.prediction import Prediction

__all__ = ["CLASS_COUNTS", "PASS_GAP", "PolarLows", "group_passes", "parse_times"]

CLASS_COUNTS = {"train": {"neg": 1293, "pos": 254}, "test": {"neg": 371, "pos": 64}}
"""Pictures of each class in the published files: 1982 in all, where the paper's abstract says 2004."""

PASS_GAP = datetime.timedelta(minutes=15)
"""Pictures that begin within such a time of another belong to one pass. A Sentinel-1 satellite comes back
after 98.6 minutes, its twin half an orbit later, and crosses a polar region in less than half an hour,
picture after picture."""

_NAME = re.compile(r"^[0-9a-f]{6}_(\d{8}T\d{6})_(\d{8}T\d{6})_mos_rgb$", re.IGNORECASE)


class PolarLows(ImageDataset):
    """Pictures in ``train`` and ``test``, each in ``pos`` and ``neg``, named by the time of their pass.

    A sample holds ``inputs["image"]`` (float32 ``(2, y, x)``: cross-polarised, co-polarised, 0-1 on the
    published 8-bit scale) and ``valid["image"]`` (bool, the same shape: inside the swath). It is the
    middle of the picture, as much ground as the task's input. One of the two splits is enough.

    Args:
        root: Folder that holds ``train``, ``test`` or both.
        split: ``"train"`` or ``"test"``; None: both.
        size: (height, width) of the middle part, pixels; None: the task's, as much ground.
        pixel_size: Metres that a pixel is wide, a whole multiple of the files' 500 m; None: the task's.
            Coarser pixels are means of the counts, see `geovision.readers.sar_png.average_counts`.
        group_by: What a split keeps together: a ``"pass"``, or a ``"date"``, which also keeps the later
            passes of one day over the same low together.

    Raises:
        DatasetError: No such folders, or a name without times.
        OptionError: No such split or group, or a pixel size that is no length.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="polar-lows",
        title="Polar lows in Sentinel-1 synthetic aperture radar",
        source="doi:10.18710/FV5T9U",
        license="see its DataverseNO record; contains modified Copernicus Sentinel data",
        citation="Grahn and Bianchi 2022, Recognition of polar lows in Sentinel-1 SAR images with deep "
        "learning, IEEE TGRS, arXiv:2203.16401",
        split_group="pass of the satellite: pictures that begin within 15 minutes of one another; "
        "group_by='date' "
        "keeps a whole day (UTC) together",
        layout="train and test, each with pos and neg, each with PNG files like "
        "cffe42_20191012T084028_20191012T084212_mos_rgb.png",
        caveats=(
            "Three channels, two measurements: red equals green exactly. That they are the cross-polarised "
            "channel, and blue the co-polarised, is inferred from the pictures, not documented.",
            "0 is no data. Land and sea ice are left in.",
            "The scale of the counts is not known: no limits in decibels, no word on noise removal. A scene "
            "in decibels needs a declared mapping before a model of these pictures can be asked.",
            "The published test split has no validation split beside it, and nothing says that a pass, or "
            "the same low hours later, does not stand in both train and test.",
            "One picture in six shows a polar low: accuracy says little, and 0.85 is had for nothing.",
            "A low is looked for in the middle 256 km of a picture 400 km wide.",
        ),
    )
    task: ClassVar[str] = "polarlow"
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    def __init__(
        self,
        root: Path,
        *,
        split: str | None = None,
        size: tuple[int, int] | None = None,
        pixel_size: float | None = None,
        group_by: Literal["pass", "date"] = "pass",
        transforms: Transforms | None = None,
        download: bool = False,
    ) -> None:
        if group_by not in ("pass", "date"):
            raise OptionError(f"group_by={group_by!r} is not known; choose pass or date")
        self.group_by = group_by
        super().__init__(root, split=split, size=None, transforms=transforms, download=download)
        if pixel_size is not None:
            self._check_pixel_size(pixel_size)
            self.input_spec = self.input_spec.with_pixel_size(pixel_size)
        if size is not None:
            self.input_spec = self.input_spec.with_size(size)

    def scan(self) -> Sequence[ImageRecord]:
        folders = {split: split_folder(self.root, split) for split in self.splits}
        found = [
            (path, code, split)
            for split, folder in folders.items()
            if folder is not None
            for code in CLASS_COUNTS[split]
            if (folder / code).is_dir()
            for path in list_images(folder / code)
        ]
        if not found:
            raise DatasetError(f"{self.root}: {_describe_contents(self.root)}; expected {self.card.layout}")
        begins = [parse_times(path)[0] for path, _, _ in found]
        groups = (
            group_passes(begins) if self.group_by == "pass" else [f"{begin:%Y-%m-%d}" for begin in begins]
        )
        return [
            ImageRecord(path, code, group, split)
            for (path, code, split), group in zip(found, groups, strict=True)
        ]

    def split_indices(self, split: str) -> Sequence[int]:
        indices = super().split_indices(split)
        if not indices:
            raise DatasetError(f"{self.root}: the {split} split is not here; expected {self.card.layout}")
        return indices

    def read_sample(self, index: int) -> Sample:
        sample = super().read_sample(index)
        image = sample["inputs"]["image"]
        seen = (image > 0).any(0, keepdim=True).expand_as(image)
        return Sample(**(sample | {"valid": {**sample["valid"], "image": seen}}))  # type: ignore[typeddict-item]

    def with_pixel_size(self, pixel_size: float) -> Self:
        """The same pictures, as much ground, in pixels of this size, metres."""
        self._check_pixel_size(pixel_size)
        other = copy.copy(self)
        other.input_spec = self.input_spec.with_pixel_size(pixel_size)
        return other

    def with_input(self, spec: InputSpec) -> Self:
        same = spec.pixel_size in (None, self.input_spec.pixel_size)
        scaled = self if same or spec.pixel_size is None else self.with_pixel_size(spec.pixel_size)
        return super(PolarLows, scaled).with_input(spec)

    @staticmethod
    def _check_pixel_size(pixel_size: float) -> None:
        if not pixel_size > 0:
            raise OptionError(f"pixel_size={pixel_size}: expected metres, above 0")

    def times(self) -> list[tuple[datetime.datetime, datetime.datetime]]:
        """Begin and end of each picture, UTC."""
        return [parse_times(path) for path in self.paths]

    def plot(self, sample: Sample, prediction: Prediction | None = None) -> Figure:
        """The picture as published, cross-polarised in red and green, co-polarised in blue; with a
        prediction, the probabilities beside it."""
        from geovision.heads.prediction import ClassPrediction
        from geovision.plots import plot_classification

        answer = cast("ClassPrediction | None", prediction)
        return plot_classification(
            _composite(sample["inputs"]["image"].numpy()),
            label=self._class_name(self.target.classes[int(sample["target"])]),
            source=Path(sample["source"]).name,
            probabilities={self._class_name(code): p for code, p in answer.top(2)} if answer else {},
            flags=answer.flags if answer else (),
        )

    def _class_name(self, code: str) -> str:
        card = self.target.card(code)
        return card.name.en if card else code

    def plot_samples(self, *, per_class: int = 3) -> Figure:
        """A picture sheet: the first few pictures of each class, whole."""
        from geovision.plots import plot_image_grid

        chosen = [
            i for label in np.unique(self.labels) for i in np.flatnonzero(self.labels == label)[:per_class]
        ]
        few = self.subset(chosen)
        spec = self.input_spec
        pictures = [_composite(self._read(path, spec, None)) for path in few.paths]
        return plot_image_grid(
            pictures, [self._class_name(self.target.classes[n]) for n in few.labels], columns=2 * per_class
        )

    @classmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        return resolve("geovision.datasets.synthetic.sar_sea:write")(Path(root), n, seed=seed)


def _composite(channels: np.ndarray) -> np.ndarray:
    """``(2, y, x)`` as ``(y, x, 3)``, the colours of the published pictures."""
    return np.ascontiguousarray(channels[[0, 0, 1]].transpose(1, 2, 0))


def parse_times(path: str | Path) -> tuple[datetime.datetime, datetime.datetime]:
    """Begin and end of a picture by its name, UTC.

    Raises:
        DatasetError: It is not named so.

    >>> str(times_of_name("cffe42_20191012T084028_20191012T084212_mos_rgb.png")[0])
    '2019-10-12 08:40:28'
    """
    found = _NAME.match(Path(path).stem)
    try:
        if found is not None:
            begin, end = (datetime.datetime.strptime(text, "%Y%m%dT%H%M%S") for text in found.groups())
            return begin, end
    except ValueError:  # digits that are no time
        pass
    raise DatasetError(f"{path}: the name does not tell when it was taken; expected {PolarLows.card.layout}")


def group_passes(begins: Sequence[datetime.datetime]) -> list[str]:
    """The pass that each picture belongs to, by the minute in which the pass begins.

    Pictures are of one pass where each begins within `PASS_GAP` of the one before.

    >>> from datetime import datetime
    >>> passes([datetime(2019, 10, 12, 8, 40), datetime(2019, 10, 12, 10, 19), datetime(2019, 10, 12, 8, 52)])
    ['2019-10-12T08:40', '2019-10-12T10:19', '2019-10-12T08:40']
    """
    order = sorted(range(len(begins)), key=lambda index: begins[index])
    found, first = [""] * len(begins), None
    for position, index in enumerate(order):
        if first is None or begins[index] - begins[order[position - 1]] > PASS_GAP:
            first = begins[index]
        found[index] = f"{first:%Y-%m-%dT%H:%M}"
    return found


def _describe_contents(root: Path) -> str:
    """What a folder holds that is not this layout, in a few words."""
    entries = sorted(root.iterdir())
    if not entries:
        return "the folder is empty"
    if any((root / code).is_dir() for code in ("pos", "neg")):
        return f"the splits are one folder up, give {root.parent}"
    inner = next(
        (entry for entry in entries if (entry / "train").is_dir() or (entry / "test").is_dir()), None
    )
    if inner is not None:
        return f"the folders are one further down, give {inner}"
    shown = ", ".join(entry.name for entry in entries[:4])
    return f"no pictures in train or test among {shown}{', …' if len(entries) > 4 else ''}"
