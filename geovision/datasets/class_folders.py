"""Finding the folders of a data set whose classes are folders, by any of the names they go by."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from geovision.datasets.image_classification import ImageRecord, list_images
from geovision.errors import DatasetError

__all__ = ["FolderNames", "class_folders", "labeled_images", "split_folder"]

FolderNames = Mapping[str, Sequence[str]]
"""Class code to the names that its folder may have, besides the code itself."""


def class_folders(root: Path, names: FolderNames, *, expected: str) -> dict[Path, str]:
    """The class of each folder directly under `root` that holds pictures.

    Case, spaces, punctuation and leading zeros do not count: ``"04 Clear-Sky"`` is ``"4_clearsky"``.

    Args:
        expected: The layout in words, for the message.

    Raises:
        DatasetError: A folder with pictures is no known class, or none is there.
    """
    known = {_normalize_name(name): code for code, several in names.items() for name in (code, *several)}
    inner = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {path: known[_normalize_name(path.name)] for path in inner if _normalize_name(path.name) in known}
    strange = [path.name for path in inner if path not in found and list_images(path)]
    if strange:
        raise DatasetError(
            f"{root}: {', '.join(map(repr, strange[:5]))} holds pictures but is no class of this data set; "
            f"expected {expected}"
        )
    if not found:
        raise DatasetError(f"{root}: {_describe_contents(inner, known)}; expected {expected}")
    return found


def labeled_images(root: Path, names: FolderNames, *, expected: str, split: str = "") -> list[ImageRecord]:
    """Every picture in the class folders directly under `root`, class by class as in `names`.

    Raises:
        DatasetError: As `class_folders`.
    """
    order = {code: position for position, code in enumerate(names)}
    folders = class_folders(root, names, expected=expected)
    return [
        ImageRecord(path, code, split=split)
        for folder, code in sorted(folders.items(), key=lambda item: (order[item[1]], item[0]))
        for path in list_images(folder)
    ]


def split_folder(root: Path, split: str) -> Path | None:
    """The folder of an official split: the one called so, or the only one whose name begins so and
    that holds folders; None where there is none.

    Raises:
        DatasetError: Several begin so.
    """
    begin = [
        path
        for path in sorted(root.iterdir())
        if path.is_dir()
        and path.name.lower().startswith(split)
        and any(inner.is_dir() for inner in path.iterdir())
    ]
    named = [path for path in begin if path.name.lower() == split] or begin
    if len(named) > 1:
        raise DatasetError(
            f"{root}: {' and '.join(path.name for path in named)} could both be the {split} split; rename "
            f"the right one to {split!r}"
        )
    return named[0] if named else None


def _normalize_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower()).lstrip("0")


def _describe_contents(inner: Sequence[Path], known: Mapping[str, str]) -> str:
    """What stands there instead of class folders, in a few words."""
    for path in inner:
        if any(deeper.is_dir() and _normalize_name(deeper.name) in known for deeper in path.iterdir()):
            return f"the classes are one folder further down, give {path}"
    shown = ", ".join(path.name for path in inner[:4])
    return f"no class folder among {shown}" if inner else "there are no folders"
