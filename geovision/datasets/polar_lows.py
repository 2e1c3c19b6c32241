"""Polar lows in Sentinel-1 images (Grahn and Bianchi 2022)."""

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
"""Number of published images by split and class.

The total is 1982, while the abstract of the paper states 2004.
"""

PASS_GAP = datetime.timedelta(minutes=15)
"""Largest time between the starts of consecutive images of one pass.

A Sentinel-1 satellite returns after 98.6 minutes, and its twin half an orbit later. It crosses a polar region
in less than half an hour and takes consecutive images.
"""

_NAME = re.compile(r"^[0-9a-f]{6}_(\d{8}T\d{6})_(\d{8}T\d{6})_mos_rgb$", re.IGNORECASE)


class PolarLows(ImageDataset):
    """Sentinel-1 images in ``train`` and ``test``, each with ``pos`` and ``neg``, named by time.

    A sample contains ``inputs["image"]``, float32, shape ``(2, y, x)``: cross-polarized and co-polarized, 0
    to 1 on the published 8-bit scale. ``valid["image"]`` is bool, of the same shape, and True inside the
    swath. A sample is the center of the image, with the same area on the ground as the input of the task. One
    of the two splits is enough.

    Args:
        root: Folder that contains ``train``, ``test`` or both.
        split: ``"train"`` or ``"test"``. Default: None, both.
        size: Height and width of the central crop, in pixels. Default: None, the area of the task.
        pixel_size: Pixel size, in m, a multiple of the 500 m of the files. Coarser pixels are means of the
            counts, see `geovision.readers.sar_png.average_counts`. Default: None, that of the task.
        group_by: Group that a split keeps together: a ``"pass"`` or a ``"date"``. A date also keeps later
            passes of one day over the same low together. Default: "pass".
        transforms: Function from a sample to a sample, applied last. Default: None.
        download: Whether to download the files to `root`, if the dataset has a download. Default: False.

    Raises:
        DatasetError: The folders are missing, or a file name contains no times.
        OptionError: There is no such split or group, or the pixel size is not above 0.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="polar-lows",
        title="Polar lows in Sentinel-1 synthetic aperture radar",
        source="doi:10.18710/FV5T9U",
        license="see its DataverseNO record; contains modified Copernicus Sentinel data",
        citation="Grahn and Bianchi 2022, Recognition of polar lows in Sentinel-1 SAR images with deep "
        "learning, IEEE TGRS, arXiv:2203.16401",
        split_group="pass of the satellite: images that start within 15 minutes of each other; "
        "group_by='date' keeps a whole day (UTC) together",
        layout="train and test, each with pos and neg, each with PNG files such as "
        "cffe42_20191012T084028_20191012T084212_mos_rgb.png",
        caveats=(
            "Three channels, two measurements: red equals green exactly. It is inferred from the images, not "
            "documented, that they are the cross-polarized channel and blue the co-polarized one.",
            "0 is missing data. Land and sea ice are not masked.",
            "The scale of the counts is unknown: limits in decibels and noise removal are not documented. A "
            "scene in decibels needs a declared range before it is passed to a model of these images.",
            "There is no published validation split. The documentation does not exclude that train and test "
            "contain the same pass, or the same low hours later.",
            "One image in six shows a polar low. Accuracy is therefore not informative: predicting no polar "
            "low for every image yields 0.85.",
            "The input of the task is the central 256 km of an image that is 400 km wide.",
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
        """Return the records of all images in the folders of splits and classes.

        Raises:
            DatasetError: There are no images, or a file name contains no times.
        """
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
        """Return the positions of the images of a split.

        Args:
            split: "train" or "test".

        Raises:
            DatasetError: The folder of the split is missing.
        """
        indices = super().split_indices(split)
        if not indices:
            raise DatasetError(f"{self.root}: the {split} split is missing; expected {self.card.layout}")
        return indices

    def read_sample(self, index: int) -> Sample:
        """Read one sample with its valid mask, before `transforms`.

        Args:
            index: Position of the sample.
        """
        sample = super().read_sample(index)
        image = sample["inputs"]["image"]
        valid = (image > 0).any(0, keepdim=True).expand_as(image)
        return Sample(**(sample | {"valid": {**sample["valid"], "image": valid}}))  # type: ignore[typeddict-item]

    def with_pixel_size(self, pixel_size: float) -> Self:
        """Return the same images and area, at another pixel size.

        Args:
            pixel_size: Pixel size, in m.

        Raises:
            OptionError: The pixel size is not above 0.
        """
        self._check_pixel_size(pixel_size)
        other = copy.copy(self)
        other.input_spec = self.input_spec.with_pixel_size(pixel_size)
        return other

    def with_input(self, spec: InputSpec) -> Self:
        """Return the same images at the size and pixel size of a model input.

        Args:
            spec: Image input of a model; a size or pixel size of None keeps that of the dataset.
        """
        same = spec.pixel_size in (None, self.input_spec.pixel_size)
        scaled = self if same or spec.pixel_size is None else self.with_pixel_size(spec.pixel_size)
        return super(PolarLows, scaled).with_input(spec)

    @staticmethod
    def _check_pixel_size(pixel_size: float) -> None:
        if not pixel_size > 0:
            raise OptionError(f"pixel_size={pixel_size}: expected meters, above 0")

    def times(self) -> list[tuple[datetime.datetime, datetime.datetime]]:
        """Return the start and end of each image, UTC."""
        return [parse_times(path) for path in self.paths]

    def plot(self, sample: Sample, prediction: Prediction | None = None) -> Figure:
        """Plot the image and, if given, the probabilities of a prediction.

        The colors are those of the published images: cross-polarized in red and green, co-polarized in blue.

        Args:
            sample: Sample of this dataset.
            prediction: Prediction of a model for the sample. Default: None.
        """
        from geovision.heads.prediction import ClassPrediction
        from geovision.plots import plot_classification

        predicted = cast("ClassPrediction | None", prediction)
        return plot_classification(
            _composite(sample["inputs"]["image"].numpy()),
            label=self._class_name(self.target.classes[int(sample["target"])]),
            source=Path(sample["source"]).name,
            probabilities={self._class_name(code): p for code, p in predicted.top(2)} if predicted else {},
            flags=predicted.flags if predicted else (),
        )

    def _class_name(self, code: str) -> str:
        card = self.target.card(code)
        return card.name.en if card else code

    def plot_samples(self, *, per_class: int = 3) -> Figure:
        """Plot the first few images of each class, uncropped.

        Args:
            per_class: Largest number of images of a class. Default: 3.
        """
        from geovision.plots import plot_image_grid

        chosen = [
            i for label in np.unique(self.labels) for i in np.flatnonzero(self.labels == label)[:per_class]
        ]
        few = self.subset(chosen)
        spec = self.input_spec
        images = [_composite(self._read(path, spec, None)) for path in few.paths]
        return plot_image_grid(
            images, [self._class_name(self.target.classes[n]) for n in few.labels], columns=2 * per_class
        )

    @classmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        """Write generated images in the layout of this dataset.

        Args:
            root: Folder to write to.
            n: Number of images.
            seed: Seed of the generator. Default: 0.
        """
        return resolve("geovision.datasets.synthetic.sar_sea:write")(Path(root), n, seed=seed)


def _composite(channels: np.ndarray) -> np.ndarray:
    """Convert ``(2, y, x)`` to ``(y, x, 3)``, with the colors of the published images."""
    return np.ascontiguousarray(channels[[0, 0, 1]].transpose(1, 2, 0))


def parse_times(path: str | Path) -> tuple[datetime.datetime, datetime.datetime]:
    """Return the start and end of an image from its file name, UTC.

    Args:
        path: File of the image.

    Raises:
        DatasetError: The name contains no times.

    >>> str(parse_times("cffe42_20191012T084028_20191012T084212_mos_rgb.png")[0])
    '2019-10-12 08:40:28'
    """
    found = _NAME.match(Path(path).stem)
    try:
        if found is not None:
            begin, end = (datetime.datetime.strptime(text, "%Y%m%dT%H%M%S") for text in found.groups())
            return begin, end
    except ValueError:  # digits that are not a time
        pass
    raise DatasetError(f"{path}: the name contains no times; expected {PolarLows.card.layout}")


def group_passes(begins: Sequence[datetime.datetime]) -> list[str]:
    """Return the pass of each image, named by the minute of its start.

    Consecutive images belong to one pass if each starts within `PASS_GAP` of the previous one.

    Args:
        begins: Start of each image, in any order.

    >>> from datetime import datetime
    >>> group_passes([datetime(2019, 10, 12, hour, minute) for hour, minute in ((8, 40), (10, 19), (8, 52))])
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
    """Describe the content of a folder that does not have the layout of this dataset."""
    entries = sorted(root.iterdir())
    if not entries:
        return "the folder is empty"
    if any((root / code).is_dir() for code in ("pos", "neg")):
        return f"the splits are in {root.parent}, pass that folder"
    inner = next(
        (entry for entry in entries if (entry / "train").is_dir() or (entry / "test").is_dir()), None
    )
    if inner is not None:
        return f"the splits are in {inner}, pass that folder"
    shown = ", ".join(entry.name for entry in entries[:4])
    return f"no images in train or test among {shown}{', …' if len(entries) > 4 else ''}"
