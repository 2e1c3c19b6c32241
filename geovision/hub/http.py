"""One file from an HTTP server: resumed where it broke off, verified, and in place only when whole."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import json
import os
import re
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from geovision import __version__
from geovision.datasets.downloads import RemoteFile
from geovision.errors import DownloadError, StorageError

__all__ = ["DownloadProgress", "RetryPolicy", "fetch", "is_verified"]

DownloadProgress = Callable[[str, int, int | None], None]
"""Called with (file name, bytes that are here, bytes in all or None)."""

_CHUNK_SIZE = 1 << 18
_RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class RetryPolicy:
    """How long a struggling server is waited for.

    Args:
        max_attempts: Tries in a row that bring nothing new before it is given up.
        backoff: Seconds before the second try; doubles with each further one.
        timeout: Seconds without a single byte.
    """

    max_attempts: int = 5
    backoff: float = 1.0
    timeout: float = 30.0


class _TransientError(Exception):
    """A passing failure: what has come is kept, and another try may go on from there."""

    def __init__(self, reason: str, *, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


def fetch(
    file: RemoteFile,
    target: Path,
    *,
    progress: DownloadProgress | None = None,
    retry_policy: RetryPolicy | None = None,
) -> Path:
    """Bring a file to `target`, whole and verified, or raise and keep what has come for the next run.

    Bytes gather in ``target.part``; ``target.part.json`` holds what tells whether the server's copy
    is still the same. A file that already stands there and matches is not asked for again.

    Raises:
        DownloadError: The server refuses, stays silent, or sends something else than promised.
        StorageError: It cannot be written here.
    """
    retry_policy = retry_policy or RetryPolicy()
    if target.is_file() and is_verified(file, target):
        return target
    part = _PartialFile(file, target)
    # A file that was continued may be a seam of two versions: that alone deserves a second try.
    for _ in range(2):
        part.is_resumed = part.size > 0
        _download_with_retries(part, progress, retry_policy)
        if is_verified(file, part.path):
            part.finish(target)
            return target
        if not part.is_resumed:
            break
        part.discard()
    rejected = target.with_name(target.name + ".rejected")
    part.finish(rejected)
    raise DownloadError(
        f"{file.name}: {file.url} gave {_digest(file.checksum, rejected)}, its record says "
        f"{file.checksum}; kept as {rejected}. Try again; if it repeats, the file on the server changed"
    )


def is_verified(file: RemoteFile, path: Path) -> bool:
    """Whether a file on disk has the size and the checksum that are known of it."""
    if file.size is not None and path.stat().st_size != file.size:
        return False
    return not file.checksum or _digest(file.checksum, path) == file.checksum.lower()


def _digest(checksum: str, path: Path) -> str:
    """``"algorithm:hex"`` of a file, by the algorithm of `checksum`."""
    algorithm = checksum.partition(":")[0].lower()
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False))
    return f"{algorithm}:{found.hexdigest()}"


@contextlib.contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """Turns what the system says about a path on this machine into one clear line."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path}: could not be written ({error.strerror or error}); what has come is kept. "
            "Free some space or choose another folder, then run the same command again"
        ) from error


class _PartialFile:
    """The unfinished copy of a file: its bytes, and the validator of the version they come from."""

    def __init__(self, file: RemoteFile, target: Path) -> None:
        self.file = file
        self.path = target.with_name(target.name + ".part")
        self.metadata_path = target.with_name(target.name + ".part.json")
        self.is_resumed = False
        with _storage_errors(self.path):
            target.parent.mkdir(parents=True, exist_ok=True)

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def range_headers(self) -> dict[str, str]:
        """Request headers that ask for the rest alone, if the server's copy is still the same."""
        try:
            noted = json.loads(self.metadata_path.read_text("utf-8"))
        except (OSError, ValueError):
            noted = {}
        if not self.size or noted.get("url") != self.file.url or noted.get("checksum") != self.file.checksum:
            return {}
        # Without a validator the checksum is what catches a changed file.
        condition = {"If-Range": noted["validator"]} if noted.get("validator") else {}
        return {"Range": f"bytes={self.size}-"} | condition

    def restart(self, headers: http.client.HTTPMessage) -> None:
        """Start anew: empty the file first, so that the note never speaks of older bytes."""
        etag = headers.get("ETag", "")
        validator = headers.get("Last-Modified", "") if etag.startswith("W/") or not etag else etag
        noted = {"url": self.file.url, "checksum": self.file.checksum, "validator": validator}
        with _storage_errors(self.path):
            self.path.write_bytes(b"")
            self.metadata_path.write_text(json.dumps(noted), "utf-8")

    def discard(self) -> None:
        with _storage_errors(self.path):
            self.path.unlink(missing_ok=True)
            self.metadata_path.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        with _storage_errors(target):
            with self.path.open("rb+") as stream:
                os.fsync(stream.fileno())
            self.path.replace(target)
            self.metadata_path.unlink(missing_ok=True)


