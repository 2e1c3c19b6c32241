"""Downloads from a local server with interrupted connections, wrong data and errors."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import json
import stat
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import geovision
from geovision.datasets.ccsn import CCSN
from geovision.datasets.downloads import RemoteFile
from geovision.datasets.synthetic.sky import write
from geovision.errors import DownloadError, StorageError, UnknownDatasetError
from geovision.hub import download, http, unzip
from geovision.hub.download import RECEIPT_NAME
from geovision.hub.http import RetryPolicy

DOI = "doi:10.7910/DVN/CADDPD"
RECORD = "/api/datasets/:persistentId/"
FILE = "/api/access/datafile/17"
HASTY = RetryPolicy(max_attempts=3, backoff=0.01, timeout=5)


class Server(ThreadingHTTPServer):
    """Server of files with ranges, ETags and faults, which records all requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None, int]] = []  # path, Range, status
        self.sent = 0
        self.ranges = True
        self.etag = '"one"'
        self.break_after: list[int] = []  # bytes after which each of the next responses breaks off
        self.status: dict[str, list[int]] = {}  # status codes of the next responses, by path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def requests_of(self, path: str) -> list[tuple[str | None, int]]:
        return [(range_header, status) for name, range_header, status in self.requests if name == path]


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        range_header = self.headers.get("Range")
        known = path in self.server.files and (path != RECORD or query == f"persistentId={DOI}")
        status = self.server.status.get(path) or ([] if known else [404])
        if status:
            return self._respond(path, range_header, status.pop(0), b"no", {})
        body, start = self.server.files[path], 0
        fresh = self.headers.get("If-Range") in (None, self.server.etag)
        if range_header and self.server.ranges and fresh:
            start = int(range_header.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                return self._respond(path, range_header, 416, b"", {"Content-Range": f"bytes */{len(body)}"})
            span = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
            return self._respond(path, range_header, 206, body[start:], span)
        return self._respond(path, range_header, 200, body, {})

    def _respond(
        self, path: str, range_header: str | None, status: int, body: bytes, more: dict[str, str]
    ) -> None:
        self.server.requests.append((path, range_header, status))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "ETag": self.server.etag, **more}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.server.break_after and path == FILE and status < 300:
            body = body[: self.server.break_after.pop(0)]
            self.close_connection = True
        self.wfile.write(body)
        self.server.sent += len(body) if path == FILE else 0

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small CCSN of generated images."""
    return write(tmp_path_factory.mktemp("ccsn"), 22, seed=3, size=(64, 64))


def zipped(root: Path, top: str = "CCSN_v2/") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        for path in sorted(root.rglob("*.jpg")):
            opened.write(path, f"{top}{path.relative_to(root).as_posix()}")
        opened.writestr(f"__MACOSX/{top}Ac/._Ac-N001.jpg", b"junk")
    return stream.getvalue()


def serve_record(server: Server, body: bytes, *, name: str = "CCSN_v2.zip", **changes: object) -> None:
    """Serve the record and its file in the format of Dataverse's native API."""
    described = {
        "id": 17,
        "filename": name,
        "contentType": "application/zip",
        "filesize": len(body),
        "md5": hashlib.md5(body).hexdigest(),
        "checksum": {"type": "MD5", "value": hashlib.md5(body).hexdigest()},
    } | changes
    entries = [
        {"label": name, "restricted": False, "dataFile": described},
        {"label": "notes.txt", "restricted": False, "dataFile": {"id": 18, "filename": "notes.txt"}},
    ]
    version = {"versionNumber": 2, "versionMinorNumber": 0, "license": {"name": "CC0 1.0"}, "files": entries}
    server.files[RECORD] = json.dumps({"status": "OK", "data": {"latestVersion": version}}).encode()
    server.files[FILE] = body


def fetch_ccsn(server: Server, root: Path, **more: object) -> Path:
    return download.download("ccsn", root, server=server.address, retry_policy=HASTY, **more)


def leftovers(root: Path) -> list[str]:
    """Return all files but the data and the receipt."""
    return [path.name for path in root.rglob("*") if path.is_file() and path.suffix not in (".jpg", ".json")]


