"""Atomic writes of one or several files, digests, and lock files."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from geovision.errors import StorageError

__all__ = ["file_lock", "make_dir", "sha256", "write_files", "write_text"]


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 digest of a file.

    Args:
        path: Path of the file.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def make_dir(path: Path) -> None:
    """Create a folder and its parents if they are missing.

    Args:
        path: Path of the folder.

    Raises:
        StorageError: The folder cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{path}: cannot create a folder ({error.strerror or error}); choose another path"
        ) from error


def write_files(folder: Path, writers: Mapping[str, Callable[[Path], None]]) -> None:
    """Write several files of one folder: all of them, or none.

    Each file is written under a temporary name in the same folder and synchronized to disk. The files are
    renamed after the last one is complete, so a full disk changes no existing file.

    Args:
        folder: Folder of the files, created if it is missing.
        writers: File name to a function that writes the given path. The functions are called in this order.

    Raises:
        StorageError: A file cannot be written; the message contains the path and the reason.
    """
    temporary: dict[str, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, write in writers.items():
            temporary[name] = folder / f".{name}.{os.getpid()}.part"
            write(temporary[name])
            temporary[name].chmod(0o666 & ~_umask())
            with temporary[name].open("rb+") as stream:
                os.fsync(stream.fileno())
        for name, path in temporary.items():
            path.replace(folder / name)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"{folder}: could not be written ({reason}); existing files are unchanged. "
            "Free some space or choose another folder"
        ) from error
    finally:
        for path in temporary.values():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _umask() -> int:
    # Reading the mask requires setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> Path:
    """Write one UTF-8 text file atomically.

    Args:
        path: Path of the file.
        text: Content of the file.

    Returns:
        The path.
    """
    write_files(path.parent, {path.name: lambda temporary: _write(temporary, text)})
    return path


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def file_lock(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Acquire a lock file that only one process can hold.

    The operating system releases the lock when the process ends for any reason.

    Args:
        path: Path of the lock file, created if it is missing.
        wait: Whether to wait until the lock is free. Default: False.

    Yields:
        Whether the lock was acquired.

    Raises:
        StorageError: The lock file cannot be created.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise StorageError(f"{path}: could not be written ({error.strerror or error})") from error
    try:
        yield True
    finally:
        lock.release()
