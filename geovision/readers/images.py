"""Reader of images as red, green and blue counts.

Any format of Pillow is read, upright, at one size.

The interpretation of a file follows from its format, never from its values:

- EXIF orientation is applied.
- Gray, palette and CMYK images become RGB. Color profiles are not applied: the counts of an image in
  another color space are interpreted as sRGB.
- 16-bit gray counts are scaled by the full scale of their type, 65535. An image from a camera that
  fills only 12 of the 16 bits therefore appears dark; scale such images first.
- Transparent pixels become white, as on a page.
- The first frame of an animation is used.
- 32-bit and floating-point images have no declared full scale and raise an error.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from geovision.errors import InputError, UnreadableFileError
from geovision.spec import InputSpec

__all__ = ["MIN_SIDE", "expand", "extensions", "read_rgb", "resize_box", "rgb_counts", "window_margins"]

MIN_SIDE = 8
"""Minimum length of a side in pixels: smaller images have no usable content."""

_FULL_SCALE_16 = 65535
# Linear, so that resized values stay in the range of their neighbors, and antialiased.
_FILTER = Image.Resampling.BILINEAR
# Decoding a JPEG directly at the requested size keeps more noise than resizing, and changes the predicted
# class of one photo in thirty. From twice the size it changes one in sixty, as does full-scale decoding.
_MARGIN = 2
_TRANSPOSED_ORIENTATIONS = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def read_rgb(path: str | Path, spec: InputSpec, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read the red, green and blue counts of one image file.

    A JPEG much larger than `size` is decoded at 1/2, 1/4 or 1/8 of its scale, never below twice `size`,
    and then resized.

    Args:
        path: Path of the file.
        spec: Specification of the input; its `resize` defines how the image is resized to `size`.
        size: Height and width in pixels. Default: None, the size of the image.

    Returns:
        Counts, uint8, shape ``(3, height, width)``, 0-255. The array is a view of memory in the order
        ``(height, width, 3)``, as channels-last networks expect.

    Raises:
        UnreadableFileError: The file is missing, empty, truncated, not an image, or too large (Pillow's
            limit for decompression bombs, twice `PIL.Image.MAX_IMAGE_PIXELS`, 179 million pixels).
        InputError: A side is shorter than `MIN_SIDE`, or the pixels have no declared full scale.
    """
    with _convert_decode_errors(path):
        with Image.open(path) as image:
            if size and spec.resize != "none":
                transposed = image.getexif().get(ExifTags.Base.Orientation) in _TRANSPOSED_ORIENTATIONS
                height, width = size[::-1] if transposed else size
                image.draft(None, (_MARGIN * width, _MARGIN * height))
            image.load()
        return rgb_counts(image, spec, size, where=str(path))


def rgb_counts(
    image: Image.Image, spec: InputSpec, size: tuple[int, int] | None = None, *, where: str = "image"
) -> np.ndarray:
    """Convert a Pillow image to red, green and blue counts.

    The conversion is that of `read_rgb`.

    Args:
        image: Image of Pillow.
        spec: Specification of the input; its `resize` defines how the image is resized to `size`.
        size: Height and width in pixels. Default: None, the size of the image.
        where: Name of the image in error messages. Default: ``"image"``.

    Returns:
        Counts, uint8, shape ``(3, height, width)``, 0-255.

    Raises:
        InputError: A side is shorter than `MIN_SIDE`, or the pixels have no declared full scale.
    """
    upright = ImageOps.exif_transpose(image)
    if min(upright.size) < MIN_SIDE:
        width, height = upright.size
        raise InputError(f"{where}: {height}x{width} pixels; an image needs at least {MIN_SIDE} on each side")
    rgb = _rgb(upright, image.format, where)
    if size and spec.resize != "none":
        box = resize_box((rgb.height, rgb.width), size, crop=spec.resize == "crop")
        rgb = rgb.resize(size[::-1], _FILTER, box=box, reducing_gap=3.0)
    return np.array(rgb).transpose(2, 0, 1)


def resize_box(
    shape: tuple[int, int], size: tuple[int, int], *, crop: bool
) -> tuple[float, float, float, float]:
    """Return the part of an image that is resized to `size`.

    >>> resize_box((100, 200), (50, 50), crop=True)
    (50.0, 0.0, 150.0, 100.0)

    Args:
        shape: Height and width of the image, in pixels.
        size: Height and width after resizing, in pixels.
        crop: Whether to use the largest centered part with the proportions of `size`, instead of the
            whole image.

    Returns:
        Left, upper, right and lower edge of the part, in pixels.
    """
    height, width = shape
    if not crop:
        return 0.0, 0.0, float(width), float(height)
    scale = min(height / size[0], width / size[1])
    kept_height, kept_width = scale * size[0], scale * size[1]
    left, upper = (width - kept_width) / 2, (height - kept_height) / 2
    return left, upper, left + kept_width, upper + kept_height


