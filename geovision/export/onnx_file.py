"""Export of a model as ONNX file, with a comparison of both predictions."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import geovision
from geovision import _atomic_io
from geovision._logging import suppress_logging
from geovision.errors import ExportError, MissingExtraError
from geovision.export.metadata import METADATA_KEY, build_metadata
from geovision.export.shrink import narrow_integers
from geovision.export.tracing import MAP_OUTPUT, TracedModel, trace
from geovision.models.geomodel import GeoModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

__all__ = ["RUNTIME_NAME", "TOLERANCE", "build_onnx", "copy_runtime", "export_onnx", "run_onnx"]

TOLERANCE = 1e-4
"""Maximum difference between the predictions of an exported file and of the model.

The difference is relative to the largest value if that exceeds 1.
"""

MAP_TOLERANCE = 1e-2
"""Maximum difference of the class-activation map; its rounding errors pass through derivatives."""

RUNTIME_NAME = "runtime.py"
"""Name of the program that predicts from an exported file."""


def export_onnx(
    model: GeoModel,
    path: str | Path,
    *,
    axes: Mapping[str, int] | None = None,
    calibration: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Export a model as one ONNX file.

    The file contains normalization, network, temperature and softmax, accepts any batch size, and contains
    the description of `build_metadata` as metadata. Its predictions are compared with those of the model
    before the file is written.

    Args:
        model: Model whose registry entry is ``exportable``.
        path: Output file; its folder is created if missing.
        axes: Lengths of axes of variable length, such as ``{"y": 128, "x": 128}``. Default: None.
        calibration: Batches of graph inputs from `calibration_inputs`. Their ranges are used to quantize
            weights and activations to 8-bit integers. Default: None, float32.

    Returns:
        `path`.

    Raises:
        ExportError: If the entry is not exportable, or the predictions of the file differ from the model.
        OptionError: If the length of an axis is unknown.
        MissingExtraError: If onnx, onnxscript or onnxruntime is not installed.
        StorageError: If the file cannot be written; an existing file is unchanged.
    """
    path = Path(path)
    model_proto = build_onnx(model, axes=axes)
    if calibration is not None:
        from geovision.export.quantize import quantize

        model_proto = quantize(model_proto, calibration)
    content = model_proto.SerializeToString()
    _atomic_io.write_files(path.parent, {path.name: lambda temporary: _write_file(temporary, content)})
    return path


def copy_runtime(folder: str | Path) -> Path:
    """Copy `geovision.onnx_runtime` as a standalone program into a folder.

    The program predicts from an exported file and requires only onnxruntime, numpy and Pillow.

    Args:
        folder: Output folder.

    Returns:
        Path of the program.

    Raises:
        StorageError: If the file cannot be written.
    """
    spec = importlib.util.find_spec("geovision.onnx_runtime")
    assert spec is not None
    assert spec.origin is not None
    return _atomic_io.write_text(Path(folder) / RUNTIME_NAME, Path(spec.origin).read_text("utf-8"))


def build_onnx(model: GeoModel, *, axes: Mapping[str, int] | None = None) -> onnx.ModelProto:
    """Build the float32 ONNX graph of a model and compare it with the model.

    The comparison uses generated inputs. See `export_onnx`.

    Args:
        model: Model whose registry entry is ``exportable``.
        axes: Lengths of axes of variable length. Default: None.

    Returns:
        ONNX model with metadata.

    Raises:
        ExportError: If the entry is not exportable, or the predictions differ.
        OptionError: If the length of an axis is unknown.
        MissingExtraError: If onnx, onnxscript or onnxruntime is not installed.
    """
    model.spec.check_exportable()
    _check_libraries()
    traced = trace(model, axes=axes)
    model_proto = _convert(traced)
    narrow_integers(model_proto)
    _compare(traced, model_proto, model.spec.name)
    _set_metadata(model_proto, build_metadata(model) | {"outputs": list(traced.outputs)})
    return model_proto


def _check_libraries() -> None:
    for library in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(library) is None:
            raise MissingExtraError(library, "export")


def _convert(traced: TracedModel) -> onnx.ModelProto:
    batch = torch.export.Dim("batch")
    with _suppress_warnings():
        program = torch.onnx.export(
            traced.module,
            traced.example,
            dynamo=True,
            verbose=False,
            external_data=False,
            input_names=traced.inputs,
            output_names=traced.outputs,
            dynamic_shapes=tuple({0: batch} for _ in traced.inputs),
        )
    assert program is not None
    return program.model_proto


@contextmanager
def _suppress_warnings() -> Iterator[None]:
    """Suppress warnings of the exporter, which concern developers of exporters."""
    with suppress_logging("torch.onnx", below=logging.ERROR), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def run_onnx(model_proto: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run an ONNX model with ONNX Runtime on one batch.

    Args:
        model_proto: ONNX model.
        inputs: Batch of each graph input, by name.

    Returns:
        Batch of each graph output, by name.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _compare(traced: TracedModel, model_proto: onnx.ModelProto, name: str) -> None:
    """Raise if ONNX Runtime and torch predict different values.

    The batch has one sample fewer than the traced one, so a fixed batch size is detected.
    """
    inputs = [tensor[1:] for tensor in traced.example]
    with torch.no_grad():
        expected = dict(zip(traced.outputs, traced.module(*inputs), strict=True))
    try:
        found = run_onnx(
            model_proto, {key: each.numpy() for key, each in zip(traced.inputs, inputs, strict=True)}
        )
    except Exception as error:  # the exceptions of ONNX Runtime have no common base class
        reason = str(error).splitlines()[0]
        raise ExportError(f"{name}: ONNX Runtime rejects the exported graph: {reason}") from error
    for output, values in expected.items():
        least, tolerance = (1e-6, MAP_TOLERANCE) if output == MAP_OUTPUT else (1.0, TOLERANCE)
        reference = values.double()
        largest = max(float(reference.abs().max()), least)
        worst = float((reference - torch.from_numpy(found[output]).double()).abs().max())
        if not worst <= tolerance * largest:
            raise ExportError(
                f"{name}: output {output!r} of ONNX Runtime differs from torch by {worst:.2g} (largest value "
                f"{largest:.2g}); nothing was written"
            )


def _set_metadata(model_proto: onnx.ModelProto, metadata: Mapping[str, Any]) -> None:
    """Add the description of the model and remove the notes of the exporter."""
    for node in model_proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for named in (
        model_proto,
        model_proto.graph,
        *model_proto.graph.value_info,
        *model_proto.graph.initializer,
        *model_proto.graph.input,
        *model_proto.graph.output,
    ):
        del named.metadata_props[:]
    model_proto.producer_name, model_proto.producer_version = "geovision", geovision.__version__
    model_proto.doc_string = f"{metadata['model']}: {metadata['task']['question']['en']}"
    text = json.dumps(metadata, ensure_ascii=False, allow_nan=False)
    model_proto.metadata_props.add(key=METADATA_KEY, value=text)


def _write_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
