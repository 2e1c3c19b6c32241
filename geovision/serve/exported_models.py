"""Export of the served model in a separate process.

Export requires torch, prediction does not. The server process therefore needs a fifth of the memory.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geovision.serve.predictor import MAP_OUTPUT

if TYPE_CHECKING:
    from geovision.models.geomodel import GeoModel

__all__ = ["ExportedModels", "export_models"]


@dataclass(frozen=True)
class ExportedModels:
    """Files of one exported model.

    Attributes:
        with_map: ONNX file with the class-activation map as an output.
        without_map: ONNX file without the class-activation map.
    """

    with_map: Path
    without_map: Path


def export_models(folder: Path, open_model: Callable[[], GeoModel], *, int8: bool = False) -> ExportedModels:
    """Export a model into a folder.

    Args:
        folder: Existing output folder.
        open_model: Function that returns the model. It is called in another process and must be picklable,
            such as ``functools.partial(geovision.create, "cloud-mobilenetv2", pretrained=True)``.
        int8: Whether to quantize to 8 bits. Default: False.

    Returns:
        Paths of the exported files.

    Raises:
        GeovisionError: If the model cannot be opened or exported.
    """
    exported = ExportedModels(folder / "model.onnx", folder / "quick.onnx")
    # The process is spawned, because a forked process would inherit the state of running threads.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(_export_both, exported, open_model, int8).result()
    return exported


def _export_both(exported: ExportedModels, open_model: Callable[[], GeoModel], int8: bool) -> None:
    from geovision.export import calibration_inputs, export_onnx

    model = open_model()
    export_onnx(model, exported.with_map, calibration=calibration_inputs(model) if int8 else None)
    _drop_outputs(exported.with_map, exported.without_map, [MAP_OUTPUT])


def _drop_outputs(source: Path, destination: Path, dropped: Sequence[str]) -> None:
    """Write a graph without some outputs and their operations, with the same metadata."""
    import onnx
    from onnx.utils import Extractor

    original = onnx.load(source)
    outputs = [output.name for output in original.graph.output if output.name not in dropped]
    extracted = Extractor(original).extract_model([each.name for each in original.graph.input], outputs)
    extracted.metadata_props.extend(original.metadata_props)
    onnx.save(extracted, destination)
