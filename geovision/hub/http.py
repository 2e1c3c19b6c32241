"""Resumable and verified download of one file over HTTP."""

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
"""Function of file name, number of bytes received, and total number of bytes or None."""

_CHUNK_SIZE = 1 << 18
_RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class RetryPolicy:
    """Number and delay of retries after a transient error.

    Args:
        max_attempts: Maximum number of consecutive attempts without new bytes. Default: 5.
        backoff: Delay before the second attempt, in s; doubles with each further attempt. Default: 1.
        timeout: Maximum time without a byte, in s. Default: 30.
    """

    max_attempts: int = 5
    backoff: float = 1.0
    timeout: float = 30.0


class _TransientError(Exception):
    """Transient error; received bytes are kept, and a further attempt may resume the download."""

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
    """Download and verify a file.

    Received bytes are written to ``target.part``; ``target.part.json`` contains the validator of the version
    on the server. `target` is created only from a complete and verified file. After an error the partial
    file is kept for the next run. An existing, verified `target` is not downloaded again.

    Args:
        file: File with URL, size and checksum.
        target: Path of the local file.
        progress: Function that is called after each received chunk. Default: None.
        retry_policy: Number and delay of retries. Default: None, `RetryPolicy()`.

    Returns:
        `target`.

    Raises:
        DownloadError: If the server rejects the request, does not respond, or sends an unexpected file.
        StorageError: If the file cannot be written.
    """
    retry_policy = retry_policy or RetryPolicy()
    if target.is_file() and is_verified(file, target):
        return target
    part = _PartialFile(file, target)
    # A resumed file may mix two versions. Only this case is repeated from the start.
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
        f"{file.name}: {file.url} has the digest {_digest(file.checksum, rejected)}, expected "
        f"{file.checksum}; kept as {rejected}. Try again; if the error repeats, the file on the server has "
        "changed"
    )


def is_verified(file: RemoteFile, path: Path) -> bool:
    """Return whether a local file has the recorded size and checksum.

    Args:
        file: File with size and checksum; missing values are not compared.
        path: Path of the local file.

    Returns:
        Whether all recorded values agree.
    """
    if file.size is not None and path.stat().st_size != file.size:
        return False
    return not file.checksum or _digest(file.checksum, path) == file.checksum.lower()


def _digest(checksum: str, path: Path) -> str:
    """Return ``"algorithm:hex"`` of a file, with the algorithm of `checksum`."""
    algorithm = checksum.partition(":")[0].lower()
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False))
    return f"{algorithm}:{found.hexdigest()}"


@contextlib.contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """Convert an OSError into a one-line StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be written ({error.strerror or error}); received bytes are kept. "
            "Free some space or choose another folder, then run the same command again"
        ) from error


class _PartialFile:
    """Partial download: received bytes and the validator of their version."""

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
        """Return headers that request the remaining bytes if the server's version is unchanged."""
        try:
            stored = json.loads(self.metadata_path.read_text("utf-8"))
        except (OSError, ValueError):
            stored = {}
        url, checksum = stored.get("url"), stored.get("checksum")
        if not self.size or url != self.file.url or checksum != self.file.checksum:
            return {}
        # Without a validator, only the checksum detects a changed file.
        condition = {"If-Range": stored["validator"]} if stored.get("validator") else {}
        return {"Range": f"bytes={self.size}-"} | condition

    def restart(self, headers: http.client.HTTPMessage) -> None:
        """Empty the partial file, then store the validator of the new version.

        In this order, the validator never describes older bytes.
        """
        etag = headers.get("ETag", "")
        validator = headers.get("Last-Modified", "") if etag.startswith("W/") or not etag else etag
        stored = {"url": self.file.url, "checksum": self.file.checksum, "validator": validator}
        with _storage_errors(self.path):
            self.path.write_bytes(b"")
            self.metadata_path.write_text(json.dumps(stored), "utf-8")

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
    """Repeat requests until the file is complete; new bytes reset the count of failures."""
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
    total = "" if part.file.size is None else f" of {part.file.size}"
    kept = f"{part.size}{total} bytes are kept in {part.path}; " if part.size else ""
    return (
        f"{part.file.name}: {part.file.url}: {reason}; {kept}check the network and run the same command "
        "again to resume"
    )


def _download_once(part: _PartialFile, progress: DownloadProgress | None, timeout: float) -> None:
    """Send one request and append the response to the partial file.

    Raises:
        _TransientError: If a further attempt may succeed.
        DownloadError: If further attempts would fail too.
    """
    if not part.file.url.startswith(("http://", "https://")):
        raise DownloadError(f"{part.file.name}: {part.file.url!r} is not an http or https URL")
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
    """Return the total number of bytes and prepare `part` for appending.

    A server without range support, or with a newer version of the file, responds with status 200 and the
    complete file. In this case the partial file is restarted.
    """
    length = response.headers.get("Content-Length")
    total = int(length) if length and length.isdigit() else None
    if response.status == 206:
        span = re.match(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not span or int(span[1]) != part.size:
            part.discard()
            raise _TransientError("the server sent a range that was not requested")
        part.is_resumed = True
        total = None if span[2] == "*" else int(span[2])
    else:
        part.restart(response.headers)
    if total is not None and part.file.size not in (None, total):
        raise DownloadError(
            f"{part.file.name}: {part.file.url} has {total} bytes, expected {part.file.size}; "
            "the response may come from a login page or proxy, or the file on the server has changed"
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
        # read1 returns the bytes received so far; read would lose them when the connection breaks.
        while chunk := response.read1(_CHUNK_SIZE):
            with _storage_errors(part.path):
                _write_all(stream, chunk)
            done += len(chunk)
            if total is not None and done > total:
                raise DownloadError(f"{part.file.name}: {part.file.url} sent more than {total} bytes")
            if progress:
                progress(part.file.name, done, total)


def _write_all(stream: io.FileIO, chunk: bytes) -> None:
    # An unbuffered write may write only part of the chunk, for example on a full disk.
    view = memoryview(chunk)
    while view:
        view = view[stream.write(view) :]


def _status_error(error: HTTPError, part: _PartialFile) -> Exception:
    """Convert an HTTP status of 400 or above into a transient or final error."""
    if error.code in _RETRY_STATUSES:
        wait = error.headers.get("Retry-After", "")
        return _TransientError(
            f"the server responded with {error.code} {error.reason}",
            retry_after=min(float(wait), 60.0) if wait.isdigit() else 0.0,
        )
    if error.code == 416 and part.size:
        part.discard()
        return _TransientError("the file on the server is shorter than the partial download")
    advice = {
        401: "the server requires a login; download the file in a browser",
        403: "the server denies access to programs; download the file in a browser",
        404: "there is no such file; the record may have moved",
        410: "the file was withdrawn",
    }.get(error.code, "further attempts would fail too")
    return DownloadError(
        f"{part.file.name}: {part.file.url} responded with {error.code} {error.reason}: {advice}"
    )


def _connection_error(error: OSError | http.client.HTTPException, part: _PartialFile) -> Exception:
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return DownloadError(
            f"{part.file.name}: {part.file.url}: the certificate is not trusted ({reason.verify_message}); "
            "check the clock and the proxy of this machine"
        )
    if isinstance(reason, TimeoutError):
        return _TransientError("the server did not respond in time")
    message = reason.strerror if isinstance(reason, OSError) else str(reason)
    return _TransientError(message or type(reason).__name__)