def test_a_dataset_is_complete_and_its_adapter_reads_it(server, images, tmp_path):
    serve_record(server, zipped(images))
    progress: list[tuple[str, int, int | None]] = []
    root = fetch_ccsn(server, tmp_path / "new" / "ccsn", progress=lambda *each: progress.append(each))

    read = CCSN(root)
    assert read.names == CCSN(images).names
    assert [path.read_bytes() for path in read.paths] == [path.read_bytes() for path in CCSN(images).paths]
    assert leftovers(root) == []
    size = len(server.files[FILE])
    assert ("CCSN_v2.zip", size, size) in progress
    assert [done for name, done, _ in progress if name == "CCSN_v2.zip"] == sorted(
        done for name, done, _ in progress if name == "CCSN_v2.zip"
    )
    assert progress[-1][0] == "unpacking CCSN_v2.zip"
    assert progress[-1][1] == progress[-1][2]
    receipt = json.loads((root / RECEIPT_NAME).read_text())
    assert (receipt["source"], receipt["version"], receipt["terms"]) == (
        "https://doi.org/10.7910/DVN/CADDPD",
        "2.0",
        "CC0 1.0",
    )
    assert server.requests_of(RECORD) == [(None, 200)]


def test_an_adapter_downloads_its_own_files(server, images, tmp_path, monkeypatch):
    serve_record(server, zipped(images))
    record = dataclasses.replace(CCSN.downloads, server=server.address)
    monkeypatch.setattr(CCSN, "downloads", record)
    data = geovision.load_dataset("ccsn", tmp_path / "ccsn", download=True)
    assert data.names == CCSN(images).names
    assert server.requests_of(RECORD) == [(None, 200)]
    again = CCSN(tmp_path / "ccsn", download=True)  # complete, so no connection is opened
    assert again.names == data.names
    assert len(server.requests_of(RECORD)) == 1


def test_a_second_run_sends_no_request(server, images, tmp_path):
    serve_record(server, zipped(images))
    fetch_ccsn(server, tmp_path)
    before = len(server.requests)
    fetch_ccsn(server, tmp_path)
    assert len(server.requests) == before


def test_deleted_files_are_restored_and_existing_files_stay(server, images, tmp_path):
    serve_record(server, zipped(images))
    fetch_ccsn(server, tmp_path)
    kept, lost = CCSN(tmp_path).paths[0], CCSN(tmp_path).paths[5]
    written = kept.stat().st_mtime_ns
    content = lost.read_bytes()
    lost.unlink()
    fetch_ccsn(server, tmp_path)
    assert lost.read_bytes() == content
    assert kept.stat().st_mtime_ns == written


def test_an_interrupted_transfer_is_resumed(server, images, tmp_path):
    body = zipped(images)
    serve_record(server, body)
    server.break_after = [1000, 3000]
    fetch_ccsn(server, tmp_path)
    assert server.requests_of(FILE) == [(None, 200), ("bytes=1000-", 206), ("bytes=4000-", 206)]
    assert server.sent == len(body)
    assert len(CCSN(tmp_path)) == 22


def test_the_next_run_resumes_a_failed_transfer(server, images, tmp_path):
    body = zipped(images)
    serve_record(server, body)
    server.break_after = [5000, 0, 0, 0]
    with pytest.raises(DownloadError, match=rf"5000 of {len(body)} bytes are kept in .*run the same command"):
        fetch_ccsn(server, tmp_path)
    server.requests.clear()
    server.sent = 0
    fetch_ccsn(server, tmp_path)
    assert server.requests_of(FILE) == [("bytes=5000-", 206)]
    assert server.sent == len(body) - 5000
    assert len(CCSN(tmp_path)) == 22