def window_margins(shape: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the margins that center a window of `size` on a grid.

    >>> window_margins((800, 300), (512, 512))
    (-144, -144, 106, 106)

    Args:
        shape: Height and width of the grid, in cells.
        size: Height and width of the window, in cells.

    Returns:
        Number of cells to add above, below, left and right; negative numbers are cells to cut off. An odd
        cell is added or cut off below and on the right.
    """
    margins = []
    for length, requested in zip(shape, size, strict=True):
        missing = requested - length
        before = missing // 2 if missing >= 0 else -(-missing // 2)
        margins += [before, missing - before]
    above, below, left, right = margins
    return above, below, left, right


def _rgb(image: Image.Image, file_format: str | None, where: str) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format in ("PNG", "PPM")):
        # Pillow clips 16-bit counts when it converts them, and returns those of these formats as "I".
        counts = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((counts * 255 + _FULL_SCALE_16 // 2) // _FULL_SCALE_16).astype(np.uint8))
    if image.mode in ("I", "F"):
        kind = "32-bit" if image.mode == "I" else "floating-point"
        raise InputError(
            f"{where}: {kind} pixels have no declared full scale; convert the image to 8 or 16 bits"
        )
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image if image.mode == "RGB" else image.convert("RGB")


@contextlib.contextmanager
def _convert_decode_errors(path: str | Path) -> Iterator[None]:
    """Convert exceptions of decoders to errors with a one-line message."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise UnreadableFileError(f"{path}: no such file; check the path") from error
    except IsADirectoryError as error:
        raise UnreadableFileError(f"{path}: a folder, not an image; give a file in it") from error
    except PermissionError as error:
        raise UnreadableFileError(f"{path}: no read permission; change its permissions") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise UnreadableFileError(
            f"{path}: too many pixels, perhaps a decompression bomb (the limit is {limit:.0f} million); "
            "if you trust the file, raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from error
    except UnidentifiedImageError as error:
        raise UnreadableFileError(f"{path}: {_unknown_format_reason(Path(path))}") from error
    except Exception as error:  # a damaged file makes decoders raise anything
        reason = str(error) or type(error).__name__
        raise UnreadableFileError(f"{path}: damaged ({reason}); copy it again from its source") from error


def _unknown_format_reason(path: Path) -> str:
    if path.stat().st_size == 0:
        return "an empty file (0 bytes); copy it again from its source"
    if path.suffix.lower() in (".heic", ".heif"):
        return "Pillow reads HEIC only after `pip install pillow-heif` and its register_heif_opener()"
    return "not an image in a format of Pillow; convert or remove it"


def expand(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Expand files, folders and glob patterns to a list of files.

    A file is included whatever its name. A folder is expanded to all files below it with the extension
    of an image format. A glob pattern (``**`` for any depth) is expanded to all matching files. Both are in
    natural order (``img2`` before ``img10``), without hidden files.

    Args:
        paths: One or several files, folders or glob patterns.

    Returns:
        Files.

    Raises:
        UnreadableFileError: A path does not exist, or a folder or glob contains no image.
    """
    given = [paths] if isinstance(paths, str | Path) else paths
    return [file for path in given for file in _expand_one(Path(path).expanduser())]


def _expand_one(path: Path) -> list[Path]:
    if path.is_dir():
        known = extensions()
        files = [file for file in _visible(path) if file.suffix.lower() in known]
        if not files:
            raise UnreadableFileError(f"{path}: no images in this folder; choose a folder with images")
        return sorted(files, key=_natural_sort_key)
    if not path.exists() and glob.has_magic(str(path)):
        matches = glob.glob(str(path), recursive=True)  # noqa: PTH207 - the pattern may be absolute
        files = [file for file in map(Path, matches) if file.is_file()]
        if not files:
            raise UnreadableFileError(f"{path}: no file matches this pattern; check it")
        return sorted(files, key=_natural_sort_key)
    if not path.exists():
        raise UnreadableFileError(f"{path}: no such file or folder; check the path")
    return [path]


def _visible(folder: Path) -> Iterator[Path]:
    # Hidden files are thumbnails and the resource forks of macOS ("._photo.jpg").
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(where, name) for name in names if not name.startswith("."))


def _natural_sort_key(path: Path) -> list[Any]:
    # Text and digits alternate, so equal types are compared; the name itself breaks ties.
    parts = re.split(r"(\d+)", str(path))
    return [[int(part) if index % 2 else part.lower() for index, part in enumerate(parts)], str(path)]


def extensions() -> frozenset[str]:
    """Return the file extensions that Pillow decodes, such as ``".jpg"``."""
    by_extension = Image.registered_extensions()  # loads every plugin

    def decodes(format_name: str) -> bool:
        # A stub only recognizes its format (GRIB, HDF5, WMF); so does the MPEG plugin.
        opener = Image.OPEN.get(format_name)
        stub = opener is None or (
            isinstance(opener[0], type) and issubclass(opener[0], ImageFile.StubImageFile)
        )
        return not stub and format_name != "MPEG"

    return frozenset(extension for extension, name in by_extension.items() if decodes(name))
