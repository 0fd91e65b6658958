"""Smaller numbers for the matrices of an ONNX graph: fp16, or int8 with a factor for each row or column.

The graph turns them back into float32 with nodes that onnxruntime evaluates once, when it loads the graph: files are
smaller, scores are as fast.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serving.runtime.layout import NumberType
from serving.runtime.tables import quantized

_MIN_SIZE = 128
"""Elements from which on a matrix is worth its nodes."""


def shrink_weights(path: Path, numbers: NumberType) -> None:
    """Rewrites a graph with smaller matrices; vectors, such as biases, remain float32."""
    if numbers == "fp32":
        return
    model = onnx.load(str(path))
    graph, nodes = model.graph, []
    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2 or np.prod(tensor.dims) < _MIN_SIZE:
            continue
        name, weight = tensor.name, numpy_helper.to_array(tensor)
        graph.initializer.remove(tensor)
        if numbers == "fp16":
            graph.initializer.append(numpy_helper.from_array(weight.astype(np.float16), f"{name}.fp16"))
            nodes.append(helper.make_node("Cast", [f"{name}.fp16"], [name], to=TensorProto.FLOAT))
            continue
        values, scales = _quantized_by_axis(weight)
        graph.initializer.append(numpy_helper.from_array(values, f"{name}.int8"))
        graph.initializer.append(numpy_helper.from_array(scales, f"{name}.scales"))
        nodes.append(helper.make_node("Cast", [f"{name}.int8"], [f"{name}.values"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [f"{name}.values", f"{name}.scales"], [name]))
    for node in reversed(nodes):
        graph.node.insert(0, node)
    onnx.save(model, str(path))


def _quantized_by_axis(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 values and factors of the same number of axes, for the first or the last axis: that with less error."""
    found = []
    for axis in (0, weight.ndim - 1):
        rows = np.moveaxis(weight, axis, 0)
        values, scales = quantized(rows.reshape(len(rows), -1))
        shape = [1] * weight.ndim
        shape[axis] = -1
        quantized_weight = np.ascontiguousarray(np.moveaxis(values.reshape(rows.shape), 0, axis))
        scales = scales.astype(np.float32).reshape(shape)
        found.append((float(np.square(quantized_weight * scales - weight).sum()), axis, quantized_weight, scales))
    _, _, values, scales = min(found, key=lambda one: one[:2])
    return values, scales
