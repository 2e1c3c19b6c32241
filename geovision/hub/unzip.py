"""Unpacking a zip archive of unknown makers: nothing leaves the folder, nothing is overwritten."""

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
"""An archive that unpacks to more than this many times its own size is refused. Pictures hardly
shrink in an archive; tables and JSON do by tens."""

_MAX_MEMBERS = 1_000_000
_IGNORED_NAMES = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")


def safe_relative_path(name: str, *, where: str) -> PurePosixPath:
    """A file name from elsewhere, as a path that stays inside the folder it is put in.

    Raises:
        DownloadError: It is absolute, climbs, or names a drive.

    >>> relative_path("CCSN_v2/Ac/Ac-N001.jpg", where="CCSN_v2.zip").parts
    ('CCSN_v2', 'Ac', 'Ac-N001.jpg')
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or any(mark in name for mark in "\\:\0"):
        raise DownloadError(f"{where}: the name {name!r} leads out of its folder; nothing was unpacked")
    return path


def unpack(
    archive: Path, root: Path, *, strip_top: bool = False, progress: DownloadProgress | None = None
) -> dict[str, int]:
    """Unpack a zip archive under `root`. All names and sizes are judged before the first byte is
    written; each file is in place only when whole; one that already stands there, equal, is left.

    Args:
        strip_top: Leave out the one folder that holds everything, where there is one.
        progress: Called with bytes unpacked.

    Returns:
        Path under `root` to size in bytes, of every file.

    Raises:
        DownloadError: The archive is damaged, unsafe or too large when unpacked.
        StorageError: No room, or a different file of the same name stands there.
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
            f"{archive}: damaged, or no zip archive ({error}); delete it and download again"
        ) from error
    except OSError as error:
        if isinstance(error, DownloadError | StorageError):
            raise
        raise StorageError(
            f"{root}: could not be unpacked to ({error.strerror or error}); {archive} is kept. Free some "
            "space or choose another folder, then run the same command again"
        ) from error
    return {str(path): info.file_size for path, info in members.items()}


def _members(opened: zipfile.ZipFile, archive: Path, strip_top: bool) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """Every file of the archive by the path it will have, judged."""
    if len(opened.infolist()) > _MAX_MEMBERS:
        raise DownloadError(f"{archive}: more than {_MAX_MEMBERS} files; refused")
    named = []
    for info in opened.infolist():
        if info.is_dir():
            continue
        path = safe_relative_path(info.filename, where=str(archive))
        if stat.S_ISLNK(info.external_attr >> 16):
            raise DownloadError(f"{archive}: {info.filename!r} is a link; refused, nothing was unpacked")
        if info.flag_bits & 0x1:
            raise DownloadError(f"{archive}: {info.filename!r} is encrypted; unpack it by hand")
        if not any(part in _IGNORED_NAMES for part in path.parts):
            named.append((path, info))
    if strip_top and len({path.parts[0] for path, _ in named}) == 1:
        named = [(PurePosixPath(*path.parts[1:]), info) for path, info in named if len(path.parts) > 1]
    members = dict(named)
    if len(members) < len(named):
        raise DownloadError(f"{archive}: two files have the same name; refused, nothing was unpacked")
    return members


def _check_disk_space(archive: Path, root: Path, total: int) -> None:
    if total > MAX_COMPRESSION_RATIO * archive.stat().st_size:
        raise DownloadError(
            f"{archive}: would grow to {total} bytes, more than "
            f"{MAX_COMPRESSION_RATIO} times its size; refused as a decompression bomb, nothing was unpacked"
        )
    free = shutil.disk_usage(root).free
    if total > free:
        raise StorageError(
            f"{root}: {total} bytes are to be unpacked, {free} are free; {archive} is kept. Free some space "
            "and run the same command again"
        )


def _is_extracted(path: Path, info: zipfile.ZipInfo) -> bool:
    """Whether this very file is already there.

    Raises:
        StorageError: Something else is.
    """
    if not path.exists():
        return False
    if path.is_file() and path.stat().st_size == info.file_size and zlib.crc32(path.read_bytes()) == info.CRC:
        return True
    raise StorageError(
        f"{path}: another file of this name stands there already and is not overwritten; move it away, or "
        "choose an empty folder, and run the same command again"
    )


def _extract(opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    """One file, whole or not at all. zipfile reads no more than the size in the directory, and
    checks the CRC."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with opened.open(info) as source, temporary.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 18)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
