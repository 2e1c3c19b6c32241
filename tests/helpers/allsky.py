"""All-sky frames and files for tests."""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from geovision.errors import InputError
from geovision.readers.allsky import Frame

START = datetime.datetime(2014, 3, 10, 6, 0, 0, 63119, tzinfo=datetime.UTC)
SIZE = 24 * 32 * 2  # bytes of pixel data per frame of `night`


COLOUR = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
GREY = np.random.default_rng(1).integers(0, 65535, (12, 16), dtype=np.uint16)
KEYS = {"DATE-OBS": "2014-03-10T06:02:00.048", "EXPTIME": 1.5, "SITE": "kevo", "INSTRUME": "emccd-2"}


def frame(index: int, shape: tuple[int, ...] = (24, 32), dtype: type = np.uint16, **fields) -> Frame:
    counts = np.random.default_rng(index).integers(0, np.iinfo(dtype).max, shape, endpoint=True)
    start = START + datetime.timedelta(seconds=3 * index)
    known = {"station": "gill", "device": "themis19", "exposure": 0.999, "path": "", "index": index}
    return Frame(counts.astype(dtype), start, **known | fields)


def same(read: Frame, written: Frame) -> bool:
    fields = ("time", "station", "device", "exposure", "latitude", "longitude")
    return (
        np.array_equal(read.pixels, written.pixels)
        and read.pixels.dtype == written.pixels.dtype
        and all(getattr(read, name) == getattr(written, name) for name in fields)
    )


def header(comments: str = "", size: str = "4 3", maxval: str = "65535") -> bytes:
    return f"P5\n{comments}{size}\n{maxval}\n".encode()


def message(stream: Iterator[Frame]) -> tuple[int, str]:
    """Return the number of frames before the error, and the error message."""
    number = -1
    with pytest.raises(InputError) as caught:
        for number, _ in enumerate(stream):  # noqa: B007 - the number of frames is returned
            pass
    text = str(caught.value)
    assert "\n" not in text
    return number + 1, text


def save(path: Path, counts: np.ndarray, **options) -> Path:
    Image.fromarray(counts).save(path, **options)
    return path


def save_fits(path: Path, counts: np.ndarray, **keys: object) -> Path:
    fits.PrimaryHDU(counts, fits.Header(KEYS | keys)).writeto(path)
    return path


class Pipe(io.RawIOBase):
    """Stream that returns a few bytes per read and cannot seek, like a socket."""

    def __init__(self, content: bytes, then: Exception | None = None) -> None:
        self._inside, self._then = io.BytesIO(content), then

    def read(self, size: int = -1) -> bytes:
        part = self._inside.read(min(size, 700) if size > 0 else 700)
        if not part and self._then:
            raise self._then
        return part
