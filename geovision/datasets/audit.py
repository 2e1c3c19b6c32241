"""Audit of a dataset of photos: unreadable files, duplicates and label conflicts.

The audit reads all files. It reports files that cannot be read, photos that occur more than once, and photos
that occur with different labels.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from geovision._atomic_io import write_files
from geovision.datasets.base import DatasetCard, GeoDataset
from geovision.datasets.duplicates import (
    DHASH_LIMIT,
    PHASH_LIMIT,
    conflicting_groups,
    exact_duplicates,
    fingerprints,
    group_members,
    near_duplicate_groups,
)
from geovision.datasets.image_classification import ImageDataset
from geovision.errors import OptionError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["AuditReport", "ImageProperties", "audit"]

_MAX_PLOTTED_GROUPS = 40
_THUMBNAIL = (128, 128)


@dataclass(frozen=True, order=True)
class ImageProperties:
    """Properties of an image from the header of its file.

    Args:
        width: Width, in pixels.
        height: Height, in pixels.
        mode: Mode of Pillow, such as "RGB".
        format: Format of Pillow, such as "JPEG".
    """

    width: int
    height: int
    mode: str
    format: str

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {self.mode} {self.format}"


@dataclass(frozen=True)
class AuditReport:
    """Result of `audit`.

    Photos are named by their path relative to the root of the dataset.

    Attributes:
        card: Card of the dataset, with its caveats.
        root: Folder of the dataset.
        classes: Class codes of the dataset.
        labels: Class of each readable photo.
        image_properties: Size, mode and format of each readable photo.
        unreadable: Reason by file for files that cannot be read.
        group_by_image: Near-duplicate group of each photo.
        groups: Members of each near-duplicate group of two or more.
        label_conflicts: Members of each group with different labels.
        exact_duplicates: Photos with exactly the same pixels, in groups of two or more.
        thumbnails: Photos of the first groups with different labels, uint8, shape ``(y, x, 3)``.
    """

    card: DatasetCard
    root: Path
    classes: tuple[str, ...]
    labels: Mapping[str, str]
    image_properties: Mapping[str, ImageProperties]
    unreadable: Mapping[str, str]
    group_by_image: Mapping[str, str]
    groups: Mapping[str, Sequence[str]]
    label_conflicts: Mapping[str, Sequence[str]]
    exact_duplicates: Sequence[Sequence[str]]
    thumbnails: Mapping[str, np.ndarray]

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of readable photos of each class."""
        return self._count(self.labels)

    @property
    def property_counts(self) -> dict[ImageProperties, int]:
        """Number of photos of each size, mode and format, in descending order."""
        return dict(Counter(self.image_properties.values()).most_common())

    @property
    def conflicting_label_pairs(self) -> dict[tuple[str, str], int]:
        """Number of groups that contain both labels of each pair, in descending order."""
        pairs: Counter[tuple[str, str]] = Counter()
        for photos in self.label_conflicts.values():
            pairs.update(combinations(sorted({self.labels[name] for name in photos}), 2))
        return dict(pairs.most_common())

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data for JSON."""
        return {
            "dataset": self.card.name,
            "root": str(self.root),
            "photos": len(self.labels),
            "classes": self.class_counts,
            "files": {str(kind): count for kind, count in self.property_counts.items()},
            "unreadable": dict(self.unreadable),
            "near_duplicates": {
                "groups": len(set(self.group_by_image.values())),
                "groups_of_two_or_more": len(self.groups),
                "photos_in_them": _total(self.groups.values()),
                "phash_limit": PHASH_LIMIT,
                "dhash_limit": DHASH_LIMIT,
            },
            "exact_duplicates": [list(photos) for photos in self.exact_duplicates],
            "labels_disagree": {
                "groups": len(self.label_conflicts),
                "photos": _total(self.label_conflicts.values()),
                "pairs": {f"{a} {b}": count for (a, b), count in self.conflicting_label_pairs.items()},
                "members": {
                    group: {name: self.labels[name] for name in photos}
                    for group, photos in self.label_conflicts.items()
                },
            },
            "caveats": list(self.card.caveats),
        }

    def to_text(self) -> str:
        """Return the report as plain text.

        The text contains totals, classes, files, pairs of labels and every group with different labels.
        """
        parts = [
            f"{self.card.title}\n{self.root}",
            _table(self._totals()),
            _table([("class", "photos", "in a group", "label conflicts"), *self._class_rows()]),
            _table([("files", "photos"), *((kind, count) for kind, count in self.property_counts.items())]),
        ]
        if len({(kind.width, kind.height) for kind in self.image_properties.values()}) > 1:
            parts.append("The photos have several sizes. Resize them to one size before training.")
        if self.unreadable:
            parts.append("Files that cannot be read\n" + _lines(self.unreadable.values()))
        if self.label_conflicts:
            pairs = [(f"{a} {b}", count) for (a, b), count in self.conflicting_label_pairs.items()]
            parts.append(_table([("both labels", "groups"), *pairs]))
            parts.append(
                "Groups with different labels\n"
                + _lines(map(self._with_labels, self.label_conflicts.values()))
            )
        if self.card.caveats:
            parts.append("Known caveats\n" + _lines(self.card.caveats))
        return "\n\n".join(parts) + "\n"

    def _with_labels(self, photos: Sequence[str]) -> str:
        labels = " ".join(sorted({self.labels[name] for name in photos}))
        return f"{labels}: {'  '.join(photos)}"

    def _totals(self) -> list[tuple[str, object, str]]:
        return [
            ("photos", len(self.labels), ""),
            ("files that cannot be read", len(self.unreadable), ""),
            ("near-duplicate groups", len(set(self.group_by_image.values())), ""),
            ("groups of two or more", len(self.groups), f"{_total(self.groups.values())} photos"),
            (
                "groups with the same pixels",
                len(self.exact_duplicates),
                f"{_total(self.exact_duplicates)} photos",
            ),
            (
                "groups with different labels",
                len(self.label_conflicts),
                f"{_total(self.label_conflicts.values())} photos",
            ),
        ]

    def _class_rows(self) -> list[tuple[str, int, int, int]]:
        grouped = self._count(name for photos in self.groups.values() for name in photos)
        in_conflict = self._count(name for photos in self.label_conflicts.values() for name in photos)
        return [(code, self.class_counts[code], grouped[code], in_conflict[code]) for code in self.classes]

    def _count(self, photos: Iterable[str]) -> dict[str, int]:
        counts = Counter(self.labels[name] for name in photos)
        return {code: counts[code] for code in self.classes}

    def to_csv(self) -> str:
        """Return one line for each photo in a group of two or more.

        The columns are the group, the path, the label, whether the labels of the group differ, and the first
        photo with exactly the same pixels, if there is one.
        """
        same = {name: photos[0] for photos in self.exact_duplicates for name in photos}
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("group", "path", "label", "labels_disagree", "same_pixels_as"))
        for group, photos in self.groups.items():
            for name in photos:
                row = (group, name, self.labels[name], int(group in self.label_conflicts), same.get(name, ""))
                writer.writerow(row)
        return stream.getvalue()

    def figures(self) -> dict[str, Figure]:
        """Return the figures of the report by name.

        ``classes`` and ``sizes`` are bar charts. ``label_conflicts`` shows the photos of the first groups
        with different labels, if there are any.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from geovision.plots import plot_counts, plot_image_grid

        sizes = Counter(f"{kind.width}x{kind.height}" for kind in self.image_properties.values())
        frequent = dict(sizes.most_common(12))
        if len(sizes) > len(frequent):
            frequent["others"] = sizes.total() - sum(frequent.values())
        figures = {
            "classes": plot_counts(self.class_counts, title=self.card.title, unit="photos"),
            "sizes": plot_counts(frequent, title="Width x height, pixels", unit="photos"),
        }
        if self.thumbnails:
            number = {group: index for index, group in enumerate(self.label_conflicts, 1)}
            titles = [
                f"{number[self.group_by_image[name]]}: {self.labels[name]}\n{Path(name).name}"
                for name in self.thumbnails
            ]
            shown = min(len(self.label_conflicts), _MAX_PLOTTED_GROUPS)
            title = f"{shown} of {len(self.label_conflicts)} near-duplicate groups with different labels"
            figures["label_conflicts"] = plot_image_grid(
                list(self.thumbnails.values()), titles, columns=10, suptitle=title
            )
        return figures

    def save(self, folder: Path) -> Path:
        """Write ``audit.txt``, ``audit.json``, ``groups.csv`` and the figures as PNG.

        Either all files are written or none.

        Args:
            folder: Folder to write to.

        Returns:
            The folder.

        Raises:
            StorageError: The files could not be written.
            MissingExtraError: matplotlib is not installed.
        """
        texts = {
            "audit.txt": self.to_text(),
            "audit.json": json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n",
            "groups.csv": self.to_csv(),
        }
        writers: dict[str, Callable[[Path], None]] = {}
        for file, text in texts.items():
            writers[file] = partial(_write, text=text)
        for name, figure in self.figures().items():
            writers[f"{name}.png"] = partial(figure.savefig, format="png", dpi=100)
        write_files(folder, writers)
        return folder


