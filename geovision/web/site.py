"""A folder that is the page: static files, ready for any web server."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from geovision import onnx_runtime
from geovision._atomic_io import write_files
from geovision.errors import OptionError
from geovision.web.browser_runtime import browser_runtime

if TYPE_CHECKING:
    import numpy as np

    from geovision.models.geomodel import GeoModel

__all__ = ["MODES", "Mode", "validate_page_metadata", "write_model_site", "write_site"]

Mode = Literal["server", "device"]
MODES: tuple[Mode, ...] = ("server", "device")
"""Who answers: the server that the page came from, or the browser itself."""

_STATIC = Path(__file__).parent / "static"
_DEVICE_ONLY_FILES = ("worker.js", "decode.js", "service-worker.js")


def write_site(folder: Path, metadata: Mapping[str, Any], mode: Mode, model: Path | None = None) -> Path:
    """Write the page into a folder, whole or not at all.

    Args:
        folder: Created where it is missing; files of the same names are replaced.
        metadata: What is known of the model, `geovision.export.build_metadata`.
        mode: With ``"device"`` the model and the browser's runtime lie beside the page, and a service worker
            keeps all of it for later, without network.
        model: The exported file, for ``"device"``.

    Raises:
        DownloadError: The browser's runtime is not there and could not be fetched.
        StorageError: It could not be written.
    """
    page = dict(metadata) | {"mode": mode, "file": "model.onnx"}
    files = {path.name: path.read_bytes() for path in sorted(_STATIC.iterdir())}
    if mode == "server":
        files = {name: data for name, data in files.items() if name not in _DEVICE_ONLY_FILES}
    files["page.json"] = json.dumps(page, ensure_ascii=False).encode()
    files["manifest.webmanifest"] = _render_template(
        files["manifest.webmanifest"], TITLE=metadata["task"]["title"]["en"]
    )
    if mode == "device":
        assert model is not None
        files["model.onnx"] = model.read_bytes()
        runtime = browser_runtime()
        _copy_runtime(runtime, folder / "ort")
        beside = sorted(f"ort/{path.name}" for path in runtime.iterdir() if path.suffix in (".mjs", ".wasm"))
        kept = ["./", *sorted(set(files) - {"index.html", "service-worker.js"}), *beside]
        files["service-worker.js"] = _render_template(
            files["service-worker.js"], VERSION=_content_version(files), FILES=json.dumps(kept)
        )
    write_files(folder, {name: _bytes_writer(data) for name, data in files.items()})
    return folder


def write_model_site(
    model: GeoModel, folder: str | Path, *, calibration: Mapping[str, np.ndarray] | None = None
) -> Path:
    """Export a model and lay the page around it that answers on the device.

    Args:
        calibration: As of `geovision.export_onnx`.

    Raises:
        OptionError: A model that is not of one picture to a class.
        DownloadError, StorageError: See `write_site`.
        ExportError: See `geovision.export_onnx`.
    """
    from geovision.export import build_metadata, export_onnx  # needs torch, which a server does without

    validate_page_metadata(build_metadata(model))
    with tempfile.TemporaryDirectory(prefix="geovision-web-") as beside:
        file = export_onnx(model, Path(beside) / "model.onnx", calibration=calibration)
        return write_site(Path(folder), onnx_runtime.OnnxModel(file).metadata, "device", file)


def validate_page_metadata(metadata: Mapping[str, Any]) -> None:
    """Raise where a page would not know what to ask or to show.

    Raises:
        OptionError: A model that is not of one picture to a class.
    """
    pictures = [given["picture"] for given in metadata["inputs"]]
    if metadata["target"]["kind"] != "class" or len(pictures) != 1 or pictures[0] is None:
        raise OptionError(f"{metadata['model']} has no page: that is for one picture, answered by a class")


def _render_template(template: bytes, **values: str) -> bytes:
    text = template.decode()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text.encode()


def _content_version(files: Mapping[str, bytes]) -> str:
    """A name for exactly these files, so that another model or page replaces what a phone has kept."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
    return f"geovision-{digest.hexdigest()[:16]}"


def _copy_runtime(runtime: Path, folder: Path) -> None:
    write_files(folder, {path.name: _copy_writer(path) for path in sorted(runtime.iterdir())})


def _copy_writer(source: Path):
    return lambda path: shutil.copyfile(source, path)


def _bytes_writer(data: bytes):
    return lambda path: path.write_bytes(data)
