"""All-sky image files, gray or color, in any format of Pillow.

The time is in the file name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from geovision.errors import InputError, UnreadableFileError
from geovision.readers.allsky.byte_source import MAX_PIXELS, ByteSource
from geovision.readers.allsky.filename_pattern import FilenameInfo, NamePattern
from geovision.readers.allsky.frame import Frame
from geovision.readers.images import rgb_counts
from geovision.spec import InputSpec

__all__ = ["count", "read"]

_NATIVE_SPEC = InputSpec("frame", ())  # resize "none"


def read(source: ByteSource, pattern: NamePattern | None) -> Iterator[Frame]:
    """Read the single frame of an image file; see `geovision.readers.allsky.frames`.

    Gray images stay gray, with 8 or 16 bits. All others become 8-bit RGB as in
    `geovision.readers.images`. The first frame of an animation is used.

    Args:
        source: Bytes of the file.
        pattern: Pattern of the file name; None if the name has no time.

    Yields:
        One frame.

    Raises:
        InputError: The name does not match the pattern.
        UnreadableFileError: The file is damaged, too large, or not an image.
    """
    named = pattern.parse(source.name) if pattern else FilenameInfo()
    with _decoding(source), Image.open(source.file()) as image:
        _check_size(image, source.name)
        image.load()
        exposure = _exposure(image)
        pixels = _pixels(image, source.name)
    found = {"time": named.time, "station": named.station, "device": named.device}
    why = "the pattern has none" if pattern else "give the pattern of the file names"
    notes = tuple(f"no {kind}; {why}" for kind, value in found.items() if value is None)
    yield Frame(pixels, named.time, named.station, named.device, exposure, source.name, 0, notes=notes)


def count(source: ByteSource) -> int:
    """Return 1 for a file that Pillow recognizes.

    Args:
        source: Bytes of the file.
    """
    with _decoding(source), Image.open(source.file()):
        return 1


def _pixels(image: Image.Image, where: str) -> np.ndarray:
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    if deep or image.mode == "L":
        upright = np.asarray(ImageOps.exif_transpose(image))
        return upright.astype(np.uint16 if deep else np.uint8)
    return np.ascontiguousarray(rgb_counts(image, _NATIVE_SPEC, where=where).transpose(1, 2, 0))


def _exposure(image: Image.Image) -> float | None:
    with contextlib.suppress(Exception):  # unreadable EXIF is ignored; the pixels are still valid
        exposure = float(image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime])
        return exposure if 0 < exposure < float("inf") else None
    return None


def _check_size(image: Image.Image, where: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableFileError(
            f"{where}: {image.height}x{image.width} pixels; a frame has at most {MAX_PIXELS // 10**6} million"
        )


@contextlib.contextmanager
def _decoding(source: ByteSource) -> Iterator[None]:
    try:
        yield
    except (InputError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise UnreadableFileError(
            f"{source.name}: not PGM, FITS or an image in a format of Pillow; convert or remove it"
        ) from error
    except Exception as error:  # a damaged file makes decoders raise anything
        reason = str(error) or type(error).__name__
        raise UnreadableFileError(
            f"{source.name}: damaged ({reason}); copy it again from its source"
        ) from error
