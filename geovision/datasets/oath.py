"""OATH: white-light all-sky frames of the THEMIS cameras, labeled by Clausen and Nickisch 2018.

The six classes describe what dominates a frame, aurora or not. The seven classes of the aurora task separate
forms in clean color frames. Arc, diffuse and discrete each contain frames of several of the seven classes: a
discrete frame may be a breakup, faint forms are diffuse, and an aurora low on the horizon keeps its form.
Cloud and moon have no counterpart, and the frames have no color. No sum of the seven classes is therefore one
of the six, and models are trained and tested with the labels of the dataset.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, get_args

import numpy as np

from geovision.datasets.base import DatasetCard, Transforms
from geovision.datasets.image_classification import ImageDataset, ImageRecord
from geovision.errors import DatasetError, OptionError
from geovision.spec import ClassCard, ClassMapping, ClassTarget, Text, resolve

__all__ = ["OATH", "Labels"]

Labels = Literal["class6", "class2"]
"""Name of a set of labels."""

_CLASSES: Mapping[str, tuple[ClassCard, ...]] = {
    "class6": (
        ClassCard("arc", Text("Arc", "极光弧")),
        ClassCard("diffuse", Text("Diffuse aurora", "弥散极光")),
        ClassCard("discrete", Text("Discrete aurora", "分立极光")),
        ClassCard("cloudy", Text("Cloudy", "多云")),
        ClassCard("moon", Text("Moon", "月光")),
        ClassCard("clear", Text("Clear sky, no aurora", "晴空无极光")),
    ),
    "class2": (
        ClassCard("aurora", Text("Aurora", "有极光")),
        ClassCard("no-aurora", Text("No aurora", "无极光")),
    ),
}
_COLUMNS = ("picNum", "class2", "class6")
_NUM_FRAMES = 5824  # in the whole dataset
_TRAINING_FRACTION = 0.7  # fraction of each line of the split file, from the program of the authors
_LABEL_FILES = ("classifications/classifications.csv", "classification/classification.csv")
_SPLIT_FILE = "train_test_split.csv"
_IMAGE_FOLDER = "images/cropped_scaled"
_LAYOUT = f"{_LABEL_FILES[0]}, {_SPLIT_FILE} in the same folder, and {_IMAGE_FOLDER}/00001.png to 05824.png"

_log = logging.getLogger(__name__)


class OATH(ImageDataset):
    """5824 white-light frames of 256x256 pixels, stored as green in RGB, in six or two classes.

    The folder may contain only some of the frames; a warning then reports their number.

    Args:
        root: Folder that contains ``classifications`` and ``images``.
        split: ``"train"`` or ``"test"`` of the published split. Default: None, all frames.
        size: Height and width that frames are resized to, in pixels. Default: None, the size of the task.
        labels: ``"class6"`` (arc, diffuse, discrete, cloudy, moon, clear) or ``"class2"`` (aurora,
            no-aurora). Default: "class6".
        repetition: Number of one of the five published random splits, 0 to 4. Default: 0.
        transforms: Function from a sample to a sample, applied last. Default: None.
        download: Whether to download the files to `root`, if the dataset has a download. Default: False.

    Raises:
        DatasetError: The label file, its header, a label or all frames are missing or invalid, or `split` is
            given without a split file.
        OptionError: There are no such labels, or no such repetition.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="oath",
        title="Oslo Auroral THEMIS data set (OATH)",
        source="http://tid.uio.no/plasma/oath/",
        license="CC BY 4.0; copyright of the frames remains with NASA (THEMIS, S. Mende and E. Donovan)",
        citation="Clausen and Nickisch 2018, Automatic classification of auroral images from the Oslo "
        "Auroral THEMIS (OATH) data set using machine learning, JGR Space Physics 123, "
        "doi:10.1029/2018JA025274",
        split_group="near-duplicate group; the published split does not keep it together",
        layout=_LAYOUT,
        caveats=(
            "Six classes that describe what dominates a frame, not the seven forms. A model of the forms "
            "cannot be evaluated here, because no sum of them is one of the six classes.",
            "The published split is random by frame, repeated five times, so training and test contain "
            "frames of the same display. Scores are comparable with the published 0.82, but too high.",
            "The label file starts with comment lines, whose number differs between copies. The reader "
            "therefore searches for the header.",
            "The cameras record no color. The files contain the counts as green, with red and blue 0 "
            "(checked in ten files). Green therefore contains no information about the oxygen line.",
            "Numbers in the split file count the lines of the label file from 0; the names of the frames "
            "count from 1.",
            "The column rotAng is the angle by which the authors rotated each frame before they extracted "
            "features; the frames themselves are not rotated.",
            "Station and time of each frame are in images/files_origin.csv of the whole archive. This file "
            "is not read: the sample of the archive used to write the reader does not contain it.",
        ),
        class_counts={
            "class6": dict(
                zip(
                    [card.code for card in _CLASSES["class6"]], (774, 1102, 1400, 852, 614, 1082), strict=True
                )
            )
        },
    )
    task: ClassVar[str] = "aurora"
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    class_mapping: ClassVar[ClassMapping] = ClassMapping(
        {},
        excluded={
            "arc": "also contains colored arcs and arcs low on the horizon, which are separate classes there",
            "diffuse": "contains patches, veils and faint forms, which are several classes there",
            "discrete": "sharp forms that are not arcs: discrete, breakup or colored there",
            "cloudy": "clouds are not one of the seven classes",
            "moon": "the moon is not one of the seven classes",
            "clear": "no aurora, while the class clear-faint also contains faint aurora",
            "aurora": "any form, also faint ones of clear-faint",
            "no-aurora": "clouds, moon and clear sky together",
        },
    )

    def __init__(
        self,
        root: Path,
        *,
        split: str | None = None,
        size: tuple[int, int] | None = None,
        labels: Labels = "class6",
        repetition: int = 0,
        transforms: Transforms | None = None,
        download: bool = False,
    ) -> None:
        if labels not in get_args(Labels):
            raise OptionError(f"oath has no labels {labels!r}; known: {', '.join(get_args(Labels))}")
        if repetition not in range(5):
            raise OptionError(f"oath has no repetition {repetition}; choose 0 to 4")
        self._label_set, self._repetition = labels, repetition
        super().__init__(root, split=split, size=size, transforms=transforms, download=download)

    def scan(self) -> Sequence[ImageRecord]:
        """Return the records of all frames that exist.

        Raises:
            DatasetError: The label file or the split file is missing or invalid.
        """
        table = _label_file(self.root)
        rows = read_labels(table)
        cards = _CLASSES[self._label_set]
        splits = _published_split(table.parent / _SPLIT_FILE, len(rows), self._repetition)
        records = []
        for number, row in enumerate(rows):
            path = self.root / _IMAGE_FOLDER / f"{int(row['picNum']):05d}.png"
            if path.is_file():
                label = _class_code(cards, row[self._label_set], table)
                records.append(ImageRecord(path, label, split=splits[number]))
        if records and len(records) < _NUM_FRAMES:
            _log.warning(
                "%s contains only a part of OATH: %d of %d frames", self.root, len(records), _NUM_FRAMES
            )
        return records

    def build_target(self, records: Sequence[ImageRecord]) -> ClassTarget:
        """Return the six or two classes.

        Args:
            records: Records of all frames; not used.
        """
        cards = _CLASSES[self._label_set]
        source = f"numbers of the column {self._label_set}"
        return ClassTarget(tuple(card.code for card in cards), cards, order_source=source)

    def split_indices(self, split: str) -> Sequence[int]:
        """Return the positions of the frames of a published split.

        Args:
            split: "train" or "test".

        Raises:
            DatasetError: There is no split file, or it contains none of the frames.
        """
        indices = super().split_indices(split)
        if not indices:
            split_file = _label_file(self.root).parent / _SPLIT_FILE
            reason = "contains none of these frames" if split_file.is_file() else "is missing"
            raise DatasetError(f"{self.root}: no frame of the {split} split; {split_file} {reason}")
        return indices

    @classmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        """Write generated frames in the layout of this dataset.

        Args:
            root: Folder to write to.
            n: Number of frames.
            seed: Seed of the generator. Default: 0.
        """
        return resolve("geovision.datasets.synthetic.oath:write")(Path(root), n, seed=seed)


