"""Extraction of untrusted zip archives: no path leaves the folder, no file is overwritten."""

from __future__ import annotations

import contextlib
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from geovision.errors import DownloadError, StorageError
from geovision.hub.http import DownloadProgress

__all__ = ["MAX_COMPRESSION_RATIO", "safe_relative_path", "unpack"]

MAX_COMPRESSION_RATIO = 100
"""Maximum ratio of extracted size to archive size.

Images are hardly compressed in an archive; tables and JSON are compressed by factors of ten and more.
"""

_MAX_MEMBERS = 1_000_000
_IGNORED_NAMES = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")


def safe_relative_path(name: str, *, where: str) -> PurePosixPath:
    """Return an untrusted file name as a relative path inside its folder.

    Args:
        name: File name with forward slashes.
        where: Source of the name, for the error message.

    Returns:
        Relative path.

    Raises:
        DownloadError: If the name is absolute, contains ``..``, or names a drive.

    >>> safe_relative_path("CCSN_v2/Ac/Ac-N001.jpg", where="CCSN_v2.zip").parts
    ('CCSN_v2', 'Ac', 'Ac-N001.jpg')
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or any(mark in name for mark in "\\:\0"):
        raise DownloadError(f"{where}: the name {name!r} leads out of its folder; nothing was extracted")
    return path


def unpack(
    archive: Path, root: Path, *, strip_top: bool = False, progress: DownloadProgress | None = None
) -> dict[str, int]:
    """Extract a zip archive into a folder.

    All names and sizes are checked before the first byte is written. Incomplete files are never left, and
    identical existing files are kept.

    Args:
        archive: Path of the archive.
        root: Output folder; created if missing.
        strip_top: Whether to remove the top-level folder if it contains all files. Default: False.
        progress: Function that is called with the number of extracted bytes. Default: None.

    Returns:
        Size of every file in bytes, by its path relative to `root`.

    Raises:
        DownloadError: If the archive is damaged, unsafe or too large.
        StorageError: If the disk is full, or a different file with the same name exists.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _members(opened, archive, strip_top)
            total = sum(info.file_size for info in members.values())
            root.mkdir(parents=True, exist_ok=True)
            _check_disk_space(archive, root, total)
            missing = {path: info for path, info in members.items() if not _is_extracted(root / path, info)}
            done = total - sum(info.file_size for info in missing.values())
            for path, info in missing.items():
                _extract(opened, info, root / path)
                done += info.file_size
                if progress:
                    progress(f"unpacking {archive.name}", done, total)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DownloadError(
            f"{archive}: damaged or not a zip archive ({error}); delete it and download it again"
        ) from error
    except OSError as error:
        if isinstance(error, DownloadError | StorageError):
            raise
        raise StorageError(
            f"{root}: the archive cannot be extracted ({error.strerror or error}); {archive} is kept. Free "
            "some space or choose another folder, then run the same command again"
        ) from error
    return {str(path): info.file_size for path, info in members.items()}


def _members(opened: zipfile.ZipFile, archive: Path, strip_top: bool) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """Return the files of an archive by their target paths, after the safety checks."""
    if len(opened.infolist()) > _MAX_MEMBERS:
        raise DownloadError(f"{archive}: more than {_MAX_MEMBERS} files; nothing was extracted")
    named = []
    for info in opened.infolist():
        if info.is_dir():
            continue
        path = safe_relative_path(info.filename, where=str(archive))
        if stat.S_ISLNK(info.external_attr >> 16):
            raise DownloadError(f"{archive}: {info.filename!r} is a link; nothing was extracted")
        if info.flag_bits & 0x1:
            raise DownloadError(f"{archive}: {info.filename!r} is encrypted; extract it manually")
        if not any(part in _IGNORED_NAMES for part in path.parts):
            named.append((path, info))
    if strip_top and len({path.parts[0] for path, _ in named}) == 1:
        named = [(PurePosixPath(*path.parts[1:]), info) for path, info in named if len(path.parts) > 1]
    members = dict(named)
    if len(members) < len(named):
        raise DownloadError(f"{archive}: two files have the same name; nothing was extracted")
    return members


def _check_disk_space(archive: Path, root: Path, total: int) -> None:
    if total > MAX_COMPRESSION_RATIO * archive.stat().st_size:
        raise DownloadError(
            f"{archive}: the extracted size of {total} bytes exceeds {MAX_COMPRESSION_RATIO} times the "
            "archive size, which indicates a decompression bomb; nothing was extracted"
        )
    free = shutil.disk_usage(root).free
    if total > free:
        raise StorageError(
            f"{root}: {total} bytes are required and {free} are free; {archive} is kept. Free some space "
            "and run the same command again"
        )


def _is_extracted(path: Path, info: zipfile.ZipInfo) -> bool:
    """Return whether an identical file exists.

    Raises:
        StorageError: If a different file exists.
    """
    if not path.exists():
        return False
    if path.is_file() and path.stat().st_size == info.file_size and zlib.crc32(path.read_bytes()) == info.CRC:
        return True
    raise StorageError(
        f"{path}: a different file with this name exists and is not overwritten; move it away, or choose an "
        "empty folder, and run the same command again"
    )


def _extract(opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    """Extract one file and never leave an incomplete one.

    zipfile reads at most the size in the directory of the archive and checks the CRC.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with opened.open(info) as source, temporary.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 18)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