def _download_with_retries(
    part: _PartialFile, progress: DownloadProgress | None, retry_policy: RetryPolicy
) -> None:
    """Ask until the file is complete; a try that brings more than ever before restores patience."""
    failures, most = 0, part.size
    while part.file.size is None or part.size != part.file.size or not part.size:
        try:
            _download_once(part, progress, retry_policy.timeout)
            return
        except _TransientError as error:
            failures = 0 if part.size > most else failures + 1
            most = max(most, part.size)
            if failures >= retry_policy.max_attempts:
                raise DownloadError(_retries_exhausted_error(part, str(error))) from error
            time.sleep(max(retry_policy.backoff * 2 ** max(failures - 1, 0), error.retry_after))


def _retries_exhausted_error(part: _PartialFile, reason: str) -> str:
    whole = "" if part.file.size is None else f" of {part.file.size}"
    kept = f"{part.size}{whole} bytes are kept in {part.path}; " if part.size else ""
    return (
        f"{part.file.name}: {part.file.url}: {reason}; {kept}check the network and run the same command "
        "again: it goes on from there"
    )


def _download_once(part: _PartialFile, progress: DownloadProgress | None, timeout: float) -> None:
    """One request: append what the server sends.

    Raises:
        _BrokeOff: Another try may help.
        DownloadError: None will.
    """
    if not part.file.url.startswith(("http://", "https://")):
        raise DownloadError(f"{part.file.name}: {part.file.url!r} is not an http or https address")
    headers = {"User-Agent": f"geovision/{__version__}", "Accept-Encoding": "identity"} | part.range_headers()
    try:
        with urlopen(Request(part.file.url, headers=headers), timeout=timeout) as response:
            total = _expected_size(response, part)
            _append_body(response, part, total, progress)
    except HTTPError as error:
        error.close()
        raise _status_error(error, part) from error
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, DownloadError | StorageError):
            raise
        raise _connection_error(error, part) from error
    if total is not None and part.size < total:
        raise _TransientError(f"the connection ended after {part.size} of {total} bytes")


def _expected_size(response: http.client.HTTPResponse, part: _PartialFile) -> int | None:
    """Bytes in all; leaves `part` ready to be appended to.

    A server that does not know ranges answers 200 with everything, and so does one whose copy is no
    longer the one that was begun: then it starts anew.
    """
    length = response.headers.get("Content-Length")
    total = int(length) if length and length.isdigit() else None
    if response.status == 206:
        span = re.match(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not span or int(span[1]) != part.size:
            part.discard()
            raise _TransientError("the server sent another part than the one asked for")
        part.is_resumed = True
        total = None if span[2] == "*" else int(span[2])
    else:
        part.restart(response.headers)
    if total is not None and part.file.size not in (None, total):
        raise DownloadError(
            f"{part.file.name}: {part.file.url} offers {total} bytes, its record says {part.file.size}; "
            "a login page or proxy may stand between, or the file on the server changed"
        )
    return total if total is not None else part.file.size


def _append_body(
    response: http.client.HTTPResponse,
    part: _PartialFile,
    total: int | None,
    progress: DownloadProgress | None,
) -> None:
    done = part.size
    with _storage_errors(part.path):
        stream = part.path.open("ab", buffering=0)
    with stream:
        # read1 hands over what is there: a plain read loses what it gathered when the line breaks.
        while chunk := response.read1(_CHUNK_SIZE):
            with _storage_errors(part.path):
                _write_all(stream, chunk)
            done += len(chunk)
            if total is not None and done > total:
                raise DownloadError(f"{part.file.name}: {part.file.url} sends more than {total} bytes")
            if progress:
                progress(part.file.name, done, total)


def _write_all(stream: io.FileIO, chunk: bytes) -> None:
    # An unbuffered write may take a part of the chunk, and nearly always does when the disk fills.
    view = memoryview(chunk)
    while view:
        view = view[stream.write(view) :]


def _status_error(error: HTTPError, part: _PartialFile) -> Exception:
    """What an answer of 400 and above means for the next try."""
    if error.code in _RETRY_STATUSES:
        wait = error.headers.get("Retry-After", "")
        return _TransientError(
            f"the server answers {error.code} {error.reason}",
            retry_after=min(float(wait), 60.0) if wait.isdigit() else 0.0,
        )
    if error.code == 416 and part.size:
        part.discard()
        return _TransientError("the server's copy is shorter than what had come")
    advice = {
        401: "it wants a login; fetch it in a browser",
        403: "it does not give this file to programs; fetch it in a browser",
        404: "there is no such file; the record may have moved",
        410: "it was withdrawn",
    }.get(error.code, "this is not a passing failure")
    return DownloadError(f"{part.file.name}: {part.file.url} answers {error.code} {error.reason}: {advice}")


def _connection_error(error: OSError | http.client.HTTPException, part: _PartialFile) -> Exception:
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return DownloadError(
            f"{part.file.name}: {part.file.url}: its certificate is not trusted here "
            f"({reason.verify_message}); check the clock and the proxy of this machine"
        )
    if isinstance(reason, TimeoutError):
        return _TransientError("no answer in time")
    words = reason.strerror if isinstance(reason, OSError) else str(reason)
    return _TransientError(words or type(reason).__name__)
