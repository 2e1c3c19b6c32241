"""The graphs that a server answers with, made by a process of their own.

Exporting takes torch, answering does not: so the server itself has a fifth of the memory.
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
    """Files of one exported model: with the map of where it looked, and without."""

    with_map: Path
    without_map: Path


def export_models(folder: Path, open_model: Callable[[], GeoModel], *, int8: bool = False) -> ExportedModels:
    """Export a model into a folder.

    Args:
        open_model: Gives it. It is called in another process, so it has to be something that pickle takes,
            such as ``functools.partial(geovision.create, "cloud-mobilenetv2", pretrained=True)``.
        int8: In 8 bits.

    Raises:
        GeovisionError: As from opening and exporting it.
    """
    graphs = ExportedModels(folder / "model.onnx", folder / "quick.onnx")
    # Spawned: a fork would take along whatever threads there are.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(_export_both, graphs, open_model, int8).result()
    return graphs


def _export_both(exported: ExportedModels, open_model: Callable[[], GeoModel], int8: bool) -> None:
    from geovision.export import calibration_inputs, export_onnx

    model = open_model()
    export_onnx(model, exported.with_map, calibration=calibration_inputs(model) if int8 else None)
    _drop_outputs(exported.with_map, exported.without_map, [MAP_OUTPUT])


def _drop_outputs(source: Path, destination: Path, dropped: Sequence[str]) -> None:
    """Write the part of a graph that its other outputs need, with all that the file says of itself."""
    import onnx
    from onnx.utils import Extractor

    given = onnx.load(source)
    outputs = [output.name for output in given.graph.output if output.name not in dropped]
    made = Extractor(given).extract_model([each.name for each in given.graph.input], outputs)
    made.metadata_props.extend(given.metadata_props)
    onnx.save(made, destination)
