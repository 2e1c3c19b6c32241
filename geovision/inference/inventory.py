"""What lies in an archive, in an order that is found again, a folder at a time."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geovision.errors import InputError, MissingExtraError

__all__ = ["ArchiveFile", "Shard", "inventory", "shards"]

LIST_SUFFIXES = (".txt", ".lst")
"""A file of this kind is a list of paths, one a line."""

_IGNORED = (".", "_")


@dataclass(frozen=True)
class ArchiveFile:
    """One file of an archive.

    Args:
        path: Local path, or address with its protocol.
        size: Bytes; -1 where the server does not say. A file that has grown is another one.
    """

    path: str
    size: int


@dataclass(frozen=True)
class Shard:
    """Files that are answered together: the unit of work, of writing and of going on.

    Args:
        key: Names the shard's files; the same on every run.
        files: In their order.
    """

    key: str
    files: tuple[ArchiveFile, ...]

    @property
    def digest(self) -> str:
        """Of names and sizes: a shard whose folder got more files is done again."""
        text = "\n".join(f"{file.path}\t{file.size}" for file in self.files)
        return hashlib.sha256(text.encode()).hexdigest()


def inventory(source: str | Path | Sequence[str | Path]) -> Iterator[list[ArchiveFile]]:
    """The files of an archive, the list of one folder after the other, both sorted.

    Hidden files, and those that begin with an underscore, are left out.

    Args:
        source: A folder, with all below it; a file; a pattern with ``*``, where ``**`` stands for any
            folders; a text file with a path or pattern on each line; a list of any of these. Local, or
            an address that fsspec knows, such as ``s3://bucket/themis``.

    Raises:
        InputError: Nothing is there.
        MissingExtraError: An address without fsspec.
    """
    if isinstance(source, str | Path):
        yield from _expand(str(source))
        return
    for each in source:
        yield from _expand(str(each))


def shards(source: str | Path | Sequence[str | Path], files: int) -> Iterator[Shard]:
    """The archive in shards of at most this many files, none across folders.

    Only the list of one folder is in memory at a time.
    """
    seen: set[str] = set()
    for listing in inventory(source):
        folder = _parent(listing[0].path)
        name = hashlib.sha256(folder.encode()).hexdigest()[:12]
        if name in seen:
            raise InputError(f"{folder}: stands twice in the source; name each folder once")
        seen.add(name)
        for number, part in enumerate(_batched(listing, files)):
            yield Shard(f"{name}-{number:05d}", tuple(part))


def _batched(listing: list[ArchiveFile], files: int) -> Iterator[list[ArchiveFile]]:
    for first in range(0, len(listing), files):
        yield listing[first : first + files]


def _expand(source: str) -> Iterator[list[ArchiveFile]]:
    system, root = _opened(source)
    if source.endswith(LIST_SUFFIXES) and system.isfile(root):
        yield from _listed(system, root)
        return
    if any(sign in root for sign in "*?[") and not system.exists(root):
        found = sorted(path for path in system.glob(root) if not system.isdir(path))
        if not found:
            raise InputError(f"{source}: no file matches")
        for _, group in itertools.groupby(found, _parent):
            yield [_file(system, system.info(path)) for path in group]
        return
    if system.isfile(root):
        yield [_file(system, system.info(root))]
        return
    if not system.isdir(root):
        raise InputError(f"{source}: no such file or folder")
    empty = True
    for listing in _walk(system, root):
        empty = False
        yield listing
    if empty:
        raise InputError(f"{source}: holds no file")


def _walk(system: Any, folder: str) -> Iterator[list[ArchiveFile]]:
    entries = sorted(system.ls(folder, detail=True), key=lambda entry: entry["name"])
    shown = [e for e in entries if not e["name"].rstrip("/").rpartition("/")[2].startswith(_IGNORED)]
    files = [_file(system, entry) for entry in shown if entry["type"] == "file"]
    if files:
        yield files
    for entry in shown:
        if entry["type"] == "directory":
            yield from _walk(system, entry["name"])


def _listed(system: Any, path: str) -> Iterator[list[ArchiveFile]]:
    """The sources that stand in a text file, gathered by folder: they may be in any order."""
    with system.open(path, "r", encoding="utf-8") as stream:
        lines = [line.strip() for line in stream]
    folders: dict[str, dict[str, ArchiveFile]] = {}
    for line in lines:
        if line and not line.startswith("#"):
            for listing in _expand(line):
                known = folders.setdefault(_parent(listing[0].path), {})
                known.update((file.path, file) for file in listing)
    if not folders:
        raise InputError(f"{path}: lists no file")
    for folder in sorted(folders):
        yield sorted(folders[folder].values(), key=lambda file: file.path)


def _file(system: Any, entry: dict[str, Any]) -> ArchiveFile:
    size = entry.get("size")
    return ArchiveFile(_address(system, entry["name"]), -1 if size is None else int(size))


def _address(system: Any, path: str) -> str:
    local = "file" in ((system.protocol,) if isinstance(system.protocol, str) else system.protocol)
    return path if local else str(system.unstrip_protocol(path))


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _opened(source: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError("fsspec", "scale") from error
    try:
        return fsspec.core.url_to_fs(source)
    except (ValueError, ImportError) as error:
        raise InputError(f"{source}: not an address that can be read here ({error})") from error
