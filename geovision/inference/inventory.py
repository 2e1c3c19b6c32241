"""Streaming listing of the files of a local or remote archive."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geovision.errors import GeovisionError, InputError, MissingExtraError

__all__ = ["ArchiveFile", "ArchiveSource", "list_archive_files"]

ArchiveSource = str | Path | Sequence[str | Path]
"""Folder (searched recursively), file, pattern with ``*`` (``**`` matches any folders), text file with one
source per line, or a list of these. Each is a local path or an address that fsspec supports."""

LIST_SUFFIXES = (".txt", ".lst")
"""Suffixes of text files that list sources, one per line."""

_HIDDEN_PREFIXES = (".", "_")


@dataclass(frozen=True)
class ArchiveFile:
    """File of an archive.

    Args:
        path: Local path, or address with its protocol.
        size: Size in bytes; -1 if the server does not report it. A file with a new size is predicted again.
    """

    path: str
    size: int


def list_archive_files(source: ArchiveSource) -> Iterator[ArchiveFile]:
    """Yield the files of an archive in no particular order.

    A file that the source contains twice is yielded twice. Hidden files in folders and names that start with
    an underscore are skipped. Only the list of one folder is in memory at a time.

    Args:
        source: Folder, file, pattern, list file, or a list of these; see `ArchiveSource`. An example of an
            address is ``s3://bucket/themis``.

    Yields:
        Files with their sizes.

    Raises:
        InputError: If the source does not exist, contains no file or cannot be listed.
        MissingExtraError: If fsspec, or a package that it needs for this protocol, is not installed.
    """
    for each in [source] if isinstance(source, str | Path) else source:
        try:
            yield from _expand(str(each))
        except GeovisionError:
            raise
        except Exception as error:  # remote file systems raise exceptions of any type
            raise InputError(f"{each}: could not be listed ({error}); check the source") from error


def _expand(source: str, *, nested: bool = False) -> Iterator[ArchiveFile]:
    system, root = _resolve_filesystem(source)
    if system.isfile(root):
        if root.endswith(LIST_SUFFIXES):
            if nested:
                raise InputError(f"{source}: a list file inside a list file; pass both, or copy its lines")
            yield from _read_path_list(system, root)
        else:
            yield _file(system, root, system.info(root).get("size"))
        return
    found = _walk_folder(system, root) if system.isdir(root) else _glob(system, root)
    number = 0
    for number, file in enumerate(found, 1):  # noqa: B007 - used after the loop
        yield file
    if not number:
        kind = "contains no file" if system.isdir(root) else "no such file or folder, and no file matches"
        raise InputError(f"{source}: {kind}; check the source")


def _read_path_list(system: Any, path: str) -> Iterator[ArchiveFile]:
    """Yield the files of the sources in a text file.

    The file is read line by line, since it may not fit into memory.
    """
    number = 0
    with system.open(path, "r", encoding="utf-8") as stream:
        for line in map(str.strip, stream):
            if line and not line.startswith("#"):
                number += 1
                yield from _expand(line, nested=True)
    if not number:
        raise InputError(f"{path}: contains no path; expected one path per line")


def _glob(system: Any, pattern: str) -> Iterator[ArchiveFile]:
    for path, entry in system.glob(pattern, detail=True).items():
        if entry["type"] == "file":
            yield _file(system, path, entry.get("size"))


def _walk_folder(system: Any, folder: str) -> Iterator[ArchiveFile]:
    folders = []
    for path, kind, size in _list_entries(system, folder):
        if path.rstrip("/").rpartition("/")[2].startswith(_HIDDEN_PREFIXES):
            continue
        if kind == "directory":
            folders.append(path)
        elif kind == "file":
            yield _file(system, path, size)
    for inner in folders:
        yield from _walk_folder(system, inner)


def _list_entries(system: Any, folder: str) -> Iterable[tuple[str, str, int | None]]:
    """Return path, kind and size of the entries of a folder."""
    if not _is_local(system):
        return ((entry["name"], entry["type"], entry.get("size")) for entry in system.ls(folder, detail=True))
    return _local_entries(folder)


def _local_entries(folder: str) -> Iterator[tuple[str, str, int | None]]:
    # The listing of fsspec takes a kilobyte per file, and some folders contain a million files.
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield entry.path, "directory", None
            elif entry.is_file():  # not a pipe or a broken link
                yield entry.path, "file", entry.stat().st_size


def _file(system: Any, path: str, size: int | None) -> ArchiveFile:
    address = path if _is_local(system) else str(system.unstrip_protocol(path))
    return ArchiveFile(address, -1 if size is None else int(size))


def _is_local(system: Any) -> bool:
    return "file" in ((system.protocol,) if isinstance(system.protocol, str) else system.protocol)


def _resolve_filesystem(source: str) -> tuple[Any, str]:
    """Return the file system of an address and the path on it."""
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError("fsspec", "scale") from error
    try:
        system, root = fsspec.core.url_to_fs(source)
    except (ValueError, ImportError) as error:
        raise InputError(f"{source}: not a supported address ({error})") from error
    # Normalized paths give each file a single name.
    return system, os.path.normpath(root) if _is_local(system) else root
