"""Sequential bytes of one file or stream, decompressed from gzip."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from geovision.errors import InputError, UnreadableFileError

__all__ = ["MAX_PIXELS", "ByteSource", "PathOrStream", "open_bytes"]

PathOrStream: TypeAlias = str | os.PathLike[str] | BinaryIO
"""A path, or a stream opened for reading bytes."""

MAX_PIXELS = 64_000_000
"""Maximum number of pixels of one frame; no all-sky camera has more. Larger headers are rejected."""

_CHUNK, _LARGEST_CHUNK = 1 << 16, 1 << 22
_MAX_BUFFER_SIZE = 1 << 30  # bytes of a compressed file whose format needs random access
_GZIP = b"\x1f\x8b"


class ByteSource:
    """Bytes of one file, decompressed if necessary.

    The bytes before damage can still be read. The damage then appears as the end of the file, and
    `read_error` describes it.

    Args:
        stream: Binary stream, read forward from its current position.
        name: File name for messages.

    Attributes:
        name: File name for messages.
        read_error: Description of the first read error; empty if there was none.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.name = name
        self.read_error = ""
        self._stream = stream
        self._start = _position(stream)
        self._buffer, self._offset = b"", 0
        self._gzip_file: gzip.GzipFile | None = None
        if self.peek(2) == _GZIP:
            self._gzip_file = gzip.GzipFile(fileobj=_PrefixedStream(self._buffer, stream))
            self._buffer = b""

    def peek(self, size: int) -> bytes:
        """Return the next bytes without consuming them; fewer at the end.

        Args:
            size: Number of bytes.
        """
        self._fill(size)
        return self._buffer[self._offset : self._offset + size]

    def read(self, size: int) -> bytes:
        """Consume and return the next bytes; fewer at the end.

        Args:
            size: Number of bytes.
        """
        self._fill(size)
        content = self._buffer[self._offset : self._offset + size]
        self._offset += len(content)
        return content

    def skip(self, size: int) -> bool:
        """Skip bytes and return whether all of them exist.

        Args:
            size: Number of bytes.
        """
        buffered = len(self._buffer) - self._offset
        if size > buffered and self._gzip_file is None and self._start is not None:
            with contextlib.suppress(OSError, ValueError):
                # Seeking beyond the end does not fail, so the last byte is read to check that it exists.
                self._stream.seek(size - buffered - 1, os.SEEK_CUR)
                self._buffer, self._offset = b"", 0
                return len(self.read(1)) == 1
        while size:
            skipped = len(self.read(min(size, _CHUNK)))
            if not skipped:
                return False
            size -= skipped
        return True

    def file(self) -> BinaryIO:
        """Return the whole file as a seekable stream.

        Some decoders need random access. Call it before any other method than `peek`.

        Raises:
            UnreadableFileError: The stream cannot seek, and is damaged or larger than 1 GiB.
        """
        if self._start is not None:
            # Streams over HTTP report that they can seek, and may fail to do so.
            with contextlib.suppress(OSError, ValueError):
                self._stream.seek(self._start)
                wrapped = cast(BinaryIO, _NonClosingStream(self._stream, self._start))
                return cast(BinaryIO, gzip.GzipFile(fileobj=wrapped)) if self._gzip_file else wrapped
        content = self.read(_MAX_BUFFER_SIZE + 1)
        if len(content) > _MAX_BUFFER_SIZE:
            raise UnreadableFileError(
                f"{self.name}: more than 1 GiB in a stream that cannot seek; save it to a file first"
            )
        if self.read_error:
            raise UnreadableFileError(f"{self.name}: {self.read_error}; copy it again from its source")
        return io.BytesIO(content)

    def _fill(self, size: int) -> None:
        missing = size - (len(self._buffer) - self._offset)
        if missing <= 0:
            return
        parts = [self._buffer[self._offset :]]
        # Read in chunks: the size in a header may be wrong, and must not be allocated at once.
        while missing > 0 and (part := self._pull(min(max(missing, _CHUNK), _LARGEST_CHUNK))):
            parts.append(part)
            missing -= len(part)
        self._buffer, self._offset = b"".join(parts), 0

    def _pull(self, size: int) -> bytes:
        if self.read_error:
            return b""
        try:
            # read1, because read discards the data that it decompressed before the damage.
            part = self._gzip_file.read1(size) if self._gzip_file else self._stream.read(size)
        except MemoryError:
            raise
        except Exception as error:  # streams over a network raise anything
            self.read_error = _reason(error)
            return b""
        if not isinstance(part, bytes):
            raise InputError(f"{self.name}: a stream of text; open it in binary mode")
        return part


class _PrefixedStream(io.RawIOBase):
    """Stream with the bytes restored that were read to detect its format.

    The decoder then reads the stream from its beginning.
    """

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int = -1) -> bytes:
        if self._head:
            part, self._head = self._head[:size], self._head[size:]
            return part
        return self._stream.read(size)


class _NonClosingStream(io.RawIOBase):
    """Stream that stays open when a decoder closes it.

    Positions are relative to the original position of the stream.
    """

    def __init__(self, stream: BinaryIO, start: int) -> None:
        self._stream, self._start = stream, start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._stream.seek(offset + self._start * (whence == os.SEEK_SET), whence) - self._start

    def tell(self) -> int:
        return self._stream.tell() - self._start


def _reason(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "the gzip stream breaks off: truncated, or still being written"
    if isinstance(error, gzip.BadGzipFile) and "CRC" in str(error):
        return "the gzip checksum does not match: some of its frames are wrong"
    if isinstance(error, gzip.BadGzipFile | zlib.error):
        return f"damaged gzip ({error})"
    return f"could not be read ({getattr(error, 'strerror', None) or error or type(error).__name__})"


def _position(stream: Any) -> int | None:
    try:
        return stream.tell() if stream.seekable() else None
    except (AttributeError, OSError, ValueError):
        return None


@contextlib.contextmanager
def open_bytes(source: PathOrStream, name: str = "") -> Iterator[ByteSource]:
    """Open a path or a stream as a `ByteSource`.

    A path is closed afterwards; a stream stays open.

    Args:
        source: Path, or a stream opened for reading bytes.
        name: File name for messages. Default: ``""``, the path or the name of the stream.

    Yields:
        Bytes of the file.

    Raises:
        UnreadableFileError: The path is missing, a folder, or not readable.
    """
    if not isinstance(source, str | os.PathLike):
        yield ByteSource(source, name or _stream_name(source))
        return
    with _open(Path(source)) as stream:
        yield ByteSource(stream, name or str(source))


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise UnreadableFileError(f"{path}: no such file; check the path") from error
    except IsADirectoryError as error:
        raise UnreadableFileError(f"{path}: a folder, not a file; give a file in it") from error
    except PermissionError as error:
        raise UnreadableFileError(f"{path}: no read permission; change its permissions") from error
    except OSError as error:
        raise UnreadableFileError(
            f"{path}: could not be opened ({error.strerror}); check the path"
        ) from error


def _stream_name(stream: Any) -> str:
    names = (getattr(stream, "path", None), getattr(stream, "name", None))
    return next((name for name in names if isinstance(name, str)), "stream")
