"""Search for class folders and split folders under any of their known names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from geovision.datasets.image_classification import ImageRecord, list_images
from geovision.errors import DatasetError

__all__ = ["FolderNames", "class_folders", "labeled_images", "split_folder"]

FolderNames = Mapping[str, Sequence[str]]
"""Alternative folder names by class code, in addition to the code itself."""


def class_folders(root: Path, names: FolderNames, *, expected: str) -> dict[Path, str]:
    """Return the class of each folder directly below `root` that contains images.

    Case, spaces, punctuation and leading zeros are ignored: ``"04 Clear-Sky"`` is ``"4_clearsky"``.

    Args:
        root: Folder to search.
        names: Alternative folder names by class code.
        expected: Description of the expected layout, for the error message.

    Raises:
        DatasetError: A folder with images is not a known class, or there is no class folder.
    """
    known = {_normalize_name(name): code for code, several in names.items() for name in (code, *several)}
    inner = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {path: known[_normalize_name(path.name)] for path in inner if _normalize_name(path.name) in known}
    unknown = [path.name for path in inner if path not in found and list_images(path)]
    if unknown:
        raise DatasetError(
            f"{root}: {', '.join(map(repr, unknown[:5]))} contains images but is not a class of this "
            f"dataset; expected {expected}"
        )
    if not found:
        raise DatasetError(f"{root}: {_describe_contents(inner, known)}; expected {expected}")
    return found


def labeled_images(root: Path, names: FolderNames, *, expected: str, split: str = "") -> list[ImageRecord]:
    """Return the records of all images in the class folders directly below `root`.

    The records are ordered by class, as in `names`.

    Args:
        root: Folder to search.
        names: Alternative folder names by class code.
        expected: Description of the expected layout, for the error message.
        split: Name of the official split of the images. Default: "", no split.

    Raises:
        DatasetError: A folder with images is not a known class, or there is no class folder.
    """
    order = {code: position for position, code in enumerate(names)}
    folders = class_folders(root, names, expected=expected)
    return [
        ImageRecord(path, code, split=split)
        for folder, code in sorted(folders.items(), key=lambda item: (order[item[1]], item[0]))
        for path in list_images(folder)
    ]


def split_folder(root: Path, split: str) -> Path | None:
    """Return the folder of an official split, or None if there is none.

    It is the folder with the name of the split. Otherwise it is the only folder whose name starts with the
    split and that contains folders.

    Args:
        root: Folder to search.
        split: Name of the split.

    Raises:
        DatasetError: The names of several folders start with the split.
    """
    candidates = [
        path
        for path in sorted(root.iterdir())
        if path.is_dir()
        and path.name.lower().startswith(split)
        and any(inner.is_dir() for inner in path.iterdir())
    ]
    named = [path for path in candidates if path.name.lower() == split] or candidates
    if len(named) > 1:
        raise DatasetError(
            f"{root}: {' and '.join(path.name for path in named)} could both be the {split} split; rename "
            f"the right one to {split!r}"
        )
    return named[0] if named else None


def _normalize_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower()).lstrip("0")


def _describe_contents(inner: Sequence[Path], known: Mapping[str, str]) -> str:
    """Describe the content of a folder without class folders."""
    for path in inner:
        if any(deeper.is_dir() and _normalize_name(deeper.name) in known for deeper in path.iterdir()):
            return f"the class folders are in {path}, pass that folder"
    shown = ", ".join(path.name for path in inner[:4])
    return f"no class folder among {shown}" if inner else "there are no folders"
