"""The bytes of an exported file: nothing kept twice, nothing wider than it has to be.

Each function changes a graph in place, and none of them what an operation takes but for the rounding that it
tells. What stands narrow in the file is widened by an operation on a constant, which ONNX Runtime does once,
when it loads the file.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

__all__ = ["drop_unused", "narrow_floats", "narrow_integers", "share_weights", "shorten_names"]

_TABLE = 40_000
"""Bytes from which a table is worth an operation of its own."""

_VECTOR = 1_000
"""The same of biases, of which each layer has one."""


def share_weights(written: onnx.ModelProto) -> None:
    """Let what reads a weight in float32 read the 8-bit one that others read, and leave out zero points that
    are 0, which is what is taken where there is none."""
    from onnx import numpy_helper

    kept = {each.name: each for each in written.graph.initializer}
    widening = [n for n in written.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in kept]
    widened = {node.input[0].removesuffix("_quantized"): node.output[0] for node in widening}
    for node in written.graph.node:
        for at, name in enumerate(node.input):
            if name in kept and name in widened:
                node.input[at] = widened[name]
    for node in widening:
        if len(node.input) == 3 and not numpy_helper.to_array(kept[node.input[2]]).any():
            del node.input[2]
    drop_unused(written)


def drop_unused(written: onnx.ModelProto) -> None:
    """Leave out constants that nothing reads."""
    used = {name for node in written.graph.node for name in node.input}
    for each in [each for each in written.graph.initializer if each.name not in used]:
        written.graph.initializer.remove(each)


def narrow_integers(written: onnx.ModelProto) -> None:
    """Keep large tables of integers, such as of positions, in the narrowest type that holds them."""
    import onnx
    from onnx import numpy_helper

    for each in list(written.graph.initializer):
        if each.data_type == onnx.TensorProto.INT64 and 8 * math.prod(each.dims) >= _TABLE:
            values = numpy_helper.to_array(each)
            kept = np.result_type(np.min_scalar_type(values.min()), np.min_scalar_type(values.max()))
            _keep(written, each, values.astype(kept))


def narrow_floats(written: onnx.ModelProto) -> None:
    """Keep what is still in float32 narrow: tables that products read in 8 bits with one scale a row, other
    large tables and biases of convolutions in float16. Other vectors stay: those are scales, means and
    variances, which may be too small for it."""
    import onnx
    from onnx import numpy_helper

    readers: dict[str, set[tuple[str, int]]] = {}
    for node in written.graph.node:
        for at, name in enumerate(node.input):
            readers.setdefault(name, set()).add((node.op_type, at))
    for each in list(written.graph.initializer):
        if each.data_type != onnx.TensorProto.FLOAT:
            continue
        values, read = numpy_helper.to_array(each), readers.get(each.name, set())
        if values.ndim == 2 and values.nbytes >= _TABLE and read & {("MatMul", 1), ("Gemm", 1)}:
            _keep_rows(written, each, values)
        elif (values.ndim >= 2 and values.nbytes >= _TABLE) or (
            values.nbytes >= _VECTOR and read == {("Conv", 2)}
        ):
            half = values.astype(np.float16)
            # Half a step of float16 at the largest value: none overflows, what becomes 0 was next to nothing.
            if np.abs(half.astype(np.float32) - values).max() <= 2.0**-11 * np.abs(values).max():
                _keep(written, each, half)


def _keep(written: onnx.ModelProto, constant: onnx.TensorProto, narrow: np.ndarray) -> None:
    """Keep a constant as `narrow`, and widen it to what it was."""
    _put_before(written, constant, narrow, "Cast", [], to=constant.data_type)


def _keep_rows(written: onnx.ModelProto, constant: onnx.TensorProto, values: np.ndarray) -> None:
    from onnx import numpy_helper

    largest = np.abs(values).max(1)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    narrow = np.rint(values / scales[:, None]).astype(np.int8)
    written.graph.initializer.append(numpy_helper.from_array(scales, f"{constant.name}_scale"))
    _put_before(written, constant, narrow, "DequantizeLinear", [f"{constant.name}_scale"], axis=0)


def _put_before(
    written: onnx.ModelProto,
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
    written.graph.node.insert(0, node)


def shorten_names(written: onnx.ModelProto) -> None:
    """Number what lies between inputs and outputs; names and shapes of it say nothing to who computes it."""
    graph = written.graph
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
