"""Photos of one's own: a folder a class, or a table of paths and labels."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from geovision import registry
from geovision.datasets.base import DatasetCard, Transforms
from geovision.datasets.image_classification import ImageDataset, ImageRecord
from geovision.errors import DatasetError, InputError, nearest
from geovision.readers.images import expand
from geovision.spec import Channel, ClassTarget, resolve

if TYPE_CHECKING:
    from geovision.models.geomodel import GeoModel

__all__ = ["LABELS_FILE", "ImageFolderDataset"]

LABELS_FILE = "labels.csv"
"""Name of the table that is looked for in the folder."""

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_NEEDED, _OPTIONAL = ("path", "label"), ("group", "split")

_log = logging.getLogger(__name__)


class ImageFolderDataset(ImageDataset):
    """Photos of one's own, with classes of one's own, for any task that tells classes apart.

    Either folders: ``root/CLASS/…``, at any depth below the class, or the same under ``train``,
    ``val`` and ``test``. Or a table, `root` itself or ``labels.csv`` in it, with the columns ``path``
    (from the table's folder) and ``label``; if wanted ``group`` (what a split must not cut: a day, a
    station), ``split``, and any measurement of the task by name, in its unit, empty where missing.

    The classes are those found, sorted. Where nothing is said about splits, ``"train"`` is everything.

    Args:
        root: The folder or the table.
        split: ``"train"``, ``"val"``, ``"test"``; None: everything.
        size: (height, width) that photos are brought to; None: the task's own.
        task: Whose input and measurements are read.

    Raises:
        DatasetError: Missing or empty folders, a table without the columns, a measurement that is no
            number or out of its range, a split that is not there.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="folder",
        title="Photos of one's own",
        source="this machine",
        license="one's own",
        citation="none",
        split_group="the column `group` of the table, or else the near-duplicate group",
        layout=f"a folder a class, the same under train, val and test, or {LABELS_FILE} with columns "
        "path, label",
        caveats=(
            "Frames of one camera minutes apart are almost the same picture. Name the day or the station in "
            "the column `group`, or they stand on both sides of a split.",
        ),
    )
    task: ClassVar[str] = "cloud"
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def __init__(
        self,
        root: Path,
        *,
        split: str | None = None,
        size: tuple[int, int] | None = None,
        task: str = "cloud",
        transforms: Transforms | None = None,
        download: bool = False,
    ) -> None:
        root = Path(root)
        self.task = task  # type: ignore[misc]  # the one data set that serves several tasks
        self._table = root if root.is_file() else root / LABELS_FILE
        folder = root.parent if root.is_file() else root
        super().__init__(folder, split=split, size=size, transforms=transforms, download=download)

    def scan(self) -> Sequence[ImageRecord]:
        if self._table.is_file():
            return _LabelTable(self._table, registry.find_task(self.task).scalars).records()
        return _scan_folders(self.root)

    def build_target(self, records: Sequence[ImageRecord]) -> ClassTarget:
        return ClassTarget(tuple(sorted({record.label for record in records})), order_source="alphabetical")

    def split_indices(self, split: str) -> Sequence[int]:
        if split == "train" and not any(record.split for record in self._records):
            return range(len(self._records))
        indices = super().split_indices(split)
        if not indices:
            there = sorted({record.split for record in self._records if record.split})
            raise DatasetError(f"{self.root}: no {split!r} split; there is {', '.join(there) or 'none'}")
        return indices

    def adapt_to(self, model: GeoModel) -> Self:
        adapted = super().adapt_to(model)
        if isinstance(model.target, ClassTarget):
            return adapted.with_classes(model.target.classes)
        return adapted

    @classmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        return resolve("geovision.datasets.synthetic.sky:write")(Path(root), n, seed=seed)


# --- folders ------------------------------------------------------------------------------------


