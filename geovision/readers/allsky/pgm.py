"""PGM streams: concatenated binary PGM frames with comments.

The comments contain time and station.

The header of a frame, as THEMIS writes it (followed by 16-bit counts, high byte first)::

    P5
    #"Site unique ID" gill
    #"Imager unique ID" themis19
    #"Exposure options" WIDTH=512 HEIGHT=256 XBIN=2 YBIN=1 XOFFSET=126 YOFFSET=22 MSEC=999
    #"Image request start" 2014-03-10 06:00:00.063119 UTC
    256 256
    65535

THEMIS names site and imager in the first frame of a file only, TREx in each frame. Key names differ in
case and spaces. The exposure is ``Effective image exposure`` if present, otherwise the requested
``MSEC``. ``Exposure plus readout`` includes the readout and is not used.
"""

from __future__ import annotations

import contextlib
import datetime
import gzip
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np

from geovision.errors import InputError, StorageError, UnreadableFileError
from geovision.readers.allsky.byte_source import MAX_PIXELS, ByteSource
from geovision.readers.allsky.filename_pattern import CALGARY, FilenameInfo, NamePattern
from geovision.readers.allsky.frame import Frame, parse_degrees, parse_utc

__all__ = ["count", "read", "write_pgm"]

_SEPARATOR = rb"((?:\s|#[^\n\r]*[\n\r])+)"
_HEADER = re.compile(
    rb"\s*P5" + _SEPARATOR + rb"(\d{1,12})" + _SEPARATOR + rb"(\d{1,12})" + _SEPARATOR + rb"(\d{1,12})\s"
)
# "key" value, key: value, or a key before a date. Lengths are bounded, as a corrupt line may be long.
_COMMENT = re.compile(r'#\s*(?:"([^"]*)"|([A-Za-z][\w ]{0,40}?)(?:\s{0,8}[:=]|\s(?=\s{0,8}\d{4}-)))(.*)')
_HEADER_SIZES = (1 << 11, 1 << 13, 1 << 16)  # bytes; the last is larger than the header of any camera
_Form: TypeAlias = tuple[int, int, int]  # columns, rows, maxval
_TIMES = ("imagerequeststart", "exposurestarttime", "time")


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    maxval: int
    comments: Mapping[str, str]

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8) if self.maxval < 256 else np.dtype(">u2")

    @property
    def size(self) -> int:
        """Size of the pixels, in bytes."""
        return self.width * self.height * self.dtype.itemsize

    def first(self, *keys: str) -> str:
        """Return the first value of these keys, ignoring case and spaces."""
        return next((self._plain[key] for key in keys if self._plain.get(key)), "")

    @cached_property
    def _plain(self) -> dict[str, str]:
        return {key.lower().replace(" ", ""): value for key, value in self.comments.items()}


@dataclass(frozen=True)
class _CameraInfo:
    """Camera metadata of one header, which applies to following headers without them."""

    station: str | None = None
    device: str | None = None
    latitude: float | None = None
    longitude: float | None = None


# --- reading ------------------------------------------------------------------------------------


def read(source: ByteSource, pattern: NamePattern | None) -> Iterator[Frame]:
    """Read the frames of a stream; see `geovision.readers.allsky.frames`.

    Args:
        source: Bytes of the file.
        pattern: Pattern of the file name; None means the names of THEMIS and TREx.

    Yields:
        Frames, in file order.

    Raises:
        UnreadableFileError: The file is damaged or truncated.
    """
    named = _named(source.name, pattern or CALGARY)
    camera = _CameraInfo()
    seen: set[_Form] = set()
    for index, header in _headers(source):
        pixels = _pixels(source, header, index)
        _check_trailing_bytes(source, header, index, seen)
        camera = _camera(header) or camera
        yield _frame(source.name, index, pixels, header, camera, named)


def count(source: ByteSource) -> int:
    """Return the number of frames of a stream, from its headers.

    Args:
        source: Bytes of the file.

    Raises:
        UnreadableFileError: The file is damaged or truncated.
    """
    number = 0
    seen: set[_Form] = set()
    for index, header in _headers(source):
        if not source.skip(header.size):
            raise _damaged_frame_error(source, index, "the file ends inside it")
        _check_trailing_bytes(source, header, index, seen)
        number = index + 1
    return number


def _headers(source: ByteSource) -> Iterator[tuple[int, _Header]]:
    """Yield each header with the source at its pixels.

    The caller moves the source past the pixels.
    """
    index = 0
    while source.peek(_HEADER_SIZES[0]).strip():
        yield index, _header(source, index)
        index += 1
    if source.read_error:
        raise UnreadableFileError(
            f"{source.name}: {source.read_error} ({_frames_read_text(index)}); {_ADVICE}"
        )


