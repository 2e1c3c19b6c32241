"""8-bit weights and activations, with the ranges of a sample of inputs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from geovision.export.shrink import narrow_floats, share_weights, shorten_names
from geovision.export.tracing import mask_input_name
from geovision.models.example_inputs import synthetic_samples
from geovision.models.geomodel import GeoModel
from geovision.models.input_items import InputSample, iter_input_items
from geovision.models.layers.normalization import to_physical

if TYPE_CHECKING:
    import onnx

__all__ = ["CALIBRATION_SAMPLES", "calibration_inputs", "quantize"]

CALIBRATION_SAMPLES = 128


def calibration_inputs(
    model: GeoModel, source: Any = None, *, count: int = CALIBRATION_SAMPLES, seed: int = 0
) -> dict[str, np.ndarray]:
    """Inputs that show a model's ordinary ranges.

    Args:
        model: What they are for.
        source: Anything that `GeoModel.predict` takes; None: samples that the generator of the task's main
            data set makes.
        count: At most so many are taken, evenly from the whole of it.
        seed: Of the generator.

    Returns:
        Each input of the graph, ``(sample, *layout)``.

    Raises:
        InputError: Something that cannot be read.
    """
    if source is None:
        return _stack_samples(model, synthetic_samples(model, count, seed=seed))
    sources = list(iter_input_items(source, model.inputs))
    chosen = [sources[at] for at in sorted({round(n) for n in np.linspace(0, len(sources) - 1, count)})]
    return _stack_samples(model, (each.load(model.inputs) for each in chosen))


def _stack_samples(model: GeoModel, samples: Iterator[InputSample]) -> dict[str, np.ndarray]:
    columns: dict[str, list[np.ndarray]] = {}
    for sample in samples:
        for spec in model.inputs:
            given = sample.inputs.get(spec.name)
            values = to_physical(given, spec) if given is not None else torch.zeros(len(spec.channels))
            columns.setdefault(spec.name, []).append(values.numpy())
            if mask := mask_input_name(spec):
                there = torch.as_tensor(sample.valid.get(spec.name, given is not None)).expand(values.shape)
                columns.setdefault(mask, []).append(there.bool().numpy())
    return {name: np.stack(values) for name, values in columns.items()}


def quantize(model_proto: onnx.ModelProto, calibration: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """The same graph in 8 bits: weights with one scale a channel, activations with one scale a tensor.

    Convolutions, products with weights, and what lies between them are done in integers; statistics of
    maps, the head and its scores are computed in float32, and so is the gradient of the map, which reads the
    same 8-bit weights. What stays in float32 is kept narrow, as `geovision.export.shrink` does it.

    Args:
        model_proto: From `geovision.export.onnx_file.build_onnx`.
        calibration: Each input of the graph, ``(sample, …)``.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "quantised.onnx"
        quantize_static(
            model_proto,
            target,
            _CalibrationReader(calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            # Biases as the products of scales would be kept in three numbers; they are rounded when loaded.
            extra_options={"QuantizeBias": False},
            op_types_to_quantize=["Conv", "MatMul", "Gemm", "Add", "Clip", "Relu"],
            nodes_to_exclude=_float_nodes(model_proto),
        )
        quantised = onnx.load(target)
    share_weights(quantised)
    narrow_floats(quantised)
    shorten_names(quantised)
    del quantised.metadata_props[:]
    quantised.metadata_props.extend(model_proto.metadata_props)
    quantised.producer_name, quantised.producer_version = (
        model_proto.producer_name,
        model_proto.producer_version,
    )
    return quantised


class _CalibrationReader:
    """Hands the samples to the calibration, one at a time."""

    def __init__(self, calibration: Mapping[str, np.ndarray]) -> None:
        count = len(next(iter(calibration.values())))
        self.samples = iter(
            {name: values[at : at + 1] for name, values in calibration.items()} for at in range(count)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.samples, None)


def _float_nodes(model_proto: onnx.ModelProto) -> list[str]:
    """Names of the nodes that stay in float32: the last product of the head, products of maps with maps,
    sums with a constant, and all that serves other outputs than the first, such as the map or the outlier
    score."""
    made_by = {name: node for node in model_proto.graph.node for name in node.output}

    def behind(*wanted: str) -> set[str]:
        """Names of the nodes that some tensors are made by."""
        names: set[str] = set()
        ahead = list(wanted)
        while ahead:
            node = made_by.get(ahead.pop())
            if node is not None and node.name not in names:
                names.add(node.name)
                ahead += node.input
        return names

    (values, *_) = (output.name for output in model_proto.graph.output)
    weights = {each.name for each in model_proto.graph.initializer}
    network = behind(values)
    products = [node for node in model_proto.graph.node if node.op_type in ("MatMul", "Gemm")]
    own = {node.name for node in products if values in node.output or not weights & set(node.input)}
    # A small constant keeps a root and its gradient from 0; in 8 bits it would be 0 itself.
    shifts = {
        node.name for node in model_proto.graph.node if node.op_type == "Add" and weights & set(node.input)
    }
    return sorted({node.name for node in model_proto.graph.node} - network | own | shifts)
