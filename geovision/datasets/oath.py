"""OATH: white-light all-sky frames of the THEMIS cameras with the labels of Clausen and Nickisch 2018.

Their six classes say what dominates a frame, aurora or not; the seven of the aurora task tell forms
apart in clean colour frames. Arc, diffuse and discrete each hold frames that the seven classes file
under several names (a discrete frame may be a breakup, faint forms are diffuse, an aurora low on the
horizon keeps its form), cloud and moon have no counterpart, and the frames hold no colour. So no sum
of the seven is one of the six, and the set trains and tests its own labels.
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
_NUM_FRAMES = 5824  # of the whole set
_TRAINING_FRACTION = 0.7  # of each line of the split file, from the authors' program
_LABEL_FILES = ("classifications/classifications.csv", "classification/classification.csv")
_SPLIT_FILE = "train_test_split.csv"
_IMAGE_FOLDER = "images/cropped_scaled"
_LAYOUT = f"{_LABEL_FILES[0]}, {_SPLIT_FILE} beside it, and {_IMAGE_FOLDER}/00001.png to 05824.png"

_log = logging.getLogger(__name__)


class OATH(ImageDataset):
    """5824 white-light frames of 256x256 pixels, stored as green in RGB, in six classes or in two.

    A part of the frames is fine; what is missing is logged as a warning.

    Args:
        root: Folder that holds ``classifications`` and ``images``.
        split: ``"train"`` or ``"test"`` of the published split; None: all frames.
        size: (height, width) that frames are brought to; None: the task's own.
        labels: ``"class6"``: arc, diffuse, discrete, cloudy, moon, clear; ``"class2"``: aurora,
            no-aurora.
        repetition: Which of the five published random splits, 0 to 4.

    Raises:
        DatasetError: No label file, no header in it, a label that is none, no split file where a split
            was asked for, no frame.
        OptionError: No such labels or repetition.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="oath",
        title="Oslo Auroral THEMIS data set (OATH)",
        source="http://tid.uio.no/plasma/oath/",
        license="CC BY 4.0; copyright of the frames remains with NASA (THEMIS, S. Mende and E. Donovan)",
        citation="Clausen and Nickisch 2018, Automatic classification of auroral images from the Oslo "
        "Auroral THEMIS (OATH) data set using machine learning, JGR Space Physics 123, "
        "doi:10.1029/2018JA025274",
        split_group="near-duplicate group; the published split does not keep it",
        layout=_LAYOUT,
        caveats=(
            "Six classes of what dominates a frame, not the seven forms: a model of those cannot be scored "
            "here, since no sum of them makes one of these.",
            "The published split is by random frame, five times; frames of one display stand on both sides. "
            "Scores on it are comparable with the published 0.82, and flatter.",
            "The label file begins with comment lines whose number differs between copies; the header is "
            "searched for, never counted to.",
            "The cameras see no colour. The files hold their counts as green, red and blue being 0 (so in "
            "the ten files that we have): green says nothing about the oxygen line.",
            "Numbers in the split file count lines of the label file from 0; the names of the frames count "
            "from 1.",
            "The column rotAng is the angle by which the authors turned each frame before they extracted "
            "features; the frames themselves are not turned.",
            "Station and time of each frame are in images/files_origin.csv of the whole archive, which is "
            "not read: our sample does not hold it.",
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
            "arc": "holds colored arcs and arcs low on the horizon too, which are classes of their own there",
            "diffuse": "holds patches, veils and faint forms, which are several classes there",
            "discrete": "whatever is sharp and no arc: discrete, breakup or colored there",
            "cloudy": "clouds are none of the seven",
            "moon": "the moon is none of the seven",
            "clear": "no aurora, while the class clear-faint holds faint aurora too",
            "aurora": "any form, and faint ones of clear-faint too",
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
            raise OptionError(f"oath has the splits 0 to 4, no repetition {repetition}")
        self._label_set, self._repetition = labels, repetition
        super().__init__(root, split=split, size=size, transforms=transforms, download=download)

    def scan(self) -> Sequence[ImageRecord]:
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
            _log.warning("%s: a part of OATH: %d of %d frames are here", self.root, len(records), _NUM_FRAMES)
        return records

    def build_target(self, records: Sequence[ImageRecord]) -> ClassTarget:
        cards = _CLASSES[self._label_set]
        source = f"numbers of the column {self._label_set}"
        return ClassTarget(tuple(card.code for card in cards), cards, order_source=source)

    def split_indices(self, split: str) -> Sequence[int]:
        indices = super().split_indices(split)
        if not indices:
            beside = _label_file(self.root).parent / _SPLIT_FILE
            why = "holds none of these frames" if beside.is_file() else "is not there"
            raise DatasetError(f"{self.root}: no frame of the {split} split; {beside} {why}")
        return indices

    @classmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        return resolve("geovision.datasets.synthetic.oath:write")(Path(root), n, seed=seed)


def read_labels(path: Path) -> list[dict[str, str]]:
    """The rows of a label file, whatever stands before its header.

    Raises:
        DatasetError: No line names the columns; a row lacks one of them or holds no number.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not a CSV in UTF-8 ({error})") from error
    header = next((n for n, line in enumerate(lines) if set(_COLUMNS) <= _cells(line)), None)
    if header is None:
        raise DatasetError(f"{path}: no line with the columns {', '.join(_COLUMNS)}")
    rows = []
    for line, row in enumerate(csv.DictReader(lines[header:], skipinitialspace=True), header + 2):
        cells = {(name or "").strip(): (row[name] or "").strip() for name in row if name is not None}
        for column in _COLUMNS:
            if not cells.get(column, "").isdecimal():
                raise DatasetError(f"{path}, line {line}: {column} is {cells.get(column)!r}, no number")
        rows.append(cells)
    return rows


def _cells(line: str) -> set[str]:
    return {cell.strip() for cell in line.split(",")}


def _class_code(cards: Sequence[ClassCard], number: str, table: Path) -> str:
    if int(number) >= len(cards):
        raise DatasetError(f"{table}: label {number}; the labels are 0 to {len(cards) - 1}")
    return cards[int(number)].code


def _label_file(root: Path) -> Path:
    for name in _LABEL_FILES:
        if (root / name).is_file():
            return root / name
    for inner in sorted(path for path in root.iterdir() if path.is_dir()):
        if any((inner / name).is_file() for name in _LABEL_FILES):
            raise DatasetError(f"{root}: the files are one folder further down, give {inner}")
    raise DatasetError(f"{root}: no {_LABEL_FILES[0]}; expected {_LAYOUT}")


def _published_split(path: Path, rows: int, repetition: int) -> list[str]:
    """``"train"`` or ``"test"`` for each row of the label file; "" for all without a split file.

    Each line of the file is a random order of the rows, counted from 0; the first seven tenths train.

    Raises:
        DatasetError: The file does not fit the label file.
    """
    if not path.is_file():
        return [""] * rows
    try:
        order = np.loadtxt(path, delimiter=",", ndmin=2)[repetition].astype(np.int64)
    except (ValueError, IndexError) as error:
        raise DatasetError(f"{path}: not the five lines of numbers that are expected ({error})") from error
    if not np.array_equal(np.sort(order), np.arange(rows)):
        raise DatasetError(
            f"{path}: line {repetition + 1} is not an order of the {rows} rows of the label file beside it"
        )
    train = set(order[: round(_TRAINING_FRACTION * rows)].tolist())
    return ["train" if row in train else "test" for row in range(rows)]
