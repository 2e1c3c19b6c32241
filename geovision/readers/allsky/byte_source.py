"""The bytes of one file, forwards: from a path or a stream, unpacked from gzip."""

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
"""A path, or a stream that is open for reading bytes."""

MAX_PIXELS = 64_000_000
"""Of one frame. No all-sky camera has as many; a header that promises more is not believed."""

_CHUNK, _LARGEST_CHUNK = 1 << 16, 1 << 22
_MAX_BUFFER_SIZE = 1 << 30  # bytes of a packed file of a format that has to be read to and fro
_GZIP = b"\x1f\x8b"


class ByteSource:
    """The bytes of one file, unpacked where they are packed.

    Where the file breaks, what stands before the break can still be read: it then looks like the
    end, and `read_error` says what happened.

    Args:
        stream: Read from where it stands, forwards.
        name: For messages.
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
        """The next bytes, without going on; fewer at the end."""
        self._fill(size)
        return self._buffer[self._offset : self._offset + size]

    def read(self, size: int) -> bytes:
        """The next bytes; fewer at the end."""
        self._fill(size)
        taken = self._buffer[self._offset : self._offset + size]
        self._offset += len(taken)
        return taken

    def skip(self, size: int) -> bool:
        """Go on by so many bytes; whether there were as many."""
        held = len(self._buffer) - self._offset
        if size > held and self._gzip_file is None and self._start is not None:
            with contextlib.suppress(OSError, ValueError):
                # Only a byte that was read is known to be there: one can seek behind any end.
                self._stream.seek(size - held - 1, os.SEEK_CUR)
                self._buffer, self._offset = b"", 0
                return len(self.read(1)) == 1
        while size:
            gone = len(self.read(min(size, _CHUNK)))
            if not gone:
                return False
            size -= gone
        return True

    def file(self) -> BinaryIO:
        """The whole file as one that can seek, for decoders that read to and fro.

        To be called before anything but `peek`.
        """
        if self._start is not None:
            with contextlib.suppress(OSError, ValueError):  # streams over HTTP only say that they seek
                self._stream.seek(self._start)
                lent = cast(BinaryIO, _NonClosingStream(self._stream, self._start))
                return cast(BinaryIO, gzip.GzipFile(fileobj=lent)) if self._gzip_file else lent
        content = self.read(_MAX_BUFFER_SIZE + 1)
        if len(content) > _MAX_BUFFER_SIZE:
            raise UnreadableFileError(
                f"{self.name}: more than 1 GiB in a stream that cannot seek; save it first"
            )
        if self.read_error:
            raise UnreadableFileError(f"{self.name}: {self.read_error}; copy it again from its source")
        return io.BytesIO(content)

    def _fill(self, size: int) -> None:
        missing = size - (len(self._buffer) - self._offset)
        if missing <= 0:
            return
        parts = [self._buffer[self._offset :]]
        # Not all at once: what a header promises is not allocated before it is there.
        while missing > 0 and (part := self._pull(min(max(missing, _CHUNK), _LARGEST_CHUNK))):
            parts.append(part)
            missing -= len(part)
        self._buffer, self._offset = b"".join(parts), 0

    def _pull(self, size: int) -> bytes:
        if self.read_error:
            return b""
        try:
            # read1, because read would throw away what it had unpacked before it met the break.
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
    """A stream with the bytes put back that were read from it to recognise it."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int = -1) -> bytes:
        if self._head:
            part, self._head = self._head[:size], self._head[size:]
            return part
        return self._stream.read(size)


class _NonClosingStream(io.RawIOBase):
    """A stream from where it stood, which a decoder may close without closing it for its owner."""

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
        return "the gzip checksum does not fit: some of its frames are wrong"
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
    """The bytes of a path, closed afterwards, or of a stream, left open.

    Raises:
        UnreadableFileError: A path that is missing, a folder, or may not be read.
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
        raise UnreadableFileError(f"{path}: a folder, not a file; name a file in it") from error
    except PermissionError as error:
        raise UnreadableFileError(f"{path}: may not be read; change its permissions") from error
    except OSError as error:
        raise UnreadableFileError(
            f"{path}: could not be opened ({error.strerror}); check the path"
        ) from error


def _stream_name(stream: Any) -> str:
    names = (getattr(stream, "path", None), getattr(stream, "name", None))
    return next((name for name in names if isinstance(name, str)), "stream")