def _header(source: ByteSource, index: int) -> _Header:
    for size in _HEADER_SIZES:
        block = source.peek(size)
        match = _HEADER.match(block)
        if match or len(block) < size:
            break
    if not match:
        cut = len(block) < _HEADER_SIZES[-1] and b"P5".startswith(block.lstrip()[:2])
        raise _damaged_frame_error(
            source, index, "the file ends inside its header" if cut else "no header of a binary PGM (P5)"
        )
    source.skip(match.end())
    width, height, maxval = (int(match[group]) for group in (2, 4, 6))
    if not width or not height or width * height > MAX_PIXELS:
        limit = f"1 to {MAX_PIXELS // 10**6} million pixels"
        raise _size_mismatch_error(
            source, index, f"{width} columns and {height} rows, but a frame has {limit}"
        )
    if not 0 < maxval <= 65535:
        raise _size_mismatch_error(source, index, f"counts up to {maxval}, but PGM allows 1 to 65535")
    return _Header(width, height, maxval, _comments(match[1] + match[3] + match[5]))


def _comments(text: bytes) -> dict[str, str]:
    lines = re.split(r"[\n\r]+", text.decode("utf-8", errors="replace"))
    found = (_COMMENT.match(line.strip()) for line in lines)
    return {(match[1] or match[2] or "").strip(): match[3].strip() for match in found if match}


def _pixels(source: ByteSource, header: _Header, index: int) -> np.ndarray:
    content = source.read(header.size)
    if len(content) < header.size:
        raise _damaged_frame_error(
            source, index, f"the file ends inside it, {len(content)} of {header.size} bytes"
        )
    counts = np.frombuffer(content, header.dtype).reshape(header.height, header.width)
    pixels = counts.astype(header.dtype.newbyteorder("="))
    # A maximum of 255 or 65535 cannot be exceeded; others are rare, so the check costs little.
    if header.maxval not in (255, 65535) and pixels.max() > header.maxval:
        raise _size_mismatch_error(
            source, index, f"counts up to {header.maxval}, but the largest count is {pixels.max()}"
        )
    return pixels


def _check_trailing_bytes(source: ByteSource, header: _Header, index: int, seen: set[_Form]) -> None:
    """Raise unless a frame or the end follows the pixels.

    Other bytes indicate a wrong size or depth in the header. If earlier frames of this form ended correctly,
    the following bytes are damaged, not this frame.
    """
    form = header.width, header.height, header.maxval
    following = source.peek(64).lstrip()[:2]
    if following == b"P5":
        seen.add(form)
    elif following and not b"P5".startswith(following) and form not in seen:
        raise _size_mismatch_error(
            source,
            index,
            f"{header.width} columns, {header.height} rows and counts up to {header.maxval}, "
            f"but no frame begins after these {header.size} bytes",
        )


# --- header comments ----------------------------------------------------------------------------


def _frame(
    path: str, index: int, pixels: np.ndarray, header: _Header, camera: _CameraInfo, named: FilenameInfo
) -> Frame:
    notes: list[str] = []
    return Frame(
        pixels=pixels,
        time=_time(header, named, notes),
        station=_site_code("station", camera.station, named.station, notes),
        device=_site_code("device", camera.device, named.device, notes),
        exposure=_exposure(header),
        path=path,
        index=index,
        latitude=camera.latitude,
        longitude=camera.longitude,
        notes=tuple(notes),
        header=header.comments,
    )


def _named(name: str, pattern: NamePattern) -> FilenameInfo:
    try:
        return pattern.parse(name)
    except InputError:
        return FilenameInfo()


def _camera(header: _Header) -> _CameraInfo | None:
    """Return the camera of a header; None without camera metadata.

    A header with some of the metadata replaces all of them, because it may be from another camera.
    """
    camera = _CameraInfo(
        header.first("siteuniqueid") or None,
        header.first("imageruniqueid") or None,
        parse_degrees(header.first("geodeticlatitude", "geographiclatitude"), 90),
        parse_degrees(header.first("geodeticlongitude", "geographiclongitude"), 180),
    )
    return camera if camera != _CameraInfo() else None


def _time(header: _Header, named: FilenameInfo, notes: list[str]) -> datetime.datetime | None:
    text = header.first(*_TIMES)
    time = parse_utc(text) if text else None
    if time is None:
        problem = f"time {text!r} in the header not understood" if text else "no time in the header"
        notes.append(
            f"{problem}; {'the time of the file name is used' if named.time else 'none in the file name'}"
        )
    return time or named.time


def _site_code(kind: str, code: str | None, named: str | None, notes: list[str]) -> str | None:
    if code is None:
        notes.append(f"no {kind} in the header; {'that of' if named else 'none in'} the file name")
    return code or named


