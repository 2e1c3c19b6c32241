"""Runtime for predictions in the browser: one verified version of onnxruntime-web.

The runtime is not part of the repository. `make install` downloads it from the npm registry into the package,
and a wheel that is built afterwards contains it. Otherwise it is downloaded once into the cache of the user.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import tarfile
import tempfile
from collections.abc import Callable
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
"""Digest of the npm package of `VERSION`, as published by the registry."""

NPM_REGISTRY = "https://registry.npmjs.org"
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""Files of the package that a page requires for predictions on the CPU."""

_BUNDLED_DIR = Path(__file__).parent / "ort"


def browser_runtime(*, progress: DownloadProgress | None = None) -> Path:
    """Return the folder with the runtime and its license.

    The folder is inside the package or in the cache of the user. If both lack the runtime, it is downloaded
    into the cache.

    Args:
        progress: Function of file name, bytes received and total bytes. Default: None.

    Returns:
        Folder of the runtime.

    Raises:
        DownloadError: If the runtime cannot be downloaded, or its digest differs.
    """
    for folder in (_BUNDLED_DIR, _cache_dir()):
        if _is_complete(folder):
            return folder
    return fetch_runtime(_cache_dir(), progress=progress)


def fetch_runtime(
    folder: Path, *, registry: str | None = None, progress: DownloadProgress | None = None
) -> Path:
    """Download and verify the npm package and extract the runtime and its license.

    Args:
        folder: Output folder.
        registry: URL of the npm registry. Default: None, ``GEOVISION_NPM_REGISTRY`` or the public registry.
        progress: Function of file name, bytes received and total bytes. Default: None.

    Returns:
        `folder`.

    Raises:
        DownloadError: If the registry is not reachable, or the digest differs.
        StorageError: If `folder` cannot be written.
    """
    base = registry or os.environ.get("GEOVISION_NPM_REGISTRY") or NPM_REGISTRY
    name = f"onnxruntime-web-{VERSION}.tgz"
    file = RemoteFile(name, f"{base.rstrip('/')}/onnxruntime-web/-/{name}", checksum=INTEGRITY)
    with tempfile.TemporaryDirectory(prefix="geovision-") as temporary:
        package = fetch(file, Path(temporary) / name, progress=progress)
        content = _extract_members(package)
    write_files(folder, {each: _bytes_writer(data) for each, data in (content | _license_texts()).items()})
    return folder


def _extract_members(package: Path) -> dict[str, bytes]:
    """Return the content of the required files. Names are compared and never used as paths."""
    found = {}
    with tarfile.open(package, "r:gz") as archive:
        for member in archive:
            for name in RUNTIME_FILES:
                if member.isfile() and member.name == f"package/dist/{name}":
                    stream = archive.extractfile(member)
                    assert stream is not None
                    found[name] = stream.read()
    if missing := set(RUNTIME_FILES) - set(found):
        raise DownloadError(
            f"{package.name}: contains no {', '.join(sorted(missing))}; a different version is required"
        )
    return found


def _license_texts() -> dict[str, bytes]:
    """Return the license and notices of ONNX Runtime from its Python package.

    The npm package does not contain them.
    """
    files = importlib.metadata.files("onnxruntime") or ()
    wanted = {f"onnxruntime/{name}": name for name in ("LICENSE", "ThirdPartyNotices.txt")}
    return {wanted[str(file)]: Path(str(file.locate())).read_bytes() for file in files if str(file) in wanted}


def _bytes_writer(data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in RUNTIME_FILES)


def _cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "geovision" / f"onnxruntime-web-{VERSION}"


def bundle_runtime() -> None:
    """Download the runtime into the package, for a checkout or a wheel that is built afterwards.

    Without network the rest of geovision works, so a failure only prints a message.
    """
    if _is_complete(_BUNDLED_DIR):
        return
    try:
        print(fetch_runtime(_BUNDLED_DIR))
    except GeovisionError as error:
        print(f"geovision: pages cannot predict in the browser without this file: {error}", file=sys.stderr)
