"""Your own photos: one folder for each class, or a table of paths and labels."""

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
"""Name of the table that is searched for in the folder."""

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
    """Your own photos and classes, for any classification task.

    Photos are either in folders, ``root/CLASS/…``, at any depth below the class, or in the same folders below
    ``train``, ``val`` and ``test``. Or they are listed in a table, which is `root` itself or ``labels.csv``
    in it. Its columns are ``path`` (relative to the folder of the table) and ``label``. Optional columns are
    ``group`` (samples that a split keeps together, such as a day or a station), ``split``, and any
    measurement of the task by name. A measurement is in the unit of the task and empty if missing.

    The classes are those found, in alphabetical order. If no split is given in the data, ``"train"`` contains
    all photos.

    Args:
        root: Folder or table.
        split: ``"train"``, ``"val"`` or ``"test"``. Default: None, all photos.
        size: Height and width that photos are resized to, in pixels. Default: None, the size of the task.
        task: Task that defines the input and the measurements. Default: "cloud".
        transforms: Function from a sample to a sample, applied last. Default: None.
        download: Must be False; the dataset has no download.

    Raises:
        DatasetError: Folders are missing or empty, the table lacks a column, a measurement is not a number or
            out of range, or the split is missing.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="folder",
        title="Your own photos",
        source="your files",
        license="that of your data",
        citation="none",
        split_group="column `group` of the table if there is one, otherwise the near-duplicate group",
        layout="one folder for each class, the same below train, val and test, or "
        f"{LABELS_FILE} with columns path, label",
        caveats=(
            "Frames of one camera minutes apart are almost the same image. Put the day or the station in "
            "the column `group`; otherwise both parts of a split contain such frames.",
        ),
    )
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def __init__(
        self,
        root: Path,
        *,
        split: str | None = None,
        size: tuple[int, int] | None = None,
        task: str | None = None,
        transforms: Transforms | None = None,
        download: bool = False,
    ) -> None:
        root = Path(root)
        # The only dataset that serves several tasks.
        self.task = task or registry.dataset_reference(self.card.name)[0].name  # type: ignore[misc]
        self._table = root if root.is_file() else root / LABELS_FILE
        folder = root.parent if root.is_file() else root
        super().__init__(folder, split=split, size=size, transforms=transforms, download=download)

    def scan(self) -> Sequence[ImageRecord]:
        """Return the records of all photos in the table or the folders.

        Raises:
            DatasetError: The table or the folders are invalid.
        """
        if self._table.is_file():
            return _LabelTable(self._table, registry.find_task(self.task).scalars).records()
        return _scan_folders(self.root)

    def build_target(self, records: Sequence[ImageRecord]) -> ClassTarget:
        """Return the classes that occur, in alphabetical order.

        Args:
            records: Records of all photos.
        """
        return ClassTarget(tuple(sorted({record.label for record in records})), order_source="alphabetical")

    def split_indices(self, split: str) -> Sequence[int]:
        """Return the positions of the photos of a split.

        Args:
            split: "train", "val" or "test".

        Raises:
            DatasetError: The split is missing.
        """
        if split == "train" and not any(record.split for record in self._records):
            return range(len(self._records))
        indices = super().split_indices(split)
        if not indices:
            found = ", ".join(sorted({record.split for record in self._records if record.split}))
            raise DatasetError(f"{self.root}: no {split!r} split; available splits: {found or 'none'}")
        return indices

    def adapt_to(self, model: GeoModel) -> Self:
        """Return the same photos with the size, measurements and classes of a model.

        Args:
            model: Model that is trained, evaluated or calibrated with the photos.

        Raises:
            DatasetError: A label is not a class of the model.
        """
        adapted = super().adapt_to(model)
        if isinstance(model.target, ClassTarget):
            return adapted.with_classes(model.target.classes)
        return adapted

    @classmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        """Write generated photos in the layout of this dataset.

        Args:
            root: Folder to write to.
            n: Number of photos.
            seed: Seed of the generator. Default: 0.
        """
        return resolve("geovision.datasets.synthetic.sky:write")(Path(root), n, seed=seed)


# --- folders ------------------------------------------------------------------------------------


def _scan_folders(root: Path) -> list[ImageRecord]:
    """Return the records of all images in class folders, which may be below split folders."""
    folders = _folders(root)
    if not folders:
        raise DatasetError(f"{root}: contains no folder; expected {ImageFolderDataset.card.layout}")
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
            raise DatasetError(f"{folder}: a class folder without images; add images or remove it") from error
        records += [ImageRecord(path, folder.name, split=split) for path in files]
    return records


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


# --- a table ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _LabelTable:
    """CSV file of paths and labels.

    Attributes:
        path: CSV file.
        scalars: Measurements that the table may contain.
    """

    path: Path
    scalars: tuple[Channel, ...]

    def records(self) -> list[ImageRecord]:
        """Read the records of all photos in the table.

        Raises:
            DatasetError: The table is invalid, or a file is missing.
        """
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as stream:
                reader = csv.DictReader(stream)
                measured = self._scalar_columns(reader.fieldnames or [])
                records = [self._record(row, reader.line_num, measured) for row in reader]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DatasetError(f"{self.path} is not a CSV file in UTF-8 ({error})") from error
        if not records:
            raise DatasetError(f"{self.path}: no line below the header; expected one line for each photo")
        missing = [str(record.path) for record in records if not record.path.is_file()]
        if missing:
            shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
            raise DatasetError(f"{self.path}: {len(missing)} of {len(records)} files are missing: {shown}")
        return records

    def _scalar_columns(self, columns: Sequence[str]) -> list[Channel]:
        """Return the measurements among the columns.

        Other columns are ignored, unless their name is close to a known one.
        """
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
            raise DatasetError(f"{self.path}, line {line}: split {split!r}; expected train, val or test")
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
                f"{where}: {cell!r} is not a number; leave the cell empty if it is missing"
            ) from None
        low, high = channel.valid_range
        if not low <= value <= high:
            hint = next(
                (hint.hint for hint in channel.unit_hints if hint.above < abs(value) <= hint.upto), ""
            )
            raise DatasetError(
                f"{where}: {cell}, expected {low:g} to {high:g} {channel.unit}"
                + (f" ({hint})" if hint else "")
            )
        return value
