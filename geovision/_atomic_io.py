"""Files that are written whole or not at all, and digests that tell whether they still are."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from geovision.errors import StorageError

__all__ = ["file_lock", "make_dir", "sha256", "write_files", "write_text"]


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def make_dir(path: Path) -> None:
    """Make a folder where it is missing, with those above it.

    Raises:
        StorageError: With the path and the system's reason.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{path}: no folder can be made there ({error.strerror or error}); choose another"
        ) from error


def write_files(folder: Path, writers: Mapping[str, Callable[[Path], None]]) -> None:
    """Write several files of one folder: all of them, or none.

    Each is written under a temporary name beside its place and forced to disk; only when the last
    one stands are they renamed. A full disk shows before anything that stood there is touched.

    Args:
        folder: Created where it is missing.
        writers: File name to a function that writes the path it is given, called in this order.

    Raises:
        StorageError: With the path and the system's reason.
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
            f"{folder}: could not be written ({reason}); what stood there is untouched. "
            "Free some space or choose another folder"
        ) from error
    finally:
        for path in temporary.values():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _umask() -> int:
    # The mask can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> Path:
    """Write one UTF-8 file, whole or not at all."""
    write_files(path.parent, {path.name: lambda temporary: _write(temporary, text)})
    return path


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def file_lock(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a lock file, so that one process of several does a thing; the end of a process, however it
    ends, gives it back.

    Args:
        path: Of the lock file, made where it is missing and left there.
        wait: Until the other process is done.

    Yields:
        Whether it is held. On Windows, where there is no such lock, it always is.

    Raises:
        StorageError: The file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("w")
    except OSError as error:
        raise StorageError(f"{path}: could not be written ({error.strerror or error})") from error
    with stream:
        yield fcntl is None or _try_lock(stream.fileno(), wait)


def _try_lock(number: int, wait: bool) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
