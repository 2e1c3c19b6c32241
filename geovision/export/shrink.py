"""Reduction of the size of an exported file: shared weights and narrow constant types.

Each function changes a graph in place. The inputs of operations change only by the documented rounding.
Narrow constants are widened by an operation, which ONNX Runtime evaluates once when it loads the file.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

__all__ = ["drop_unused", "narrow_floats", "narrow_integers", "share_weights", "shorten_names"]

_MIN_TABLE_SIZE = 40_000
"""Minimum size of a table that is stored in a narrow type, in bytes."""

_MIN_VECTOR_SIZE = 1_000
"""Minimum size of a bias that is stored in a narrow type, in bytes."""


def share_weights(model_proto: onnx.ModelProto) -> None:
    """Replace float32 weights by existing 8-bit copies and remove zero points of 0.

    A missing zero point means 0.

    Args:
        model_proto: ONNX model; changed in place.
    """
    from onnx import numpy_helper

    kept = {each.name: each for each in model_proto.graph.initializer}
    widening = [n for n in model_proto.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in kept]
    widened = {node.input[0].removesuffix("_quantized"): node.output[0] for node in widening}
    for node in model_proto.graph.node:
        for at, name in enumerate(node.input):
            if name in kept and name in widened:
                node.input[at] = widened[name]
    for node in widening:
        if len(node.input) == 3 and not numpy_helper.to_array(kept[node.input[2]]).any():
            del node.input[2]
    drop_unused(model_proto)


def drop_unused(model_proto: onnx.ModelProto) -> None:
    """Remove constants that no operation reads.

    Args:
        model_proto: ONNX model; changed in place.
    """
    used = {name for node in model_proto.graph.node for name in node.input}
    for each in [each for each in model_proto.graph.initializer if each.name not in used]:
        model_proto.graph.initializer.remove(each)


def narrow_integers(model_proto: onnx.ModelProto) -> None:
    """Store large integer tables, such as positions, in the narrowest sufficient type.

    Args:
        model_proto: ONNX model; changed in place.
    """
    import onnx
    from onnx import numpy_helper

    for each in list(model_proto.graph.initializer):
        if each.data_type == onnx.TensorProto.INT64 and 8 * math.prod(each.dims) >= _MIN_TABLE_SIZE:
            values = numpy_helper.to_array(each)
            kept = np.result_type(np.min_scalar_type(values.min()), np.min_scalar_type(values.max()))
            _store_narrow(model_proto, each, values.astype(kept))


def narrow_floats(model_proto: onnx.ModelProto) -> None:
    """Store large float32 constants in narrower types.

    Tables that are read by matrix products are stored in 8 bits with one scale per row. Other large tables
    and biases of convolutions are stored in float16. Other vectors are unchanged: they are scales, means and
    variances, which may be too small for float16.

    Args:
        model_proto: ONNX model; changed in place.
    """
    import onnx
    from onnx import numpy_helper

    readers: dict[str, set[tuple[str, int]]] = {}
    for node in model_proto.graph.node:
        for at, name in enumerate(node.input):
            readers.setdefault(name, set()).add((node.op_type, at))
    for each in list(model_proto.graph.initializer):
        if each.data_type != onnx.TensorProto.FLOAT:
            continue
        values, read = numpy_helper.to_array(each), readers.get(each.name, set())
        if values.ndim == 2 and values.nbytes >= _MIN_TABLE_SIZE and read & {("MatMul", 1), ("Gemm", 1)}:
            _store_quantized_rows(model_proto, each, values)
        elif (values.ndim >= 2 and values.nbytes >= _MIN_TABLE_SIZE) or (
            values.nbytes >= _MIN_VECTOR_SIZE and read == {("Conv", 2)}
        ):
            half = values.astype(np.float16)
            # The error is at most half a float16 step of the largest value: no overflow, and only negligible
            # values become 0.
            if np.abs(half.astype(np.float32) - values).max() <= 2.0**-11 * np.abs(values).max():
                _store_narrow(model_proto, each, half)


def _store_narrow(model_proto: onnx.ModelProto, constant: onnx.TensorProto, narrow: np.ndarray) -> None:
    """Store a constant as `narrow` and add an operation that widens it to its type."""
    _insert_node(model_proto, constant, narrow, "Cast", [], to=constant.data_type)


def _store_quantized_rows(
    model_proto: onnx.ModelProto, constant: onnx.TensorProto, values: np.ndarray
) -> None:
    from onnx import numpy_helper

    largest = np.abs(values).max(1)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    narrow = np.rint(values / scales[:, None]).astype(np.int8)
    model_proto.graph.initializer.append(numpy_helper.from_array(scales, f"{constant.name}_scale"))
    _insert_node(model_proto, constant, narrow, "DequantizeLinear", [f"{constant.name}_scale"], axis=0)


def _insert_node(
    model_proto: onnx.ModelProto,
    constant: onnx.TensorProto,
    narrow: np.ndarray,
    operation: str,
    others: list[str],
    **attributes: Any,
) -> None:
    import onnx
    from onnx import numpy_helper

    name = constant.name
    constant.CopyFrom(numpy_helper.from_array(narrow, f"{name}_narrow"))
    node = onnx.helper.make_node(operation, [constant.name, *others], [name], f"{name}_widened", **attributes)
    model_proto.graph.node.insert(0, node)


def shorten_names(model_proto: onnx.ModelProto) -> None:
    """Replace the names of intermediate tensors by numbers and remove their shapes.

    Names and shapes of intermediate tensors are not needed for the computation.

    Args:
        model_proto: ONNX model; changed in place.
    """
    graph = model_proto.graph
    numbers = itertools.count()
    names = {each.name: each.name for each in (*graph.input, *graph.output)} | {"": ""}
    for each in graph.initializer:
        each.name = names.setdefault(each.name, f"{next(numbers)}")
    for node in graph.node:
        node.name = ""
        for ends in (node.input, node.output):
            for at, name in enumerate(ends):
                ends[at] = names.setdefault(name, f"{next(numbers)}")
    del graph.value_info[:]
