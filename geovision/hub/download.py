"""Download of datasets from the servers of their authors."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from geovision import registry
from geovision._atomic_io import make_dir, write_text
from geovision.datasets.downloads import DataverseRecord, RemoteFile
from geovision.errors import DownloadError, StorageError
from geovision.hub.http import DownloadProgress, RetryPolicy, fetch, is_verified
from geovision.hub.unzip import safe_relative_path, unpack
from geovision.spec import resolve

if TYPE_CHECKING:
    from geovision.datasets.base import GeoDataset

__all__ = ["RECEIPT_NAME", "download"]

RECEIPT_NAME = ".geovision-download.json"
"""Name of the receipt: downloaded files with source and digest, and unpacked files with size."""

_WORKSPACE_DIR = ".geovision-download"


def download(
    name: str,
    root: str | Path,
    *,
    server: str | None = None,
    progress: DownloadProgress | None = None,
    retry_policy: RetryPolicy | None = None,
) -> Path:
    """Download a dataset in the layout of its adapter.

    An interrupted download is resumed, in the same run or the next one. The size and digest of each file
    are compared with its record. Archives are unpacked and deleted. If the dataset is complete, no
    connection is opened.

    Args:
        name: Name of a dataset, see `geovision.list_datasets`.
        root: Folder of the dataset; created if missing.
        server: URL of a mirror with the same paths. Default: None, the server of the dataset.
        progress: Function that is called with file name, number of bytes received and total number of bytes
            or None. Default: None.
        retry_policy: Number and delay of retries. Default: None, `RetryPolicy()`.

    Returns:
        `root` as a path.

    Raises:
        UnknownDatasetError: If the name is unknown; the message lists similar names.
        DownloadError: If a file cannot be downloaded; the message contains file, URL and remedy.
        StorageError: If a file cannot be written; received bytes are kept for the next run.
    """
    _, reference = registry.dataset_reference(name)
    root = Path(root)
    if _is_complete(root, name):
        return root
    adapter: type[GeoDataset] = resolve(reference)
    if adapter.downloads is None:
        raise DownloadError(
            f"{name}: cannot be downloaded by a program ({adapter.card.license}). Get it from "
            f"{adapter.card.source} and unpack it as: {adapter.card.layout}"
        )
    workspace, empty = root / _WORKSPACE_DIR, [root] if not root.exists() else []
    make_dir(root)
    make_dir(workspace)
    try:
        receipt = _fetch_and_unpack(adapter.downloads, root, workspace, server, progress, retry_policy)
        text = json.dumps({"dataset": name, **receipt}, indent=1, ensure_ascii=False)
        write_text(root / RECEIPT_NAME, text + "\n")
        shutil.rmtree(workspace, ignore_errors=True)
    finally:
        # Empty folders that this function created are removed; other folders are kept.
        for folder in (workspace, *empty):
            with contextlib.suppress(OSError):
                folder.rmdir()
    return root


def _fetch_and_unpack(
    source: DataverseRecord | tuple[RemoteFile, ...],
    root: Path,
    workspace: Path,
    server: str | None,
    progress: DownloadProgress | None,
    retry_policy: RetryPolicy | None,
) -> dict[str, Any]:
    """Download and unpack all files and return the content of the receipt."""
    files, about = _list_files(source, server, workspace, retry_policy)
    _check_disk_space(root, files)
    present: dict[str, int] = {}
    for file in files:
        if _is_archive(file):
            path = fetch(file, workspace / file.name, progress=progress, retry_policy=retry_policy)
            present |= unpack(path, root, strip_top=file.strip_top_level, progress=progress)
        else:
            path = _target_path(file, root)
            # A file of an earlier run is verified and not downloaded again.
            fetch(file, path, progress=progress, retry_policy=retry_policy)
            present[file.name] = path.stat().st_size
    return about | {"files": [asdict(file) for file in files], "present": present}


def _is_complete(root: Path, name: str) -> bool:
    """Return whether all files of the receipt exist with their recorded sizes."""
    try:
        receipt = json.loads((root / RECEIPT_NAME).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    present: Mapping[str, int] = receipt.get("present", {})
    return (
        receipt.get("dataset") == name
        and bool(present)
        and all(
            (root / path).is_file() and (root / path).stat().st_size == size for path, size in present.items()
        )
    )


def _list_files(
    source: DataverseRecord | tuple[RemoteFile, ...],
    server: str | None,
    workspace: Path,
    retry_policy: RetryPolicy | None,
) -> tuple[list[RemoteFile], dict[str, Any]]:
    """Return the files of a dataset, and their source for the receipt."""
    if not isinstance(source, DataverseRecord):
        return [replace(file, url=_replace_server(file.url, server)) for file in source], {}
    base = (server or source.server).rstrip("/")
    address = f"{base}/api/datasets/:persistentId/?persistentId={quote(source.doi, safe=':/')}"
    listing = workspace / "record.json"
    listing.unlink(missing_ok=True)  # a record may have a new version; its files are checked by digest
    fetch(RemoteFile(f"record {source.doi}", address), listing, retry_policy=retry_policy)
    version = _latest_version(listing, address, source)
    files = [
        RemoteFile(
            name=str(safe_relative_path(_file_name(entry), where=source.doi)),
            url=f"{base}/api/access/datafile/{int(entry['dataFile']['id'])}",
            size=entry["dataFile"].get("filesize"),
            checksum=_checksum(entry["dataFile"]),
            strip_top_level=source.strip_top_level,
        )
        for entry in _select_files(version.get("files", []), source)
    ]
    terms = version.get("license") or version.get("termsOfUse") or ""
    about = {
        "source": source.landing_page,
        "version": f"{version.get('versionNumber', '?')}.{version.get('versionMinorNumber', '?')}",
        "terms": terms.get("name", "") if isinstance(terms, dict) else str(terms),
    }
    return files, about


def _replace_server(url: str, server: str | None) -> str:
    """Replace the server of a URL and keep its path."""
    if server is None:
        return url
    own, other = urlsplit(url), urlsplit(server)
    return urlunsplit((other.scheme, other.netloc, other.path.rstrip("/") + own.path, own.query, ""))


def _latest_version(listing: Path, address: str, source: DataverseRecord) -> Mapping[str, Any]:
    try:
        version = json.loads(listing.read_text("utf-8"))["data"]["latestVersion"]
    except (ValueError, KeyError, TypeError) as error:
        raise DownloadError(
            f"record {source.doi}: {address} does not return a Dataverse record; open {source.landing_page} "
            "in a browser"
        ) from error
    return version


def _select_files(entries: list[Mapping[str, Any]], source: DataverseRecord) -> list[Mapping[str, Any]]:
    """Return the files that match the first pattern with a match."""
    for pattern in source.patterns:
        chosen = [entry for entry in entries if fnmatch.fnmatch(entry["dataFile"]["filename"], pattern)]
        if chosen:
            break
    else:
        names = ", ".join(entry["dataFile"]["filename"] for entry in entries[:10]) or "no files"
        raise DownloadError(
            f"record {source.doi}: no file matches {' or '.join(source.patterns)}; the record contains "
            f"{names}. Open {source.landing_page} in a browser"
        )
    if restricted := [entry["dataFile"]["filename"] for entry in chosen if entry.get("restricted")]:
        raise DownloadError(
            f"record {source.doi}: {', '.join(restricted)} is restricted; request access at "
            f"{source.landing_page}"
        )
    return chosen


def _file_name(entry: Mapping[str, Any]) -> str:
    folder = entry.get("directoryLabel", "")
    return f"{folder}/{entry['dataFile']['filename']}" if folder else entry["dataFile"]["filename"]


def _checksum(entry: Mapping[str, Any]) -> str:
    """Return ``"algorithm:hex"`` of a Dataverse entry; old records contain only `md5`."""
    checksum = entry.get("checksum") or {"type": "MD5", "value": entry.get("md5", "")}
    value = str(checksum["value"]).lower()
    return f"{checksum['type'].lower().replace('-', '')}:{value}" if value else ""


def _check_disk_space(root: Path, files: list[RemoteFile]) -> None:
    """Raise if the disk is too small; archives count twice, packed and unpacked."""
    needed = sum((file.size or 0) * (2 if _is_archive(file) else 1) for file in files)
    free = shutil.disk_usage(root).free
    if needed > free:
        raise StorageError(
            f"{root}: about {needed} bytes are required and {free} are free; free some space or choose "
            "another folder"
        )


def _is_archive(file: RemoteFile) -> bool:
    return file.name.lower().endswith(".zip")


def _target_path(file: RemoteFile, root: Path) -> Path:
    """Return the target path of a file that is not an archive.

    Raises:
        StorageError: If a different file exists at this path.
    """
    path = root / safe_relative_path(file.name, where=file.url)
    if path.exists() and not (path.is_file() and is_verified(file, path)):
        raise StorageError(
            f"{path}: a different file with this name exists and is not overwritten; move it away"
        )
    return path
