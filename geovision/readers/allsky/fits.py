"""FITS files of all-sky cameras.

The first image of a file is read. It may be a single frame, or a cube of colors or of frames.
"""

from __future__ import annotations

import contextlib
import datetime
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from geovision.errors import InputError, MissingExtraError, UnreadableFileError
from geovision.readers.allsky.byte_source import MAX_PIXELS, ByteSource
from geovision.readers.allsky.filename_pattern import FilenameInfo, NamePattern
from geovision.readers.allsky.frame import Frame, parse_degrees, parse_utc

__all__ = ["count", "read"]

_STATION = ("STATION", "SITE", "SITENAME", "OBSERVAT")
_DEVICE = ("CAMERA", "INSTRUME", "TELESCOP")
_EXPOSURE = ("EXPTIME", "EXPOSURE", "XPOSURE")
_LATITUDE, _LONGITUDE = ("OBSGEO-B", "SITELAT"), ("OBSGEO-L", "SITELONG")


def read(source: ByteSource, pattern: NamePattern | None) -> Iterator[Frame]:
    """Read the frames of a FITS file; see `geovision.readers.allsky.frames`.

    The first extension with an image is used. A third axis of length 3 is interpreted as color, with a
    note. Any other third axis is interpreted as frames, and so is an axis whose ``CTYPE3`` is ``TIME``.
    Frames after the first have their own time only if the axis is a time in seconds.

    Args:
        source: Bytes of the file.
        pattern: Pattern of the file name; None if the name has no time.

    Yields:
        Frames, in file order.

    Raises:
        MissingExtraError: astropy is not installed.
        UnreadableFileError: The file is damaged, or its image has an unsupported shape.
    """
    named = _named(source.name, pattern)
    with _open_image(source) as image:
        for index in range(image.number):
            with _decoding(source.name, index):
                pixels = image.plane(index)
            yield _frame(source.name, index, pixels, image, named)


def count(source: ByteSource) -> int:
    """Return the number of frames of a FITS file, from its header.

    Args:
        source: Bytes of the file.
    """
    with _open_image(source) as image:
        return image.number


class _Image:
    """Image extension, read plane by plane."""

    def __init__(self, hdu: Any, primary: Any) -> None:
        self.hdu = hdu
        self.shape = tuple(hdu.shape)
        # Keywords of all extensions may be in the primary header only.
        self.header = {**_values(primary.header), **_values(hdu.header)}
        axis = str(self.header.get("CTYPE3", "")).upper()
        self.timed = axis.startswith("TIME") and str(self.header.get("CUNIT3", "s")).strip() == "s"
        self.color_axis = None if axis.startswith("TIME") else _color_axis(self.shape)

    @property
    def number(self) -> int:
        return self.shape[0] if len(self.shape) == 3 and self.color_axis is None else 1

    def plane(self, index: int) -> np.ndarray:
        """Return one frame in native byte order.

        The shape is ``(y, x)`` or, for color, ``(y, x, 3)``.
        """
        # A section reads only what is needed; `data` would load a whole cube into memory.
        counts = self.hdu.section[index] if self.number > 1 else self.hdu.section[...]
        if self.color_axis == 0:
            counts = np.moveaxis(counts, 0, -1)
        elif self.number == 1 and counts.ndim == 3 and self.color_axis is None:
            counts = counts[0]
        return np.ascontiguousarray(counts, dtype=counts.dtype.newbyteorder("="))


def _color_axis(shape: tuple[int, ...]) -> int | None:
    return next((axis for axis in (0, 2) if len(shape) == 3 and shape[axis] == 3), None)


def _values(header: Any) -> dict[str, Any]:
    values = {}
    for key in header:
        if key and key not in ("COMMENT", "HISTORY"):
            with contextlib.suppress(Exception):  # an unreadable card is treated as missing
                values[key] = header[key]
    return values


