"""Static 8-bit quantization of exported graphs, calibrated on a sample of inputs."""

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
    """Return inputs with typical value ranges for the calibration of `quantize`.

    Args:
        model: Model to calibrate.
        source: Any input of `GeoModel.predict`. Default: None, generated samples of the main dataset of the
            task.
        count: Maximum number of samples, evenly spaced in `source`. Default: 128.
        seed: Random seed of the generator. Default: 0.

    Returns:
        Each graph input by name; the first axis is the sample, the others are the layout of the input.

    Raises:
        InputError: If an input cannot be read.
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
                valid = torch.as_tensor(sample.valid.get(spec.name, given is not None)).expand(values.shape)
                columns.setdefault(mask, []).append(valid.bool().numpy())
    return {name: np.stack(values) for name, values in columns.items()}


def quantize(model_proto: onnx.ModelProto, calibration: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """Quantize a graph to 8 bits.

    Convolutions, products with weights and the operations between them are computed in integers. Statistics
    of feature maps, the head, its scores and the gradient of the class-activation map are computed in
    float32; the gradient reads the same 8-bit weights. The remaining float32 constants are stored in narrower
    types, see `geovision.export.shrink`.

    Args:
        model_proto: ONNX model from `geovision.export.onnx_file.build_onnx`.
        calibration: Each graph input, shape (sample, ...), by name.

    Returns:
        Quantized ONNX model with the same metadata.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "quantized.onnx"
        quantize_static(
            model_proto,
            target,
            _CalibrationReader(calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            # A quantized bias would be stored as three constants, although it is rounded when loaded.
            extra_options={"QuantizeBias": False},
            op_types_to_quantize=["Conv", "MatMul", "Gemm", "Add", "Clip", "Relu"],
            nodes_to_exclude=_float_nodes(model_proto),
        )
        quantized = onnx.load(target)
    share_weights(quantized)
    narrow_floats(quantized)
    shorten_names(quantized)
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(model_proto.metadata_props)
    quantized.producer_name, quantized.producer_version = (
        model_proto.producer_name,
        model_proto.producer_version,
    )
    return quantized


class _CalibrationReader:
    """Reader of one calibration sample at a time."""

    def __init__(self, calibration: Mapping[str, np.ndarray]) -> None:
        count = len(next(iter(calibration.values())))
        self.samples = iter(
            {name: values[at : at + 1] for name, values in calibration.items()} for at in range(count)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.samples, None)


def _float_nodes(model_proto: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes that are computed in float32.

    These are the last product of the head, products of feature maps, sums with a constant, and all nodes that
    are only used by outputs other than the first, such as the map or the outlier score.
    """
    producers = {name: node for node in model_proto.graph.node for name in node.output}

    def ancestors(*tensors: str) -> set[str]:
        """Return the names of the nodes that some tensors depend on."""
        names: set[str] = set()
        pending = list(tensors)
        while pending:
            node = producers.get(pending.pop())
            if node is not None and node.name not in names:
                names.add(node.name)
                pending += node.input
        return names

    (values, *_) = (output.name for output in model_proto.graph.output)
    weights = {each.name for each in model_proto.graph.initializer}
    network = ancestors(values)
    products = [node for node in model_proto.graph.node if node.op_type in ("MatMul", "Gemm")]
    own = {node.name for node in products if values in node.output or not weights & set(node.input)}
    # A small added constant keeps a root and its gradient away from 0; in 8 bits it would round to 0.
    shifts = {
        node.name for node in model_proto.graph.node if node.op_type == "Add" and weights & set(node.input)
    }
    return sorted({node.name for node in model_proto.graph.node} - network | own | shifts)
