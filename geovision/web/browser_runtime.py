"""The runtime that computes a model in the browser: onnxruntime-web, of one version, verified.

It is not part of the repository. `make install` brings it from the npm registry beside the page's own files,
from where a wheel that is built then takes it along; elsewhere it is fetched once into the user's cache.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import tarfile
import tempfile
from pathlib import Path

from geovision._atomic_io import write_files
from geovision.datasets.downloads import RemoteFile
from geovision.errors import DownloadError, GeovisionError
from geovision.hub.http import DownloadProgress, fetch

__all__ = ["INTEGRITY", "RUNTIME_FILES", "VERSION", "browser_runtime", "bundle_runtime", "fetch_runtime"]

VERSION = "1.30.0"
INTEGRITY = (
    "sha512:ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)
"""Of the package of that version, as the registry states it."""

NPM_REGISTRY = "https://registry.npmjs.org"
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""Of the package, what a page needs that computes on the processor."""

_BUNDLED_DIR = Path(__file__).parent / "ort"


def browser_runtime(*, progress: DownloadProgress | None = None) -> Path:
    """The folder of the runtime's files and its licence: the package's own, or else the user's cache, which
    they are fetched into where they are not there yet.

    Raises:
        DownloadError: It could not be fetched, or is not what its version was.
    """
    for folder in (_BUNDLED_DIR, _cache_dir()):
        if _is_complete(folder):
            return folder
    return fetch_runtime(_cache_dir(), progress=progress)


def fetch_runtime(
    folder: Path, *, registry: str | None = None, progress: DownloadProgress | None = None
) -> Path:
    """Fetch the package, verify it, and put its files and licence into `folder`.

    Args:
        registry: Address of the registry; None: ``GEOVISION_NPM_REGISTRY``, or npm's own.

    Raises:
        DownloadError: The registry cannot be reached, or sends something else.
        StorageError: `folder` cannot be written.
    """
    at = registry or os.environ.get("GEOVISION_NPM_REGISTRY") or NPM_REGISTRY
    name = f"onnxruntime-web-{VERSION}.tgz"
    file = RemoteFile(name, f"{at.rstrip('/')}/onnxruntime-web/-/{name}", checksum=INTEGRITY)
    with tempfile.TemporaryDirectory(prefix="geovision-") as beside:
        package = fetch(file, Path(beside) / name, progress=progress)
        content = _extract_members(package)
    write_files(folder, {each: _bytes_writer(data) for each, data in (content | _license_texts()).items()})
    return folder


def _extract_members(package: Path) -> dict[str, bytes]:
    """The wanted files of the package. Names are compared, never followed."""
    found = {}
    with tarfile.open(package, "r:gz") as archive:
        for member in archive:
            for name in RUNTIME_FILES:
                if member.isfile() and member.name == f"package/dist/{name}":
                    stream = archive.extractfile(member)
                    assert stream is not None
                    found[name] = stream.read()
    if lacking := set(RUNTIME_FILES) - set(found):
        raise DownloadError(f"{package.name}: has no {', '.join(sorted(lacking))}; another version is needed")
    return found


def _license_texts() -> dict[str, bytes]:
    """The licence and the notices of ONNX Runtime, which its package for Python holds and the one for the
    browser does not."""
    files = importlib.metadata.files("onnxruntime") or ()
    wanted = {f"onnxruntime/{name}": name for name in ("LICENSE", "ThirdPartyNotices.txt")}
    return {wanted[str(file)]: Path(str(file.locate())).read_bytes() for file in files if str(file) in wanted}


def _bytes_writer(data: bytes):
    return lambda path: path.write_bytes(data)


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in RUNTIME_FILES)


def _cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "geovision" / f"onnxruntime-web-{VERSION}"


def bundle_runtime() -> None:
    """Put the runtime among the package's own files, for an installation from a checkout or a wheel that is
    built next. Without network the rest of geovision works: say so and go on."""
    if _is_complete(_BUNDLED_DIR):
        return
    try:
        print(fetch_runtime(_BUNDLED_DIR))
    except GeovisionError as error:
        print(f"geovision: pages cannot answer in the browser without this file: {error}", file=sys.stderr)
