"""What lies in an archive: its files, streamed, wherever they lie."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geovision.errors import GeovisionError, InputError, MissingExtraError

__all__ = ["ArchiveFile", "ArchiveSource", "list_archive_files"]

ArchiveSource = str | Path | Sequence[str | Path]
"""A folder, with all below it; a file; a pattern with ``*``, where ``**`` stands for any folders; a
text file with a source on each line; a list of any of these. Local, or an address that fsspec knows."""

LIST_SUFFIXES = (".txt", ".lst")
"""A file of this kind is a list of sources, one a line."""

_HIDDEN_PREFIXES = (".", "_")


@dataclass(frozen=True)
class ArchiveFile:
    """One file of an archive.

    Args:
        path: Local path, or address with its protocol.
        size: Bytes; -1 where the server does not say. A file that has grown is another one.
    """

    path: str
    size: int


def list_archive_files(source: ArchiveSource) -> Iterator[ArchiveFile]:
    """The files of an archive as they are found, in no order; some twice where the source says so.

    Of folders, hidden files are left out, and those that begin with an underscore. The listing of one
    folder at a time is in memory.

    Args:
        source: See `ArchiveSource`; an address is such as ``s3://bucket/themis``.

    Raises:
        InputError: Nothing is there, or it cannot be listed.
        MissingExtraError: fsspec, or what it needs for this protocol, is not installed.
    """
    for each in [source] if isinstance(source, str | Path) else source:
        try:
            yield from _expand(str(each))
        except GeovisionError:
            raise
        except Exception as error:  # systems behind a network raise anything
            raise InputError(f"{each}: could not be listed ({error}); check the source") from error


def _expand(source: str, *, nested: bool = False) -> Iterator[ArchiveFile]:
    system, root = _resolve_filesystem(source)
    if system.isfile(root):
        if root.endswith(LIST_SUFFIXES):
            if nested:
                raise InputError(f"{source}: a list in a list; name it beside the other, or give its lines")
            yield from _read_path_list(system, root)
        else:
            yield _file(system, root, system.info(root).get("size"))
        return
    found = _walk_folder(system, root) if system.isdir(root) else _glob(system, root)
    number = 0
    for number, file in enumerate(found, 1):  # noqa: B007 - whether there was one is what is asked
        yield file
    if not number:
        kind = "holds no file" if system.isdir(root) else "no such file or folder, and no file matches"
        raise InputError(f"{source}: {kind}; check the source")


def _read_path_list(system: Any, path: str) -> Iterator[ArchiveFile]:
    """The sources that stand in a text file, line by line: it may be longer than memory."""
    number = 0
    with system.open(path, "r", encoding="utf-8") as stream:
        for line in map(str.strip, stream):
            if line and not line.startswith("#"):
                number += 1
                yield from _expand(line, nested=True)
    if not number:
        raise InputError(f"{path}: lists no file; it is to hold a path on each line")


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
    """Path, kind and size of what lies in a folder."""
    if not _is_local(system):
        return ((entry["name"], entry["type"], entry.get("size")) for entry in system.ls(folder, detail=True))
    return _local_entries(folder)


def _local_entries(folder: str) -> Iterator[tuple[str, str, int | None]]:
    # One by one: fsspec's listing takes a kilobyte for each file, and some folders hold a million.
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield entry.path, "directory", None
            elif entry.is_file():  # neither a pipe nor a link to nowhere
                yield entry.path, "file", entry.stat().st_size


def _file(system: Any, path: str, size: int | None) -> ArchiveFile:
    address = path if _is_local(system) else str(system.unstrip_protocol(path))
    return ArchiveFile(address, -1 if size is None else int(size))


def _is_local(system: Any) -> bool:
    return "file" in ((system.protocol,) if isinstance(system.protocol, str) else system.protocol)


def _resolve_filesystem(source: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError("fsspec", "scale") from error
    try:
        system, root = fsspec.core.url_to_fs(source)
    except (ValueError, ImportError) as error:
        raise InputError(f"{source}: not an address that can be read here ({error})") from error
    # One file has one name, however it was reached.
    return system, os.path.normpath(root) if _is_local(system) else root