def read_labels(path: Path) -> list[dict[str, str]]:
    """Read the rows of a label file, after any lines before its header.

    Args:
        path: Label file, CSV.

    Raises:
        DatasetError: No line contains the columns, or a row lacks one of them or contains no number.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is not a CSV file in UTF-8 ({error})") from error
    header = next((n for n, line in enumerate(lines) if set(_COLUMNS) <= _cells(line)), None)
    if header is None:
        raise DatasetError(f"{path}: no line with the columns {', '.join(_COLUMNS)}")
    rows = []
    for line, row in enumerate(csv.DictReader(lines[header:], skipinitialspace=True), header + 2):
        cells = {(name or "").strip(): (row[name] or "").strip() for name in row if name is not None}
        for column in _COLUMNS:
            if not cells.get(column, "").isdecimal():
                raise DatasetError(
                    f"{path}, line {line}: {column} is {cells.get(column)!r}, expected a number"
                )
        rows.append(cells)
    return rows


def _cells(line: str) -> set[str]:
    return {cell.strip() for cell in line.split(",")}


def _class_code(cards: Sequence[ClassCard], number: str, table: Path) -> str:
    if int(number) >= len(cards):
        raise DatasetError(f"{table}: label {number}; expected 0 to {len(cards) - 1}")
    return cards[int(number)].code


def _label_file(root: Path) -> Path:
    for name in _LABEL_FILES:
        if (root / name).is_file():
            return root / name
    for inner in sorted(path for path in root.iterdir() if path.is_dir()):
        if any((inner / name).is_file() for name in _LABEL_FILES):
            raise DatasetError(f"{root}: the files are in {inner}, pass that folder")
    raise DatasetError(f"{root}: no {_LABEL_FILES[0]}; expected {_LAYOUT}")


def _published_split(path: Path, rows: int, repetition: int) -> list[str]:
    """Return ``"train"`` or ``"test"`` for each row of the label file.

    Without a split file, all values are "". Each line of the file is a random order of the rows, counted from
    0; the first seven tenths are training data.

    Raises:
        DatasetError: The file does not match the label file.
    """
    if not path.is_file():
        return [""] * rows
    try:
        order = np.loadtxt(path, delimiter=",", ndmin=2)[repetition].astype(np.int64)
    except (ValueError, IndexError) as error:
        raise DatasetError(f"{path}: expected five lines of numbers ({error})") from error
    if not np.array_equal(np.sort(order), np.arange(rows)):
        raise DatasetError(
            f"{path}: line {repetition + 1} is not a permutation of the {rows} rows of the label file"
        )
    train = set(order[: round(_TRAINING_FRACTION * rows)].tolist())
    return ["train" if row in train else "test" for row in range(rows)]
