"""What auroral all-sky cameras write, as frames with their UTC time, station and camera.

    >>> from geovision.readers.allsky import frames
    >>> for frame in frames("20140310_0600_gill_themis19_full.pgm.gz"):  # doctest: +SKIP
    ...     print(frame.time, frame.station, frame.pixels.shape)

- **PGM streams** of THEMIS, TREx (blue line, near infrared, spectrograph) and their like: 8 or 16
  bits, many frames a file, comments with times and station.
- **FITS** (extra ``[sky]``): one image, or a cube of colours or of frames.
- **Pictures**, grey or colour, in any format that Pillow reads, with the time in the file name.

The format is what the first bytes say, whatever the name says; gzip is unpacked. TREx RGB as HDF5 is
not read. Rows and columns stay as they stand in the file: nothing is turned or mirrored.

Files are read forwards in bounded memory: one frame at a time, whatever the file's length.
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
    b"\x89HDF": "HDF5, which this reader does not take; for TREx use the PGM or PNG streams",
}


def frames(source: PathOrStream, *, pattern: str | None = None, name: str = "") -> Iterator[Frame]:
    """The frames of one file, in its order, read as they are asked for.

    Where a file breaks, every whole frame before the break is given, and then the error is raised.
    In gzip a damaged byte may show only in the checksum at the very end, after frames with wrong
    pixels were given; the error then says that some frames of the file are wrong.

    Args:
        source: A path, or a stream that is open for reading bytes, as fsspec's files are. A stream
            is read from where it stands and left open.
        pattern: Where a file name holds time, station and camera; see `NamePattern`. Pictures have
            these from nowhere else. In the other formats it serves frames whose header lacks them;
            there None means the names of THEMIS and TREx, ``20140310_0600_gill_themis19_full.pgm.gz``.
        name: Name of a stream, where it does not know its own.

    Raises:
        UnreadableFileError: Missing, empty, of another format, broken, or with a header that
            cannot be true. Raised when the frame is reached, not by this call.
        InputError: The name of a picture does not fit the pattern.
        OptionError: A pattern that is none, or not a time in full.
        MissingExtraError: A FITS file without astropy.
    """
    return _frames(source, None if pattern is None else NamePattern(pattern), name)


def _frames(origin: PathOrStream, pattern: NamePattern | None, name: str) -> Iterator[Frame]:
    with open_bytes(origin, name) as source:
        yield from _format(source).read(source, pattern)


def count_frames(source: PathOrStream, *, name: str = "") -> int:
    """The number of frames in one file, without decoding a pixel.

    A file that is not packed is read at its headers only; gzip has to be unpacked. A stream is left
    somewhere after where it stood.

    Raises:
        UnreadableFileError: As `frames`: a file that breaks off has no number of frames.
        MissingExtraError: A FITS file without astropy.
    """
    with open_bytes(source, name) as unpacked:
        return _format(unpacked).count(unpacked)


def _format(source: ByteSource) -> ModuleType:
    """The module that reads this file: it has `read(source, pattern)` and `count(source)`."""
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