def _exposure(header: _Header) -> float | None:
    effective = re.match(r"([\d.]+)\s*ms\b", header.first("effectiveimageexposure"))
    match = effective or re.search(r"\bMSEC=([\d.]+)", header.first("exposureoptions"))
    with contextlib.suppress(ValueError):
        return float(match[1]) / 1000 or None if match else None
    return None


# --- errors -------------------------------------------------------------------------------------

_ADVICE = "copy it again from its source"


def _frames_read_text(index: int) -> str:
    return f"after {index} complete frame{'' if index == 1 else 's'}"


def _damaged_frame_error(source: ByteSource, index: int, problem: str) -> UnreadableFileError:
    why = source.read_error or f"{problem}: truncated, still being written, or with a wrong header"
    return UnreadableFileError(f"{source.name}: frame {index}: {why} ({_frames_read_text(index)}); {_ADVICE}")


def _size_mismatch_error(source: ByteSource, index: int, declared: str) -> UnreadableFileError:
    return UnreadableFileError(
        f"{source.name}: frame {index}: the header declares {declared} "
        f"({_frames_read_text(index)}); {_ADVICE}"
    )


# --- writing ------------------------------------------------------------------------------------


def write_pgm(path: str | Path, frames: Iterable[Frame], *, header: Mapping[str, str] | None = None) -> Path:
    """Write frames as a PGM stream in the layout of THEMIS.

    The file is compressed if its name ends in ``.gz``. Site, imager and position are written in the
    first header and wherever they change; time and exposure in each header. `frames` reads equal frames
    back, with the exposure to a microsecond. Equal frames give equal bytes.

    Args:
        path: Path of the file, written completely or not at all.
        frames: Gray frames, uint8 or uint16. Only their pixels, time, station, device, exposure, latitude
            and longitude are written.
        header: Additional comments for the first header, as ``{"Project unique ID": "THEMIS"}``.
            Default: None.

    Returns:
        Path of the file.

    Raises:
        InputError: A frame has another type or lacks a camera, or a comment is longer than one line.
        StorageError: The file could not be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as stream:
            if path.suffix == ".gz":  # without name and time, so that equal frames give equal bytes
                with gzip.GzipFile("", "wb", 6, stream, mtime=0) as packed:
                    _write(packed, frames, header or {})
            else:
                _write(stream, frames, header or {})
        temporary.replace(path)
    except OSError as error:
        raise StorageError(
            f"{path}: could not be written ({error.strerror or error}); "
            "free some disk space or choose another folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def _write(stream: gzip.GzipFile | BinaryIO, frames: Iterable[Frame], extra: Mapping[str, str]) -> None:
    camera: dict[str, str] | None = None
    for frame in frames:
        if frame.pixels.ndim != 2 or frame.pixels.dtype not in (np.uint8, np.uint16):
            raise InputError(
                f"frame {frame.index}: {frame.pixels.dtype} {frame.pixels.shape}; expected gray "
                "counts (y, x) of 8 or 16 bits"
            )
        comments = dict(extra) if camera is None else {}
        identity = _identity(frame)
        if camera and not identity:
            raise InputError(
                f"frame {frame.index}: no station and no camera after a frame that has them; "
                "it would be read back with those"
            )
        if identity != camera:
            camera = identity
            comments |= identity
        stream.write(_header_text(comments | _format_time(frame), frame.pixels))
        stream.write(frame.pixels.astype(frame.pixels.dtype.newbyteorder(">")).tobytes())


def _identity(frame: Frame) -> dict[str, str]:
    place = {"Geodetic latitude": frame.latitude, "Geodetic Longitude": frame.longitude}
    codes = {"Site unique ID": frame.station, "Imager unique ID": frame.device}
    return {key: str(value) for key, value in (codes | place).items() if value is not None}


def _format_time(frame: Frame) -> dict[str, str]:
    comments = {}
    if frame.exposure is not None:
        height, width = frame.pixels.shape
        comments["Exposure options"] = (
            f"WIDTH={width} HEIGHT={height} XBIN=1 YBIN=1 MSEC={round(1000 * frame.exposure, 3):.10g}"
        )
    if frame.time is not None:
        start = frame.time.astimezone(datetime.UTC)
        comments["Image request start"] = f"{start:%Y-%m-%d %H:%M:%S.%f} UTC"
    return comments


def _header_text(comments: Mapping[str, str], pixels: np.ndarray) -> bytes:
    lines = [f'#"{key}" {value}' for key, value in comments.items()]
    wrong = next((line for line in lines if re.search(r"[\n\r]", line) or line.count('"') != 2), None)
    if wrong is not None:
        raise InputError(f"{wrong!r} is not a valid PGM comment; remove line breaks and quotation marks")
    height, width = pixels.shape
    maxval = np.iinfo(pixels.dtype).max
    return ("\n".join(["P5", *lines, f"{width} {height}", str(maxval)]) + "\n").encode("utf-8")