def test_a_server_without_ranges_restarts_the_transfer(server, images, tmp_path):
    body = zipped(images)
    serve_record(server, body)
    server.ranges = False
    server.break_after = [len(body) // 2]
    fetch_ccsn(server, tmp_path)
    assert server.requests_of(FILE) == [(None, 200), (f"bytes={len(body) // 2}-", 200)]
    assert len(CCSN(tmp_path)) == 22


def test_a_file_that_changed_on_the_server_is_not_resumed(server, images, tmp_path):
    serve_record(server, zipped(images, top="other/"))
    server.break_after = [4000, 0, 0, 0]
    with pytest.raises(DownloadError):
        fetch_ccsn(server, tmp_path)
    server.etag = '"two"'
    body = zipped(images)
    serve_record(server, body)
    server.requests.clear()
    fetch_ccsn(server, tmp_path)
    assert server.requests_of(FILE) == [(None, 200)]  # the checksum differs, so the transfer restarts
    assert len(CCSN(tmp_path)) == 22


def test_another_version_at_the_same_address_restarts_the_transfer(server, tmp_path):
    file = RemoteFile("table.csv", f"{server.address}{FILE}")
    server.files[FILE] = b"a" * 9000
    server.break_after = [4000, 0, 0, 0]
    with pytest.raises(DownloadError):
        http.fetch(file, tmp_path / "table.csv", retry_policy=HASTY)
    server.files[FILE], server.etag = b"b" * 7000, '"two"'
    http.fetch(file, tmp_path / "table.csv", retry_policy=HASTY)
    assert server.requests_of(FILE)[-1] == ("bytes=4000-", 200)
    assert (tmp_path / "table.csv").read_bytes() == b"b" * 7000


def test_a_damaged_part_is_found_by_its_checksum_and_downloaded_again(server, tmp_path):
    body = np.random.default_rng(0).bytes(9000)
    file = RemoteFile("a.bin", f"{server.address}{FILE}", 9000, f"sha256:{hashlib.sha256(body).hexdigest()}")
    server.files[FILE] = body
    server.break_after = [4000, 0, 0, 0]
    with pytest.raises(DownloadError):
        http.fetch(file, tmp_path / "a.bin", retry_policy=HASTY)
    part = tmp_path / "a.bin.part"
    part.write_bytes(b"\0" * 4000)  # damaged by a disk or proxy
    server.requests.clear()
    http.fetch(file, tmp_path / "a.bin", retry_policy=HASTY)
    assert server.requests_of(FILE) == [("bytes=4000-", 206), (None, 200)]
    assert (tmp_path / "a.bin").read_bytes() == body
    assert not part.exists()


def test_a_wrong_checksum_is_an_error_and_the_file_is_kept_as_rejected(server, images, tmp_path):
    body = zipped(images)
    serve_record(server, body, checksum={"type": "MD5", "value": "0" * 32})
    with pytest.raises(
        DownloadError, match=r"has the digest md5:\w{32}, expected md5:0+; kept as .*rejected"
    ):
        fetch_ccsn(server, tmp_path)
    (rejected,) = tmp_path.rglob("*.rejected")
    assert rejected.read_bytes() == body
    assert not list(tmp_path.rglob("*.jpg"))
    serve_record(server, body)  # the record is correct again: the next run succeeds
    fetch_ccsn(server, tmp_path)
    assert len(CCSN(tmp_path)) == 22
    assert leftovers(tmp_path) == []


def test_sha256_checksums_of_dataverse_are_supported(server, images, tmp_path):
    body = zipped(images)
    serve_record(
        server, body, checksum={"type": "SHA-256", "value": hashlib.sha256(body).hexdigest().upper()}
    )
    assert len(CCSN(fetch_ccsn(server, tmp_path))) == 22


def test_a_server_that_sends_too_few_bytes_is_an_error(server, images, tmp_path):
    body = zipped(images)
    serve_record(server, body, filesize=len(body) + 1)
    with pytest.raises(DownloadError, match=rf"has {len(body)} bytes, expected {len(body) + 1}"):
        fetch_ccsn(server, tmp_path)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(404, "there is no such file"), (403, "download the file in a browser"), (401, "requires a login")],
)
def test_a_refused_request_is_reported_without_retry(server, images, tmp_path, status, expected):
    serve_record(server, zipped(images))
    server.status[FILE] = [status] * 9
    with pytest.raises(
        DownloadError, match=rf"CCSN_v2.zip: {server.address}{FILE} responded with {status} .*{expected}"
    ):
        fetch_ccsn(server, tmp_path)
    assert len(server.requests_of(FILE)) == 1


def test_a_busy_server_is_retried(server, images, tmp_path):
    serve_record(server, zipped(images))
    server.status[RECORD] = [503]
    server.status[FILE] = [500, 429]
    assert len(CCSN(fetch_ccsn(server, tmp_path))) == 22
    assert [status for _, status in server.requests_of(FILE)] == [500, 429, 200]


