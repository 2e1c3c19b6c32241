"""Radar pictures as their counts in two polarisations, in the published layout of polar lows.

A picture is an 8-bit RGB file. Red and green are the cross-polarised channel, twice the same, blue is
the co-polarised; 0 in all three is no data. A published file does not say how large its pixels are:
they are 500 m. One that does, in a PNG text entry ``pixel_size`` in metres, is believed.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from geovision._atomic_io import write_files
from geovision.errors import InputError
from geovision.readers.images import expand, read_rgb, window_margins
from geovision.spec import InputSpec

__all__ = [
    "PUBLISHED_PIXEL_SIZE",
    "average_counts",
    "expand",
    "read_counts",
    "read_pixel_size",
    "write_image",
]

PUBLISHED_PIXEL_SIZE = 500.0
"""Metres."""

_PIXEL_SIZE_KEY = "pixel_size"


def read_counts(path: str | Path, spec: InputSpec, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Cross- and co-polarised counts of one file, at the pixel size of `spec`.

    Args:
        path: A file.
        spec: The input it is read for; its `pixel_size` says how much ground a pixel covers.
        size: (height, width) of the middle part that is cut out, 0 beyond the picture; None: all.

    Returns:
        uint8 ``(2, height, width)``, 0 where there is no data.

    Raises:
        UnreadableFileError: As for any picture.
        InputError: No such composite, more than 8 bits, or pixels that are no whole multiple of the file's.
    """
    rgb = read_rgb(path, spec)
    _check_depth(path)
    counts = _polarizations(rgb, str(path))
    factor = _factor(read_pixel_size(path), spec.pixel_size, str(path))
    counts = average_counts(counts, factor)
    return counts if size is None else _window(counts, size)


def read_pixel_size(path: str | Path) -> float:
    """Metres that a pixel of a file is wide, by its own word, or else as published.

    Raises:
        InputError: Its word is no length.
    """
    with Image.open(path) as picture:
        said = picture.info.get(_PIXEL_SIZE_KEY)
    if said is None:
        return PUBLISHED_PIXEL_SIZE
    try:
        metres = float(said)
    except ValueError:
        metres = 0.0
    if not metres > 0:
        raise InputError(f"{path}: its entry {_PIXEL_SIZE_KEY!r} is {said!r}, which is no length in metres")
    return metres


def _check_depth(path: str | Path) -> None:
    """Raise if a picture had more than the 8 bits that are left of it when it is read as RGB."""
    with Image.open(path) as picture:  # Pillow tells before it loads one
        if picture.mode[0] in "IF" or any(";16" in repr(tile.args) for tile in picture.tile):
            raise InputError(
                f"{path}: more than 8 bits a colour; the published scale is that of 8-bit counts"
            )


def _polarizations(rgb: NDArray[np.uint8], where: str) -> NDArray[np.uint8]:
    red, green, blue = rgb
    if not np.array_equal(red, green):
        raise InputError(
            f"{where}: red and green differ; a radar picture has the cross-polarised channel in both, and "
            "the co-polarised in blue"
        )
    if np.array_equal(green, blue) and red.any():
        raise InputError(f"{where}: a grey picture, so one polarisation is missing; both are needed")
    return np.stack([red, blue])


def _factor(own: float, wanted: float | None, where: str) -> int:
    """How many pixels of a file make one that is wanted, along each side."""
    if wanted is None:
        return 1
    factor = round(wanted / own)
    if factor < 1 or abs(factor * own - wanted) > 1e-6 * wanted:
        raise InputError(
            f"{where}: pixels of {own:g} m cannot be averaged to {wanted:g} m; take a whole multiple, or a "
            "picture with finer pixels"
        )
    return factor


def average_counts(counts: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Means over `factor` x `factor` pixels, of those that have data, rounded to whole counts.

    The mean of the counts is what can be had: how counts follow from backscatter is not known. If they
    are linear in decibels, as is usual, it is the geometric mean of the power: below the power of the
    whole area, the more so the more it varies within. A coarse pixel has data where half or more of it
    have; rows and columns beyond the last whole pixel count as without.

    Args:
        counts: uint8 ``(channel, y, x)``, 0 in all channels where there is no data.

    Returns:
        uint8 ``(channel, ceil(y / factor), ceil(x / factor))``.

    >>> average_counts(np.array([[[10, 20, 0], [30, 0, 0]]], np.uint8), 2).tolist()
    [[[20, 0]]]
    """
    if factor == 1:
        return counts
    channels, height, width = counts.shape
    padded = np.pad(counts, ((0, 0), (0, -height % factor), (0, -width % factor)))
    blocks = padded.reshape(channels, padded.shape[1] // factor, factor, -1, factor)
    there = blocks.any(axis=0).sum(axis=(1, 3))
    total = blocks.sum(axis=(2, 4), dtype=np.int64)
    mean = np.rint(total / np.maximum(there, 1)).astype(np.uint8)
    return np.where(2 * there >= factor * factor, mean, np.uint8(0))


def _window(counts: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    above, below, left, right = window_margins(counts.shape[1:], size)  # type: ignore[arg-type]
    height, width = counts.shape[1:]
    kept = counts[:, max(-above, 0) : height - max(-below, 0), max(-left, 0) : width - max(-right, 0)]
    margins = ((0, 0), (max(above, 0), max(below, 0)), (max(left, 0), max(right, 0)))
    return np.ascontiguousarray(np.pad(kept, margins))


def write_image(path: Path, counts: NDArray[np.uint8], pixel_size: float = PUBLISHED_PIXEL_SIZE) -> None:
    """Write cross- and co-polarised counts as a picture of the published kind.

    Args:
        path: Of the PNG; its folder is made.
        counts: ``(2, y, x)``, 0 where there is no data.
        pixel_size: Metres; other than the published one it is written into the file.

    Raises:
        StorageError: It could not be written.
    """
    stream = io.BytesIO()
    about = PngImagePlugin.PngInfo()
    if pixel_size != PUBLISHED_PIXEL_SIZE:
        about.add_text(_PIXEL_SIZE_KEY, f"{pixel_size:g}")
    picture = Image.fromarray(np.ascontiguousarray(counts[[0, 0, 1]].transpose(1, 2, 0)))
    picture.save(stream, "PNG", pnginfo=about, compress_level=1)
    write_files(path.parent, {path.name: lambda temporary: _write_bytes(temporary, stream.getvalue())})


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
