"""Reader and writer of SAR images of polar lows.

They contain counts in two polarizations, in the published layout. An image is an 8-bit RGB file. Red and
green both contain the cross-polarized channel, and blue the co-polarized channel; 0 in all three means no
data. A published file does not contain its pixel size, which is 500 m. A PNG text entry ``pixel_size``, in
meters, overrides it.
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
"""Pixel size of published files, in m."""

_PIXEL_SIZE_KEY = "pixel_size"


def read_counts(path: str | Path, spec: InputSpec, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Read cross- and co-polarized counts of one file.

    They are averaged to the pixel size of `spec`.

    Args:
        path: Path of the file.
        spec: Specification of the input; its `pixel_size` is the requested pixel size in m.
        size: Height and width of the central window in pixels, 0 beyond the image. Default: None, the
            whole image.

    Returns:
        Counts, uint8, shape ``(2, height, width)``, 0 where there are no data.

    Raises:
        UnreadableFileError: The file is missing or damaged, as for any image.
        InputError: The file is not such a composite or has more than 8 bits, or the requested pixel size
            is not an integer multiple of that of the file.
    """
    rgb = read_rgb(path, spec)
    _check_depth(path)
    counts = _polarizations(rgb, str(path))
    factor = _factor(read_pixel_size(path), spec.pixel_size, str(path))
    counts = average_counts(counts, factor)
    return counts if size is None else _window(counts, size)


def read_pixel_size(path: str | Path) -> float:
    """Return the pixel size of a file, in m.

    It is read from the text entry of the file; otherwise the published size is returned.

    Args:
        path: Path of the file.

    Raises:
        InputError: The text entry is not a length.
    """
    with Image.open(path) as image:
        text = image.info.get(_PIXEL_SIZE_KEY)
    if text is None:
        return PUBLISHED_PIXEL_SIZE
    try:
        meters = float(text)
    except ValueError:
        meters = 0.0
    if not meters > 0:
        raise InputError(f"{path}: the entry {_PIXEL_SIZE_KEY!r} is {text!r}; expected a length in meters")
    return meters


def _check_depth(path: str | Path) -> None:
    """Raise if an image has more than 8 bits per color.

    Reading it as RGB keeps only 8 bits.
    """
    with Image.open(path) as image:  # Pillow reports the depth before it loads the pixels
        if image.mode[0] in "IF" or any(";16" in repr(tile.args) for tile in image.tile):
            raise InputError(
                f"{path}: more than 8 bits per color; expected 8-bit counts on the published scale"
            )


def _polarizations(rgb: NDArray[np.uint8], where: str) -> NDArray[np.uint8]:
    red, green, blue = rgb
    if not np.array_equal(red, green):
        raise InputError(
            f"{where}: red and green differ; expected the cross-polarized channel in both, and the "
            "co-polarized channel in blue"
        )
    if np.array_equal(green, blue) and red.any():
        raise InputError(f"{where}: a gray image, so one polarization is missing; both are required")
    return np.stack([red, blue])


def _factor(own: float, requested: float | None, where: str) -> int:
    """Return the number of file pixels per requested pixel, per side."""
    if requested is None:
        return 1
    factor = round(requested / own)
    if factor < 1 or abs(factor * own - requested) > 1e-6 * requested:
        raise InputError(
            f"{where}: pixels of {own:g} m cannot be averaged to {requested:g} m; choose an integer "
            "multiple, or an image with finer pixels"
        )
    return factor


def average_counts(counts: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Average counts over blocks of pixels, rounded to integers.

    Only pixels with data are averaged. The mean of the counts is used, because the relation of counts and
    backscatter is unknown. If counts are linear in decibels, as is usual, it is the geometric mean of
    the power. That is below the power of the whole area, and more so the more the power varies within it.
    A coarse pixel has data if at least half of its pixels have. Missing rows and columns of an incomplete
    last block count as pixels without data.

    >>> average_counts(np.array([[[10, 20, 0], [30, 0, 0]]], np.uint8), 2).tolist()
    [[[20, 0]]]

    Args:
        counts: Counts, uint8, shape ``(channel, y, x)``, 0 in all channels where there are no data.
        factor: Number of pixels per block, along each side.

    Returns:
        Counts, uint8, shape ``(channel, ceil(y / factor), ceil(x / factor))``.
    """
    if factor == 1:
        return counts
    channels, height, width = counts.shape
    padded = np.pad(counts, ((0, 0), (0, -height % factor), (0, -width % factor)))
    blocks = padded.reshape(channels, padded.shape[1] // factor, factor, -1, factor)
    valid = blocks.any(axis=0).sum(axis=(1, 3))
    total = blocks.sum(axis=(2, 4), dtype=np.int64)
    mean = np.rint(total / np.maximum(valid, 1)).astype(np.uint8)
    return np.where(2 * valid >= factor * factor, mean, np.uint8(0))


def _window(counts: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    above, below, left, right = window_margins(counts.shape[1:], size)  # type: ignore[arg-type]
    height, width = counts.shape[1:]
    kept = counts[:, max(-above, 0) : height - max(-below, 0), max(-left, 0) : width - max(-right, 0)]
    margins = ((0, 0), (max(above, 0), max(below, 0)), (max(left, 0), max(right, 0)))
    return np.ascontiguousarray(np.pad(kept, margins))


def write_image(path: Path, counts: NDArray[np.uint8], pixel_size: float = PUBLISHED_PIXEL_SIZE) -> None:
    """Write cross- and co-polarized counts as an image in the published layout.

    Args:
        path: Path of the PNG; its folder is created.
        counts: Counts, uint8, shape ``(2, y, x)``, 0 where there are no data.
        pixel_size: Pixel size in m, written into the file unless it is the published one. Default: 500.0.

    Raises:
        StorageError: The file could not be written.
    """
    stream = io.BytesIO()
    metadata = PngImagePlugin.PngInfo()
    if pixel_size != PUBLISHED_PIXEL_SIZE:
        metadata.add_text(_PIXEL_SIZE_KEY, f"{pixel_size:g}")
    image = Image.fromarray(np.ascontiguousarray(counts[[0, 0, 1]].transpose(1, 2, 0)))
    image.save(stream, "PNG", pnginfo=metadata, compress_level=1)
    write_files(path.parent, {path.name: lambda temporary: _write_bytes(temporary, stream.getvalue())})


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