def audit(dataset: GeoDataset, out: Path | None = None) -> AuditReport:
    """Read every photo of a dataset and report duplicates, conflicts and unreadable files.

    Args:
        dataset: Dataset of photos with classes.
        out: Folder for the report with its figures. Default: None, nothing is written.

    Raises:
        OptionError: The dataset contains no photos with classes.
        StorageError: The report could not be written.
    """
    if not isinstance(dataset, ImageDataset):
        raise OptionError(
            f"{dataset.card.name} contains no photos with classes; only such datasets can be audited"
        )
    names = dataset.names
    prints = fingerprints(dataset.paths, dataset.input_spec)
    good = [position for position in range(len(names)) if position not in prints.unreadable]
    readable, readable_prints = dataset.subset(good), prints.take(good)
    good_names, paths = readable.names, readable.paths
    groups = near_duplicate_groups(readable_prints, good_names)
    label_conflicts = _names_by_group(conflicting_groups(groups, readable.labels), good_names)
    report = AuditReport(
        card=dataset.card,
        root=dataset.root,
        classes=dataset.target.classes,
        labels={
            name: dataset.target.classes[label]
            for name, label in zip(good_names, readable.labels, strict=True)
        },
        image_properties={name: _read_properties(path) for name, path in zip(good_names, paths, strict=True)},
        unreadable={names[position]: reason for position, reason in prints.unreadable.items()},
        group_by_image=dict(zip(good_names, groups, strict=True)),
        groups=_names_by_group(group_members(groups), good_names),
        label_conflicts=label_conflicts,
        exact_duplicates=[
            [good_names[position] for position in same]
            for same in exact_duplicates(paths, readable_prints, dataset.input_spec)
        ],
        thumbnails=_thumbnails(readable, list(label_conflicts.values())[:_MAX_PLOTTED_GROUPS]),
    )
    if out is not None:
        report.save(Path(out))
    return report


def _names_by_group(groups: Mapping[str, Sequence[int]], names: Sequence[str]) -> dict[str, list[str]]:
    return {group: [names[position] for position in positions] for group, positions in groups.items()}


def _read_properties(path: Path) -> ImageProperties:
    with Image.open(path) as image:
        return ImageProperties(*image.size, image.mode, image.format or "")


def _thumbnails(dataset: ImageDataset, groups: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    position = {name: index for index, name in enumerate(dataset.names)}
    small = dataset.with_size(_THUMBNAIL)
    return {name: small.pixels(position[name]).transpose(1, 2, 0) for names in groups for name in names}


def _total(groups: Iterable[Sequence[str]]) -> int:
    return sum(map(len, groups))


def _table(rows: Sequence[Sequence[object]]) -> str:
    """Format rows as columns: numbers to the right, words to the left."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [isinstance(cell, int) for cell in rows[-1]]
    lines = (
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, right, strict=True)
        )
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def _lines(items: Iterable[str]) -> str:
    return "\n".join(f"  {item}" for item in items)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
