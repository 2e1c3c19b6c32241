"""FITS of all-sky cameras: the first image of a file, or a cube of colours or of frames."""

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
    """The frames of a FITS file. See `geovision.readers.allsky.frames`.

    The first extension with an image counts. A third axis of length 3 is colour, with a note, and
    any other is frames, as is that where ``CTYPE3`` says ``TIME``. Frames after the first have a time
    of their own only where the axis is a time in seconds.

    Raises:
        MissingExtraError: astropy is not installed.
    """
    named = _named(source.name, pattern)
    with _opened(source) as image:
        for index in range(image.number):
            with _decoding(source.name, index):
                pixels = image.plane(index)
            yield _frame(source.name, index, pixels, image, named)


def count(source: ByteSource) -> int:
    """The number of frames of a FITS file, from its header."""
    with _opened(source) as image:
        return image.number


class _Image:
    """An image extension, read plane by plane."""

    def __init__(self, hdu: Any, primary: Any) -> None:
        self.hdu = hdu
        self.shape = tuple(hdu.shape)
        # What belongs to all extensions may stand in the primary header only.
        self.header = {**_values(primary.header), **_values(hdu.header)}
        axis = str(self.header.get("CTYPE3", "")).upper()
        self.timed = axis.startswith("TIME") and str(self.header.get("CUNIT3", "s")).strip() == "s"
        self.colour_axis = None if axis.startswith("TIME") else _colour_axis(self.shape)

    @property
    def number(self) -> int:
        return self.shape[0] if len(self.shape) == 3 and self.colour_axis is None else 1

    def plane(self, index: int) -> np.ndarray:
        """``(y, x)`` or ``(y, x, 3)``, in the byte order of this machine."""
        # A section reads what it needs; `data` would take a whole cube into memory.
        counts = self.hdu.section[index] if self.number > 1 else self.hdu.section[...]
        if self.colour_axis == 0:
            counts = np.moveaxis(counts, 0, -1)
        elif self.number == 1 and counts.ndim == 3 and self.colour_axis is None:
            counts = counts[0]
        return np.ascontiguousarray(counts, dtype=counts.dtype.newbyteorder("="))


def _colour_axis(shape: tuple[int, ...]) -> int | None:
    return next((axis for axis in (0, 2) if len(shape) == 3 and shape[axis] == 3), None)


def _values(header: Any) -> dict[str, Any]:
    values = {}
    for key in header:
        if key and key not in ("COMMENT", "HISTORY"):
            with contextlib.suppress(Exception):  # a card that cannot be read says nothing
                values[key] = header[key]
    return values


@contextlib.contextmanager
def _opened(source: ByteSource) -> Iterator[_Image]:
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
            raise UnreadableFileError(f"{source.name}: a FITS file without an image; name one with an image")
        _check_shape(image, source.name)
        yield image


def _check_shape(image: _Image, where: str) -> None:
    if len(image.shape) > 3 or 0 in image.shape:
        raise UnreadableFileError(
            f"{where}: a FITS image of shape {image.shape}; a frame has two axes, and a colour or frame axis"
        )
    if np.prod(image.shape, dtype=float) / image.number > 3 * MAX_PIXELS:
        raise UnreadableFileError(
            f"{where}: the header promises a FITS image of shape {image.shape}; a frame has at most "
            f"{MAX_PIXELS // 10**6} million pixels"
        )


@contextlib.contextmanager
def _decoding(where: str, index: int) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            # astropy warns of each card that is not by the book; what cannot be read is an error.
            warnings.simplefilter("ignore")
            yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes decoders raise anything
        reason = str(error) or type(error).__name__
        raise UnreadableFileError(
            f"{where}: frame {index}: damaged FITS ({reason}); copy it again from its source"
        ) from error


# --- what a header means ------------------------------------------------------------------------


def _frame(path: str, index: int, pixels: np.ndarray, image: _Image, named: FilenameInfo) -> Frame:
    notes = ["an axis of length 3 is taken as colour"] if image.colour_axis is not None else []
    header = image.header
    time, problem = _time(image, index)
    if time is None:
        notes.append(f"{problem}; {'that of the file name' if named.time else 'none in the file name'}")
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
    """Start of a frame, or why there is none."""
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
        return None, f"DATE-OBS {text!r} in the header is no full time"
    step = header.get("CDELT3")
    if index and not (image.timed and isinstance(step, int | float)):
        return None, "the header has the time of the first frame only"
    return start + datetime.timedelta(seconds=index * float(step or 0)), ""


def _exposure(header: Mapping[str, Any]) -> float | None:
    with contextlib.suppress(ValueError, TypeError):
        exposure = float(_first(header, _EXPOSURE) or 0)
        return exposure if 0 < exposure < float("inf") else None
    return None