def test_an_unreachable_server_is_one_line_of_error(tmp_path):
    with Server() as gone:
        address = gone.address
    with pytest.raises(
        DownloadError, match="refused; check the network and run the same command again"
    ) as caught:
        download.download("ccsn", tmp_path / "new", server=address, retry_policy=HASTY)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_a_server_without_response_is_an_error(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(DownloadError, match="did not respond in time"):
            download.download("ccsn", tmp_path, server=address, retry_policy=RetryPolicy(2, 0.01, 0.1))


def test_a_login_page_instead_of_the_record_is_an_error(server, tmp_path):
    server.files[RECORD] = b"<html>Please log in</html>"
    with pytest.raises(DownloadError, match=r"does not return a Dataverse record; open https://doi.org/"):
        fetch_ccsn(server, tmp_path)


def test_a_record_without_the_requested_file_lists_its_files(server, tmp_path):
    serve_record(server, b"abc", name="CCSN.rar")
    with pytest.raises(
        DownloadError, match=r"no file matches .*\.zip.*; the record contains CCSN.rar, notes.txt"
    ):
        fetch_ccsn(server, tmp_path)


def test_a_record_of_single_images_keeps_their_folders_and_resumes(server, images, tmp_path):
    chosen = sorted(images.rglob("*.jpg"))[:3]
    entries = []
    for number, path in enumerate(chosen, start=100):
        server.files[f"/api/access/datafile/{number}"] = path.read_bytes()
        entries.append(
            {
                "directoryLabel": path.parent.name,
                "dataFile": {
                    "id": number,
                    "filename": path.name,
                    "filesize": path.stat().st_size,
                    "md5": hashlib.md5(path.read_bytes()).hexdigest(),
                },
            }
        )
    server.files[RECORD] = json.dumps({"data": {"latestVersion": {"files": entries}}}).encode()
    server.status["/api/access/datafile/101"] = [404]
    with pytest.raises(DownloadError, match="404"):
        fetch_ccsn(server, tmp_path)
    assert CCSN(tmp_path).names == CCSN(images).names[:1]
    assert CCSN(fetch_ccsn(server, tmp_path)).names == CCSN(images).names[:3]
    assert len(server.requests_of("/api/access/datafile/100")) == 1
    assert leftovers(tmp_path) == []


def test_pinned_files_are_downloaded_from_a_mirror(server, images, tmp_path, monkeypatch):
    body = zipped(images)
    server.files["/mirror/data/ccsn.zip"] = body
    pinned = RemoteFile(
        "ccsn.zip",
        "https://example.org/data/ccsn.zip",
        len(body),
        f"sha256:{hashlib.sha256(body).hexdigest()}",
        strip_top_level=True,
    )
    monkeypatch.setattr(CCSN, "downloads", (pinned,))
    download.download("ccsn", tmp_path, server=f"{server.address}/mirror", retry_policy=HASTY)
    assert len(CCSN(tmp_path)) == 22


def test_datasets_behind_an_agreement_name_their_address(tmp_path):
    with pytest.raises(
        DownloadError, match=r"gcd: cannot be downloaded by a program .*Agreement.*github.com"
    ):
        download.download("gcd", tmp_path)
    with pytest.raises(UnknownDatasetError, match="Did you mean 'ccsn'"):
        download.download("ccns", tmp_path)


# --- writing ------------------------------------------------------------------------------------


def test_too_little_disk_space_is_reported_before_any_download(server, images, tmp_path, monkeypatch):
    serve_record(server, zipped(images))
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(StorageError, match=r"bytes are required and 10 are free"):
        fetch_ccsn(server, tmp_path)
    assert server.requests_of(FILE) == []


def test_a_full_disk_keeps_the_downloaded_part(server, images, tmp_path, monkeypatch):
    body = zipped(images)
    serve_record(server, body)
    written = http._write_all

    def full(stream, chunk):
        if stream.name.endswith("CCSN_v2.zip.part") and stream.tell() + len(chunk) > 6000:
            written(stream, chunk[: 6000 - stream.tell()])
            raise OSError(errno.ENOSPC, "No space left on device")
        written(stream, chunk)

    monkeypatch.setattr(http, "_write_all", full)
    with pytest.raises(StorageError, match=r"CCSN_v2.zip.part: cannot be written \(No space left"):
        fetch_ccsn(server, tmp_path)
    monkeypatch.undo()
    server.requests.clear()
    fetch_ccsn(server, tmp_path)
    assert server.requests_of(FILE) == [("bytes=6000-", 206)]
    assert len(CCSN(tmp_path)) == 22


def test_an_invalid_folder_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file: cannot create a folder"):
        download.download("ccsn", tmp_path / "file")


def test_a_user_file_is_not_overwritten(server, images, tmp_path):
    serve_record(server, zipped(images))
    own = tmp_path / "Ac" / "Ac-N001.jpg"
    own.parent.mkdir()
    own.write_bytes(b"mine")
    with pytest.raises(
        StorageError, match=r"Ac-N001.jpg: a different file with this name exists and is not overwritten"
    ):
        fetch_ccsn(server, tmp_path)
    assert own.read_bytes() == b"mine"
    assert list(tmp_path.rglob("*.jpg")) == [own]  # checked before the first file was unpacked
    own.unlink()
    before = len(server.requests_of(FILE))
    fetch_ccsn(server, tmp_path)
    assert len(server.requests_of(FILE)) == before  # the archive was still on disk
    assert len(CCSN(tmp_path)) == 22


# --- archives -----------------------------------------------------------------------------------


def make_zip(path: Path, members: dict[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            opened.writestr(info, content)
    return path


@pytest.mark.parametrize(
    "name", ["../out.jpg", "Ac/../../out.jpg", "/tmp/out.jpg", "C:/out.jpg", "Ac\\..\\out.jpg"]
)
def test_no_path_leaves_the_folder(tmp_path, name):
    root = tmp_path / "inner"
    root.mkdir()
    packed = make_zip(tmp_path / "evil.zip", {"Ac/fine.jpg": b"fine", name: b"evil"})
    with pytest.raises(DownloadError, match="leads out of its folder; nothing was extracted"):
        unzip.unpack(packed, root)
    assert list(root.iterdir()) == []
    assert not (tmp_path / "out.jpg").exists()


def test_links_duplicates_and_decompression_bombs_are_refused(tmp_path):
    root = tmp_path / "inner"
    root.mkdir()
    link = make_zip(tmp_path / "link.zip", {"Ac/a.jpg": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777)
    with pytest.raises(DownloadError, match="is a link; nothing was extracted"):
        unzip.unpack(link, root)
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as opened:
        opened.writestr("a.jpg", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            opened.writestr("a.jpg", b"2")
    with pytest.raises(DownloadError, match="two files have the same name"):
        unzip.unpack(tmp_path / "two.zip", root)
    bomb = make_zip(tmp_path / "bomb.zip", {"a.jpg": bytes(5_000_000)})
    with pytest.raises(DownloadError, match="decompression bomb"):
        unzip.unpack(bomb, root)
    assert list(root.iterdir()) == []


def test_a_damaged_archive_leaves_no_partial_file(tmp_path):
    root = tmp_path / "inner"
    root.mkdir()
    packed = make_zip(tmp_path / "a.zip", {"a.jpg": np.random.default_rng(0).bytes(4000)})
    raw = bytearray(packed.read_bytes())
    raw[500] ^= 0xFF
    packed.write_bytes(raw)
    with pytest.raises(DownloadError, match="damaged or not a zip archive"):
        unzip.unpack(packed, root)
    assert list(root.iterdir()) == []
    packed.write_bytes(b"<html>")
    with pytest.raises(DownloadError, match="damaged or not a zip archive"):
        unzip.unpack(packed, root)


def test_the_top_folder_is_stripped_only_where_it_is_the_only_one(tmp_path):
    one = make_zip(tmp_path / "one.zip", {"top/Ac/a.jpg": b"1", "top/readme.txt": b"2", ".DS_Store": b"3"})
    assert unzip.unpack(one, tmp_path / "one", strip_top=True) == {"Ac/a.jpg": 1, "readme.txt": 1}
    two = make_zip(tmp_path / "two.zip", {"Ac/a.jpg": b"1", "As/a.jpg": b"2"})
    assert unzip.unpack(two, tmp_path / "two", strip_top=True) == {"Ac/a.jpg": 1, "As/a.jpg": 1}
    assert unzip.unpack(one, tmp_path / "kept") == {"top/Ac/a.jpg": 1, "top/readme.txt": 1}
