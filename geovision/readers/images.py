"""Pictures as red, green and blue counts: any format that Pillow reads, upright, at one size.

What stands in a file is declared by its format, never guessed from its values:

- EXIF orientation is applied.
- Grey, palette and CMYK pictures become RGB. Colour profiles are not applied: the counts of a
  picture in another colour space are taken as sRGB.
- 16-bit grey counts are scaled by the full scale of their type, 65535. A camera that fills only 12
  of the 16 bits therefore looks dark; scale such pictures before.
- Transparent pixels show white, as on a page.
- Of an animation the first frame counts.
- 32-bit and floating-point pictures declare no full scale and are refused.
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
"""Pixels: a picture with a shorter side has no content to judge."""

_FULL_SCALE_16 = 65535
# Linear, so that a resized value never leaves the range of its neighbours, and antialiased.
_FILTER = Image.Resampling.BILINEAR
# Decoded straight to the size that is wanted, a picture keeps more noise than one resized to it, and
# one photo in thirty is answered otherwise; from twice the size, one in sixty, as from the whole.
_MARGIN = 2
_TRANSPOSED_ORIENTATIONS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width


def read_rgb(path: str | Path, spec: InputSpec, size: tuple[int, int] | None = None) -> np.ndarray:
    """The red, green and blue counts of one picture file.

    A JPEG that is much larger than `size` is decoded at 1/2, 1/4 or 1/8 of its scale, never below
    twice `size`, and resized from there.

    Args:
        path: A file.
        spec: The input it is read for; its `resize` says how it is brought to `size`.
        size: (height, width); None keeps the picture's own.

    Returns:
        uint8 ``(3, height, width)``, 0-255: a view of pixels that lie ``(height, width, 3)`` in
        memory, which is the order that channels-last networks take.

    Raises:
        UnreadableFileError: Missing, empty, truncated, not a picture, or too large (Pillow's limit
            for decompression bombs, twice `PIL.Image.MAX_IMAGE_PIXELS`, 179 million pixels).
        InputError: A side is shorter than `MIN_SIDE`, or the pixels have no declared full scale.
    """
    with _convert_decode_errors(path):
        with Image.open(path) as image:
            if size and spec.resize != "none":
                turned = image.getexif().get(ExifTags.Base.Orientation) in _TRANSPOSED_ORIENTATIONS
                height, width = size[::-1] if turned else size
                image.draft(None, (_MARGIN * width, _MARGIN * height))
            image.load()
        return rgb_counts(image, spec, size, where=str(path))


def rgb_counts(
    image: Image.Image, spec: InputSpec, size: tuple[int, int] | None = None, *, where: str = "image"
) -> np.ndarray:
    """The red, green and blue counts of a Pillow image. See `read_rgb`; `where` names it in errors."""
    upright = ImageOps.exif_transpose(image)
    if min(upright.size) < MIN_SIDE:
        width, height = upright.size
        raise InputError(f"{where}: {height}x{width} pixels; a picture needs {MIN_SIDE} or more a side")
    rgb = _rgb(upright, image.format, where)
    if size and spec.resize != "none":
        box = resize_box((rgb.height, rgb.width), size, crop=spec.resize == "crop")
        rgb = rgb.resize(size[::-1], _FILTER, box=box, reducing_gap=3.0)
    return np.array(rgb).transpose(2, 0, 1)


def resize_box(
    shape: tuple[int, int], size: tuple[int, int], *, crop: bool
) -> tuple[float, float, float, float]:
    """The part (left, upper, right, lower) of a picture of this shape that is brought to `size`.

    All of it, or with `crop` the largest centred part of the same proportions.

    >>> resize_box((100, 200), (50, 50), crop=True)
    (50.0, 0.0, 150.0, 100.0)
    """
    height, width = shape
    if not crop:
        return 0.0, 0.0, float(width), float(height)
    scale = min(height / size[0], width / size[1])
    kept_height, kept_width = scale * size[0], scale * size[1]
    left, upper = (width - kept_width) / 2, (height - kept_height) / 2
    return left, upper, left + kept_width, upper + kept_height


def window_margins(shape: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Cells to add above, below, left and right of a grid of this shape so that its middle `size` is what
    there is; below 0 they are to be cut off. An odd one is added or cut off below and on the right.

    >>> window_margins((800, 300), (512, 512))
    (-144, -144, 106, 106)
    """
    margins = []
    for there, wanted in zip(shape, size, strict=True):
        missing = wanted - there
        before = missing // 2 if missing >= 0 else -(-missing // 2)
        margins += [before, missing - before]
    above, below, left, right = margins
    return above, below, left, right


def _rgb(image: Image.Image, file_format: str | None, where: str) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format in ("PNG", "PPM")):
        # Pillow clips 16-bit counts when it converts them, and gives those of these formats as "I".
        counts = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((counts * 255 + _FULL_SCALE_16 // 2) // _FULL_SCALE_16).astype(np.uint8))
    if image.mode in ("I", "F"):
        kind = "32-bit" if image.mode == "I" else "floating-point"
        raise InputError(
            f"{where}: {kind} pixels have no declared full scale; convert the picture to 8 or 16 bits"
        )
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image if image.mode == "RGB" else image.convert("RGB")


@contextlib.contextmanager
def _convert_decode_errors(path: str | Path) -> Iterator[None]:
    """Turn whatever a decoder raises about a damaged file into one clear line."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise UnreadableFileError(f"{path}: no such file; check the path") from error
    except IsADirectoryError as error:
        raise UnreadableFileError(f"{path}: a folder, not a picture; name a file in it") from error
    except PermissionError as error:
        raise UnreadableFileError(f"{path}: may not be read; change its permissions") from error
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
    return "not a picture in any format that Pillow reads, whatever its name says"


def expand(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Files, folders and globs as a list of files.

    A file is taken whatever its name. A folder gives every file below it with the extension of a
    picture format, a glob (``**`` for any depth) every file that matches; both in natural order
    (``img2`` before ``img10``), without hidden files.

    Raises:
        UnreadableFileError: Something that is named is not there, or a folder or glob holds no picture.
    """
    given = [paths] if isinstance(paths, str | Path) else paths
    return [file for path in given for file in _expand_one(Path(path).expanduser())]


def _expand_one(path: Path) -> list[Path]:
    if path.is_dir():
        known = extensions()
        files = [file for file in _visible(path) if file.suffix.lower() in known]
        if not files:
            raise UnreadableFileError(f"{path}: no pictures in this folder; name one that holds some")
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
    # Hidden names hold thumbnails and the resource forks that macOS leaves ("._photo.jpg").
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(where, name) for name in names if not name.startswith("."))


def _natural_sort_key(path: Path) -> list[Any]:
    # Text and digits alternate, so that like is compared with like; the name itself breaks ties.
    parts = re.split(r"(\d+)", str(path))
    return [[int(part) if index % 2 else part.lower() for index, part in enumerate(parts)], str(path)]


def extensions() -> frozenset[str]:
    """The file extensions, as ``".jpg"``, of the formats that the installed Pillow decodes."""
    by_extension = Image.registered_extensions()  # loads every plugin

    def decodes(format_name: str) -> bool:
        # A stub only recognises its format (GRIB, HDF5, WMF); so does the MPEG plugin.
        opener = Image.OPEN.get(format_name)
        stub = opener is None or (
            isinstance(opener[0], type) and issubclass(opener[0], ImageFile.StubImageFile)
        )
        return not stub and format_name != "MPEG"

    return frozenset(extension for extension, name in by_extension.items() if decodes(name))
