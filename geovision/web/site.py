"""Writing of the page as a folder of static files for any web server."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
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
"""Place of the prediction: the server of the page, or the browser."""

_STATIC = Path(__file__).parent / "static"
_DEVICE_ONLY_FILES = ("worker.js", "decode.js", "service-worker.js")


def write_site(folder: Path, metadata: Mapping[str, Any], mode: Mode, model: Path | None = None) -> Path:
    """Write the page into a folder; an incomplete page is never left.

    Args:
        folder: Output folder; created if missing. Files with the same names are replaced.
        metadata: Description of the model, see `geovision.export.build_metadata`.
        mode: ``"server"`` or ``"device"``. With ``"device"``, the folder also contains the model and the
            browser runtime, and a service worker caches all files for use without network.
        model: ONNX file of the model, required for ``"device"``. Default: None.

    Returns:
        `folder`.

    Raises:
        DownloadError: If the browser runtime is missing and cannot be downloaded.
        StorageError: If the folder cannot be written.
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
        runtime_files = sorted(
            f"ort/{path.name}" for path in runtime.iterdir() if path.suffix in (".mjs", ".wasm")
        )
        cached = ["./", *sorted(set(files) - {"index.html", "service-worker.js"}), *runtime_files]
        files["service-worker.js"] = _render_template(
            files["service-worker.js"], VERSION=_content_version(files), FILES=json.dumps(cached)
        )
    write_files(folder, {name: _bytes_writer(data) for name, data in files.items()})
    return folder


def write_model_site(
    model: GeoModel, folder: str | Path, *, calibration: Mapping[str, np.ndarray] | None = None
) -> Path:
    """Export a model with a page that predicts in the browser.

    Args:
        model: Classifier of one image.
        folder: Output folder.
        calibration: Calibration inputs of an 8-bit graph, see `geovision.export_onnx`. Default: None,
            float32.

    Returns:
        `folder`.

    Raises:
        OptionError: If the model is not a classifier of one image.
        DownloadError: If the browser runtime is missing and cannot be downloaded.
        StorageError: If the folder cannot be written.
        ExportError: If the model cannot be exported, see `geovision.export_onnx`.
    """
    from geovision.export import build_metadata, export_onnx  # requires torch, which a server does not import

    validate_page_metadata(build_metadata(model))
    with tempfile.TemporaryDirectory(prefix="geovision-web-") as temporary:
        file = export_onnx(model, Path(temporary) / "model.onnx", calibration=calibration)
        return write_site(Path(folder), onnx_runtime.OnnxModel(file).metadata, "device", file)


def validate_page_metadata(metadata: Mapping[str, Any]) -> None:
    """Check that the page supports a model.

    Args:
        metadata: Description of the model, see `geovision.export.build_metadata`.

    Raises:
        OptionError: If the model is not a classifier of one image.
    """
    images = [spec["picture"] for spec in metadata["inputs"]]
    if metadata["target"]["kind"] != "class" or len(images) != 1 or images[0] is None:
        raise OptionError(
            f"the page does not support {metadata['model']}; expected a model that classifies one image"
        )


def _render_template(template: bytes, **values: str) -> bytes:
    text = template.decode()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text.encode()


def _content_version(files: Mapping[str, bytes]) -> str:
    """Return a version that depends on all files, so that phones replace outdated caches."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
    return f"geovision-{digest.hexdigest()[:16]}"


def _copy_runtime(runtime: Path, folder: Path) -> None:
    write_files(folder, {path.name: _copy_writer(path) for path in sorted(runtime.iterdir())})


def _copy_writer(source: Path) -> Callable[[Path], None]:
    def copy(path: Path) -> None:
        shutil.copyfile(source, path)

    return copy


def _bytes_writer(data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write