def _scan_folders(root: Path) -> list[ImageRecord]:
    """Every picture in folders, by class and, where there are such folders, by split."""
    folders = _folders(root)
    if not folders:
        raise DatasetError(f"{root}: holds no folder; expected {ImageFolderDataset.card.layout}")
    if all(folder.name.lower() in _SPLIT_NAMES and _folders(folder) for folder in folders):
        return [
            record
            for folder in folders
            for record in _classes(_folders(folder), _SPLIT_NAMES[folder.name.lower()])
        ]
    return _classes(folders, "")


def _classes(folders: Sequence[Path], split: str) -> list[ImageRecord]:
    records = []
    for folder in folders:
        try:
            files = expand(folder)
        except InputError as error:
            raise DatasetError(f"{folder}: a class without a picture; put some in or remove it") from error
        records += [ImageRecord(path, folder.name, split=split) for path in files]
    return records


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


# --- a table ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _LabelTable:
    """A CSV of paths and labels; `scalars` are the measurements that it may have."""

    path: Path
    scalars: tuple[Channel, ...]

    def records(self) -> list[ImageRecord]:
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as stream:
                reader = csv.DictReader(stream)
                measured = self._scalar_columns(reader.fieldnames or [])
                records = [self._record(row, reader.line_num, measured) for row in reader]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DatasetError(f"{self.path}: not a CSV in UTF-8 ({error})") from error
        if not records:
            raise DatasetError(f"{self.path}: no line below the header")
        missing = [str(record.path) for record in records if not record.path.is_file()]
        if missing:
            shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
            raise DatasetError(f"{self.path}: {len(missing)} of {len(records)} files are not there: {shown}")
        return records

    def _scalar_columns(self, columns: Sequence[str]) -> list[Channel]:
        """The measurements among the columns; others are left alone, unless they look mistyped."""
        lacking = [name for name in _NEEDED if name not in columns]
        if lacking:
            raise DatasetError(
                f"{self.path}: no column {' and '.join(map(repr, lacking))}; "
                f"its columns: {', '.join(columns) or 'none'}"
            )
        known = [*_NEEDED, *_OPTIONAL, *(channel.name for channel in self.scalars)]
        for column in set(columns) - set(known):
            if near := nearest(column, [name for name in known if name not in columns], max_names=1):
                raise DatasetError(f"{self.path}: column {column!r} is not known; did you mean {near[0]!r}?")
            _log.info("%s: column %r is not read", self.path, column)
        return [channel for channel in self.scalars if channel.name in columns]

    def _record(self, row: Mapping[str, str | None], line: int, measured: Sequence[Channel]) -> ImageRecord:
        cells = {name: (row.get(name) or "").strip() for name in row if name is not None}
        for name in _NEEDED:
            if not cells[name]:
                raise DatasetError(f"{self.path}, line {line}: no {name}")
        split = cells.get("split", "").lower()
        if split and split not in _SPLIT_NAMES:
            raise DatasetError(f"{self.path}, line {line}: split {split!r}; known: train, val, test")
        return ImageRecord(
            self.path.parent / cells["path"],
            cells["label"],
            group=cells.get("group", ""),
            split=_SPLIT_NAMES.get(split, ""),
            scalars={c.name: self._parse_scalar(cells[c.name], c, line) for c in measured if cells[c.name]},
        )

    def _parse_scalar(self, cell: str, channel: Channel, line: int) -> float:
        where = f"{self.path}, line {line}, {channel.name}"
        try:
            value = float(cell)
        except ValueError:
            raise DatasetError(
                f"{where}: {cell!r} is no number; leave it empty where it is missing"
            ) from None
        low, high = channel.valid_range
        if not low <= value <= high:
            slip = next(
                (slip.hint for slip in channel.unit_hints if slip.above < abs(value) <= slip.upto), ""
            )
            raise DatasetError(
                f"{where}: {cell}, expected {low:g} to {high:g} {channel.unit}"
                + (f" ({slip})" if slip else "")
            )
        return value