@contextlib.contextmanager
def _open_image(source: ByteSource) -> Iterator[_Image]:
    try:
        from astropy.io import fits
    except ImportError as error:
        raise MissingExtraError("astropy", "sky") from error
    with _decoding(source.name, 0):
        hdus = fits.open(source.file(), memmap=False, lazy_load_hdus=True)
    with contextlib.closing(hdus):
        with _decoding(source.name, 0):
            image = next((_Image(hdu, hdus[0]) for hdu in hdus if hdu.is_image and len(hdu.shape) > 1), None)
        if image is None:
            raise UnreadableFileError(
                f"{source.name}: a FITS file without an image; choose one with an image"
            )
        _check_shape(image, source.name)
        yield image


def _check_shape(image: _Image, where: str) -> None:
    if len(image.shape) > 3 or 0 in image.shape:
        raise UnreadableFileError(
            f"{where}: a FITS image of shape {image.shape}; expected two axes, or three "
            "with one of color or frames"
        )
    if np.prod(image.shape, dtype=float) / image.number > 3 * MAX_PIXELS:
        raise UnreadableFileError(
            f"{where}: the header declares a FITS image of shape {image.shape}; a frame has at most "
            f"{MAX_PIXELS // 10**6} million pixels"
        )


@contextlib.contextmanager
def _decoding(where: str, index: int) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            # astropy warns about each nonstandard card; unreadable content raises an error anyway.
            warnings.simplefilter("ignore")
            yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes decoders raise anything
        reason = str(error) or type(error).__name__
        raise UnreadableFileError(
            f"{where}: frame {index}: damaged FITS ({reason}); copy it again from its source"
        ) from error


# --- header keywords ----------------------------------------------------------------------------


def _frame(path: str, index: int, pixels: np.ndarray, image: _Image, named: FilenameInfo) -> Frame:
    notes = ["an axis of length 3 is interpreted as color"] if image.color_axis is not None else []
    header = image.header
    time, problem = _time(image, index)
    if time is None:
        notes.append(
            f"{problem}; {'the time of the file name is used' if named.time else 'none in the file name'}"
        )
    return Frame(
        pixels=pixels,
        time=time or named.time,
        station=_first(header, _STATION) or named.station,
        device=_first(header, _DEVICE) or named.device,
        exposure=_exposure(header),
        path=path,
        index=index,
        latitude=parse_degrees(_first(header, _LATITUDE), 90),
        longitude=parse_degrees(_first(header, _LONGITUDE), 180),
        notes=tuple(notes),
        header={key: str(value) for key, value in header.items()},
    )


def _named(name: str, pattern: NamePattern | None) -> FilenameInfo:
    with contextlib.suppress(InputError):
        return pattern.parse(name) if pattern else FilenameInfo()
    return FilenameInfo()


def _first(header: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    values = (str(header.get(key, "")).strip() for key in keys)
    return next((value for value in values if value), None)


def _time(image: _Image, index: int) -> tuple[datetime.datetime | None, str]:
    """Return the start of a frame, or the reason for its absence."""
    header = image.header
    scale = str(header.get("TIMESYS", "UTC")).strip().upper()
    if scale not in ("UTC", "UT", ""):
        return None, f"TIMESYS {scale} in the header is not UTC"
    text = _first(header, ("DATE-OBS", "DATE-BEG"))
    if text is None:
        return None, "no DATE-OBS in the header"
    if len(text) == 10 and (clock := _first(header, ("TIME-OBS",))):
        text = f"{text}T{clock}"
    start = parse_utc(text)
    if start is None:
        return None, f"DATE-OBS {text!r} in the header is not a complete time"
    step = header.get("CDELT3")
    if index and not (image.timed and isinstance(step, int | float)):
        return None, "the header has the time of the first frame only"
    return start + datetime.timedelta(seconds=index * float(step or 0)), ""


def _exposure(header: Mapping[str, Any]) -> float | None:
    with contextlib.suppress(ValueError, TypeError):
        exposure = float(_first(header, _EXPOSURE) or 0)
        return exposure if 0 < exposure < float("inf") else None
    return None
