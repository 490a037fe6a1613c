"""Small ONNX networks for the tests of serving."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def _save(path: Path, nodes, inputs, outputs, weights=()) -> Path:
    graph = helper.make_graph(nodes, "net", inputs, outputs, list(weights))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def mlp(path: Path, width: int = 256, hidden: int = 1024, batch: int | str = "n") -> Path:
    """x [n, width] -> y [n, 10], two hidden layers: bound by reading weights, so a batch costs little more than one."""
    random, sizes = np.random.default_rng(0), (width, hidden, hidden, 10)
    weights, nodes, last = [], [], "x"
    for number, shape in enumerate(zip(sizes, sizes[1:])):
        values = (random.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{number}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{number}"], [f"m{number}" if number < 2 else "y"]))
        if number < 2:
            nodes.append(helper.make_node("Relu", [f"m{number}"], [last := f"r{number}"]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, width])
    return _save(path, nodes, [x], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 10])], weights)


def mean_colour(path: Path, side: int = 32) -> Path:
    """pixels [n, 3, side, side] -> mean [n, 3]."""
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, side, side])
    mean = helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["n", 3])
    nodes = [helper.make_node("GlobalAveragePool", ["pixels"], ["p"]), helper.make_node("Flatten", ["p"], ["mean"])]
    return _save(path, nodes, [pixels], [mean])
