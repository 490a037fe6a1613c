"""A small network of the judge's, other for every learner: what calibrators and build scripts are tried on.

No scale that somebody computed before fits it, and it calibrates in seconds. With a node of a plugin, which a library of the
judge's knows, it is what a build script that loads a plugin is tried on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, helper, numpy_helper

INPUT, OUTPUT = "image", "logits"
_WIDTH, _DOMAIN = 16, "judge"


def network(rng: np.random.Generator, sample: Sequence[int]) -> bytes:
    """ONNX with random weights: stem, pooling, a residual block, a head. float32 [batch, *sample] -> [batch, 10].

    sample: channels, height, width.
    """
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def node(kind: str, name: str, *inputs: str, **attributes) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [f"{name}_out"], name, **attributes))
        return f"{name}_out"

    def constant(name: str, values: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def conv(name: str, x: str, inputs: int, kernel: int, stride: int = 1) -> str:
        gain = np.sqrt(2 / (inputs * kernel * kernel))
        w = constant(f"{name}.weight", rng.standard_normal((_WIDTH, inputs, kernel, kernel)) * gain)
        b = constant(f"{name}.bias", rng.standard_normal(_WIDTH) * 0.1)
        shape = {"kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4, "strides": [stride] * 2}
        return node("Conv", name, x, w, b, **shape)

    x = node("Relu", "relu", conv("stem", INPUT, sample[0], 7, 4))
    x = node("MaxPool", "pool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    y = node("Relu", "block.relu", conv("block.conv1", x, _WIDTH, 3))
    x = node("Relu", "block.end", node("Add", "block.add", conv("block.conv2", y, _WIDTH, 3), x))
    x = node("Flatten", "flat", node("GlobalAveragePool", "average", x))
    head = constant("head.weight", rng.standard_normal((10, _WIDTH)) / 4)
    nodes.append(helper.make_node("Gemm", [x, head, constant("head.bias", np.zeros(10))], [OUTPUT], "head", transB=1))
    made = helper.make_model(
        helper.make_graph(
            nodes,
            "probe",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", *sample])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", 10])],
            weights,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    made.ir_version = 8
    onnx.checker.check_model(made, full_check=True)
    return made.SerializeToString()


def function(rng: np.random.Generator, name: str) -> bytes:
    """A node for `with_node`, as a FunctionProto: a convolution with random weights of its own, and a tanh."""
    values = {
        "weight": rng.standard_normal((_WIDTH, _WIDTH, 3, 3)) / 12,
        "bias": rng.standard_normal(_WIDTH) * 0.1,
    }
    nodes = [
        helper.make_node("Constant", [], [key], value=numpy_helper.from_array(value.astype(np.float32)))
        for key, value in values.items()
    ]
    nodes.append(helper.make_node("Conv", ["x", "weight", "bias"], ["sum"], kernel_shape=[3, 3], pads=[1] * 4))
    nodes.append(helper.make_node("Tanh", ["sum"], ["y"]))
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_function(_DOMAIN, name, ["x"], ["y"], nodes, opsets, ["plugin_version"]).SerializeToString()


def with_node(network: bytes, name: str) -> bytes:
    """A network of `network` with one node of a plugin behind its first activation."""
    model = onnx.load_model_from_string(network)
    model.graph.node[1].output[0] = "before"
    node = helper.make_node(name, ["before"], ["relu_out"], "custom", domain=_DOMAIN, plugin_version="1")
    model.graph.node.insert(2, node)
    model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    return model.SerializeToString()


def inlined(network: bytes, function: bytes) -> bytes:
    """The same in ONNX's own operators."""
    model = onnx.load_model_from_string(network)
    model.functions.append(onnx.FunctionProto.FromString(function))
    return onnx.inliner.inline_local_functions(model).SerializeToString()
