"""The ONNX file of a model, compared with the model before it is kept."""

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
"""Largest difference between an exported file's answers and the model's, as a part of the largest answer
where that is above 1."""

MAP_TOLERANCE = 1e-2
"""The same of the class-activation map, whose rounding errors pass through derivatives."""

RUNTIME_NAME = "runtime.py"
"""Name of the program that is laid beside an exported file."""


def export_onnx(
    model: GeoModel,
    path: str | Path,
    *,
    axes: Mapping[str, int] | None = None,
    calibration: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write a model as one ONNX file: normalisation, network, temperature and softmax inside, any number
    of samples in a batch, and what `describe` tells in its metadata.

    Args:
        model: Any whose entry is ``exportable``.
        path: Of the file; its folder is made.
        axes: Lengths of axes that its inputs leave open, such as ``{"y": 128, "x": 128}``.
        calibration: Batches of the graph's inputs, as of `calibration_inputs`: weights and activations
            become 8-bit integers, with the ranges that these have. None: float32.

    Returns:
        `path`.

    Raises:
        ExportError: The entry is not exportable, or the file answers otherwise than the model.
        OptionError: The length of an axis is not known.
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
        StorageError: It could not be written; what stood there is untouched.
    """
    path = Path(path)
    written = build_onnx(model, axes=axes)
    if calibration is not None:
        from geovision.export.quantize import quantize

        written = quantize(written, calibration)
    content = written.SerializeToString()
    _atomic_io.write_files(path.parent, {path.name: lambda temporary: _write_file(temporary, content)})
    return path


def copy_runtime(folder: str | Path) -> Path:
    """Put `geovision.onnx_runtime` as a file of its own into a folder: it answers from an exported file with
    onnxruntime, numpy and Pillow alone.

    Raises:
        StorageError: It could not be written.
    """
    spec = importlib.util.find_spec("geovision.onnx_runtime")
    assert spec is not None
    assert spec.origin is not None
    return _atomic_io.write_text(Path(folder) / RUNTIME_NAME, Path(spec.origin).read_text("utf-8"))


def build_onnx(model: GeoModel, *, axes: Mapping[str, int] | None = None) -> onnx.ModelProto:
    """The file's content, float32, compared with the model on generated inputs. See `export`."""
    model.spec.check_exportable()
    _check_libraries()
    traced = trace(model, axes=axes)
    written = _convert(traced)
    narrow_integers(written)
    _compare(traced, written, model.spec.name)
    _set_metadata(written, build_metadata(model) | {"outputs": list(traced.outputs)})
    return written


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
    """What exporters warn of concerns those who write exporters."""
    with suppress_logging("torch.onnx", below=logging.ERROR), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def run_onnx(model_proto: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The answers of a file's content to one batch, by name."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _compare(traced: TracedModel, model_proto: onnx.ModelProto, name: str) -> None:
    """Raise unless ONNX Runtime answers one sample fewer than was traced as torch answers it."""
    inputs = [tensor[1:] for tensor in traced.example]
    with torch.no_grad():
        expected = dict(zip(traced.outputs, traced.module(*inputs), strict=True))
    try:
        found = run_onnx(
            model_proto, {key: each.numpy() for key, each in zip(traced.inputs, inputs, strict=True)}
        )
    except Exception as error:  # ONNX Runtime's own have no common base
        reason = str(error).splitlines()[0]
        raise ExportError(f"{name}: ONNX Runtime refuses the exported graph: {reason}") from error
    for output, values in expected.items():
        least, tolerance = (1e-6, MAP_TOLERANCE) if output == MAP_OUTPUT else (1.0, TOLERANCE)
        said = values.double()
        largest = max(float(said.abs().max()), least)
        worst = float((said - torch.from_numpy(found[output]).double()).abs().max())
        if not worst <= tolerance * largest:
            raise ExportError(
                f"{name}: ONNX Runtime answers {output!r} otherwise than torch, by {worst:.2g} in "
                f"{largest:.2g}; nothing was written"
            )


def _set_metadata(model_proto: onnx.ModelProto, metadata: Mapping[str, Any]) -> None:
    """Say what the file is, and leave out what the exporter noted about the program it was traced from."""
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
