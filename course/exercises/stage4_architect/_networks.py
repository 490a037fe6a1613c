"""Small ONNX networks for the checks of the Triton lessons."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper


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
