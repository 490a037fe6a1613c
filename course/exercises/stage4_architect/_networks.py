"""Small ONNX networks for the checks of the Triton lessons."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def colour(kind: str) -> bytes:
    """image [n, 3, h, w] -> colour [n, 3], float32: the mean over the pixels ("mean") or the largest value ("max")."""
    operator = {"mean": "GlobalAveragePool", "max": "GlobalMaxPool"}[kind]
    nodes = [helper.make_node(operator, ["image"], ["pooled"]), helper.make_node("Flatten", ["pooled"], ["colour"])]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])
    result = helper.make_tensor_value_info("colour", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(nodes, kind, [image], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def telltale() -> bytes:
    """x [n, 784] -> y [n, 10], float32: twice the first nine numbers of x, and n, the rows that it was run with."""
    constants = {
        "start": np.array([0], np.int64),
        "nine": np.array([9], np.int64),
        "one": np.array([1], np.int64),
        "two": np.array(2, np.float32),
        "zeros": np.zeros((784, 1), np.float32),
    }
    nodes = [
        helper.make_node("Slice", ["x", "start", "nine", "one"], ["first"]),
        helper.make_node("Mul", ["first", "two"], ["double"]),
        helper.make_node("Shape", ["x"], ["n64"], start=0, end=1),
        helper.make_node("Cast", ["n64"], ["n"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "zeros"], ["column"]),
        helper.make_node("Add", ["column", "n"], ["rows"]),
        helper.make_node("Concat", ["double", "rows"], ["y"], axis=1),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 784])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "telltale", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()
