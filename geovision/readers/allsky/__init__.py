"""Frames of auroral all-sky cameras, with UTC time, station and camera.

    >>> from geovision.readers.allsky import frames
    >>> for frame in frames("20140310_0600_gill_themis19_full.pgm.gz"):  # doctest: +SKIP
    ...     print(frame.time, frame.station, frame.pixels.shape)

- **PGM streams** of THEMIS, TREx (blue line, near infrared, spectrograph) and similar cameras: 8 or 16
  bits, many frames per file, comments with times and station.
- **FITS** (extra ``[sky]``): one image, or a cube of colors or of frames.
- **Image files**, gray or color, in any format that Pillow reads, with the time in the file name.

The format is detected from the first bytes of a file, not from its name. Gzip is decompressed. TREx RGB
files in HDF5 are not supported. Frames keep the orientation of the file; nothing is rotated or flipped.

Files are read sequentially with bounded memory: one frame at a time, for any file length.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

from geovision.errors import UnreadableFileError
from geovision.readers.allsky import fits, image_files, pgm
from geovision.readers.allsky.byte_source import ByteSource, PathOrStream, open_bytes
from geovision.readers.allsky.circle import Circle, circle_mask, find_circle
from geovision.readers.allsky.filename_pattern import NamePattern
from geovision.readers.allsky.frame import Frame, clock_jumps
from geovision.readers.allsky.pgm import write_pgm
from geovision.readers.allsky.stretch import MIN_FRAMES, Stretch, estimate_stretch, to_rgb

__all__ = [
    "MIN_FRAMES",
    "Circle",
    "Frame",
    "NamePattern",
    "Stretch",
    "circle_mask",
    "clock_jumps",
    "count_frames",
    "estimate_stretch",
    "find_circle",
    "frames",
    "to_rgb",
    "write_pgm",
]

_UNSUPPORTED_FORMATS = {
    b"P2": "a PGM in decimal text (P2); convert it to binary PGM (P5)",
    b"\x89HDF": "HDF5, which is not supported; for TREx use the PGM or PNG streams",
}


def frames(source: PathOrStream, *, pattern: str | None = None, name: str = "") -> Iterator[Frame]:
    """Iterate over the frames of one file, in file order.

    A damaged file yields every complete frame before the damage, and then raises the error. In gzip,
    damage may only be detected by the checksum at the end, after frames with wrong pixels were
    returned. The error then reports that some frames of the file are wrong.

    Args:
        source: Path, or a stream opened for reading bytes, such as the files of fsspec. A stream is
            read from its current position and left open.
        pattern: Pattern of the file name with time, station and camera; see `NamePattern`. Image
            files have no other source of these. In the other formats the pattern is used for frames
            whose header lacks them. Default: None, the names of THEMIS and TREx for PGM streams,
            ``20140310_0600_gill_themis19_full.pgm.gz``, and no pattern for the other formats.
        name: File name of a stream that has no name of its own. Default: ``""``.

    Yields:
        Frames, decoded one by one.

    Raises:
        UnreadableFileError: The file is missing, empty, damaged, of another format, or has an
            impossible header. Raised when the frame is reached, not by this call.
        InputError: The name of an image file does not match the pattern.
        OptionError: The pattern is invalid or does not contain a complete time.
        MissingExtraError: The file is FITS and astropy is not installed.
    """
    return _frames(source, None if pattern is None else NamePattern(pattern), name)


def _frames(origin: PathOrStream, pattern: NamePattern | None, name: str) -> Iterator[Frame]:
    with open_bytes(origin, name) as source:
        yield from _format(source).read(source, pattern)


def count_frames(source: PathOrStream, *, name: str = "") -> int:
    """Return the number of frames in one file without decoding pixels.

    Only the headers of an uncompressed file are read; gzip has to be decompressed. A stream is not
    returned to its original position.

    Args:
        source: Path, or a stream opened for reading bytes.
        name: File name of a stream that has no name of its own. Default: ``""``.

    Returns:
        Number of frames.

    Raises:
        UnreadableFileError: The errors of `frames`; a truncated file has no number of frames.
        MissingExtraError: The file is FITS and astropy is not installed.
    """
    with open_bytes(source, name) as unpacked:
        return _format(unpacked).count(unpacked)


def _format(source: ByteSource) -> ModuleType:
    """Return the module with `read(source, pattern)` and `count(source)` for this file."""
    head = source.peek(9)
    if not head:
        raise UnreadableFileError(
            f"{source.name}: {source.read_error or 'an empty file (0 bytes)'}; copy it again from its source"
        )
    for magic, reason in _UNSUPPORTED_FORMATS.items():
        if head.startswith(magic):
            raise UnreadableFileError(f"{source.name}: {reason}")
    if head.startswith(b"P5"):
        return pgm
    return fits if head.startswith(b"SIMPLE  =") else image_files
