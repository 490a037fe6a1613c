"""Small ONNX models for the engine's tests: good ones, and one of each kind that a runtime must refuse."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from course.engine import Profile
from course.paths import ROOT

OPSET, IR_VERSION = 17, 8  # what TensorRT 8.6 reads


def weight(name: str, *shape: int, seed: int = 0) -> onnx.TensorProto:
    values = np.random.default_rng(seed).standard_normal(shape) * 0.2
    return numpy_helper.from_array(values.astype(np.float32), name)


def constant(name: str, value, dtype) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def model(
    nodes,
    weights=(),
    inputs=(("x", TensorProto.FLOAT, ["batch", 3, 16, 16]),),
    outputs=(("y", TensorProto.FLOAT, ["batch", 10]),),
    domains=(),
    opset=OPSET,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "zoo",
        [helper.make_tensor_value_info(*i) for i in inputs],
        [helper.make_tensor_value_info(*o) for o in outputs],
        list(weights),
    )
    made = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset)] + [helper.make_opsetid(domain, 1) for domain in domains],
    )
    made.ir_version = IR_VERSION
    return made


def convnet(batch="batch", height=16, width=16) -> onnx.ModelProto:
    """Conv, Relu, Conv, x * sigmoid(x), global pooling, linear: two fusions that every runtime makes."""
    node = helper.make_node
    return model(
        [
            node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
            node("Relu", ["c1"], ["r1"], "relu1"),
            node("Conv", ["r1", "w2", "b2"], ["c2"], "conv2", pads=[1, 1, 1, 1]),
            node("Sigmoid", ["c2"], ["s2"], "sigmoid2"),
            node("Mul", ["c2", "s2"], ["m2"], "mul2"),
            node("GlobalAveragePool", ["m2"], ["p"], "pool"),
            node("Flatten", ["p"], ["f"], "flatten"),
            node("Gemm", ["f", "w3", "b3"], ["y"], "linear", transB=1),
        ],
        [
            weight("w1", 8, 3, 3, 3),
            weight("b1", 8),
            weight("w2", 8, 8, 3, 3, seed=1),
            weight("b2", 8),
            weight("w3", 10, 8, seed=2),
            weight("b3", 10),
        ],
        inputs=[("x", TensorProto.FLOAT, [batch, 3, height, width])],
        outputs=[("y", TensorProto.FLOAT, [batch, 10])],
    )


def convnet_reference(x: np.ndarray) -> np.ndarray:
    """The convnet in torch, float32: [N, 3, H, W] -> [N, 10]."""
    import torch
    from torch.nn import functional

    w = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in convnet().graph.initializer}
    y = functional.conv2d(torch.from_numpy(np.array(x)), w["w1"], w["b1"], padding=1).relu()
    y = functional.silu(functional.conv2d(y, w["w2"], w["b2"], padding=1))
    return functional.linear(y.mean((2, 3)), w["w3"], w["b3"]).numpy()


def quantised() -> onnx.ModelProto:
    """A convolution with a Q/DQ pair on its input and one on its weights: what every TensorRT takes."""
    node = helper.make_node
    return model(
        [
            node("QuantizeLinear", ["x", "xs", "z"], ["xq"], "q_x"),
            node("DequantizeLinear", ["xq", "xs", "z"], ["xd"], "dq_x"),
            node("QuantizeLinear", ["w", "ws", "z"], ["wq"], "q_w"),
            node("DequantizeLinear", ["wq", "ws", "z"], ["wd"], "dq_w"),
            node("Conv", ["xd", "wd"], ["c"], "conv", pads=[1, 1, 1, 1]),
            node("Relu", ["c"], ["y"], "relu"),
        ],
        [
            constant("xs", 0.03, np.float32),
            constant("z", 0, np.int8),
            constant("ws", 0.006, np.float32),
            weight("w", 8, 3, 3, 3),
        ],
        outputs=[("y", TensorProto.FLOAT, ["batch", 8, 16, 16])],
    )


def quantised_reference(x: np.ndarray) -> np.ndarray:
    """The same arithmetic in NumPy and torch: [N, 3, 16, 16] -> [N, 8, 16, 16] float32."""
    import torch
    from torch.nn import functional

    def through_int8(values, scale):
        return torch.from_numpy(np.clip(np.round(values / scale), -128, 127).astype(np.float32) * np.float32(scale))

    w = through_int8(numpy_helper.to_array(weight("w", 8, 3, 3, 3)), np.float32(0.006))
    return functional.conv2d(through_int8(x, np.float32(0.03)), w, padding=1).relu().numpy()


def nonzero() -> onnx.ModelProto:
    """x [rows, 4] float32 -> where [2, K] int64 it is not 0: a shape that depends on the data."""
    return model(
        [helper.make_node("NonZero", ["x"], ["where"], "nonzero")],
        inputs=[("x", TensorProto.FLOAT, ["rows", 4])],
        outputs=[("where", TensorProto.INT64, [2, "k"])],
    )


def suppression(boxes: int = 16) -> onnx.ModelProto:
    """boxes [1, N, 4], scores [1, 2, N] -> selected [K, 3] int64: non-maximum suppression."""
    return model(
        [helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "least"], ["selected"], "nms")],
        [
            constant("most", [5], np.int64),
            constant("iou", [0.5], np.float32),
            constant("least", [0.3], np.float32),
        ],
        inputs=[("boxes", TensorProto.FLOAT, [1, boxes, 4]), ("scores", TensorProto.FLOAT, [1, 2, boxes])],
        outputs=[("selected", TensorProto.INT64, ["k", 3])],
    )


def suppression_feeds(boxes: int = 16) -> dict[str, np.ndarray]:
    """Boxes far apart, so that every one with a score above the threshold is kept, up to five a class."""
    corners = np.arange(boxes, dtype=np.float32)[:, None] * 10
    rectangles = np.concatenate([corners, corners, corners + 5, corners + 5], axis=1)[None]
    scores = np.zeros((1, 2, boxes), np.float32)
    scores[0, 0, :3], scores[0, 1, 4:6] = 0.9, 0.8
    return {"boxes": rectangles, "scores": scores}


def two_inputs() -> onnx.ModelProto:
    """a [batch, 4] + b [batch, 4] -> y: the batches must agree."""
    return model(
        [helper.make_node("Add", ["a", "b"], ["y"], "add")],
        inputs=[("a", TensorProto.FLOAT, ["batch", 4]), ("b", TensorProto.FLOAT, ["batch", 4])],
        outputs=[("y", TensorProto.FLOAT, ["batch", 4])],
    )


def shape_output() -> onnx.ModelProto:
    """x [batch, 3, 16, 16] -> y = relu(x), and its shape as an int64 output."""
    return model(
        [
            helper.make_node("Relu", ["x"], ["y"], "relu"),
            helper.make_node("Shape", ["y"], ["shape"], "shape"),
        ],
        outputs=[("y", TensorProto.FLOAT, ["batch", 3, 16, 16]), ("shape", TensorProto.INT64, [4])],
    )


IMAGE = ["batch", 3, 16, 16]


def broken() -> dict[str, tuple[bytes, str, str]]:
    """Kind of mistake -> (model, node, operator) that an error must name ("" where there is none to name)."""
    node = helper.make_node
    image = (("y", TensorProto.FLOAT, IMAGE),)
    made = {
        "unknown operator": (
            model(
                [node("Relu", ["x"], ["a"], "relu"), node("MySwish", ["a"], ["y"], "swish", domain="my.own")],
                outputs=image,
                domains=["my.own"],
            ),
            "swish",
            "MySwish",
        ),
        "channels do not match": (
            model(
                [node("Conv", ["x", "w"], ["y"], "conv")],
                [weight("w", 4, 7, 3, 3)],
                outputs=(("y", TensorProto.FLOAT, ["batch", 4, 14, 14]),),
            ),
            "conv",
            "Conv",
        ),
        "shapes do not broadcast": (
            model([node("Add", ["x", "b"], ["y"], "add")], [weight("b", 5)], outputs=image),
            "add",
            "Add",
        ),
        "input from nowhere": (
            model([node("Relu", ["nowhere"], ["y"], "relu")], outputs=image),
            "relu",
            "Relu",
        ),
        "two dtypes": (
            model([node("Add", ["x", "b"], ["y"], "add")], [constant("b", [1], np.float16)], outputs=image),
            "add",
            "Add",
        ),
        "output from nowhere": (model([node("Relu", ["x"], ["a"], "relu")], outputs=image), "", ""),
    }
    return {name: (made_model.SerializeToString(), *rest) for name, (made_model, *rest) in made.items()}


def images(batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch, 3, 16, 16)).astype(np.float32)


PROFILE = Profile({"x": ((1, 3, 16, 16), (2, 3, 16, 16), (4, 3, 16, 16))})
LARGE = Profile({"x": ((4, 3, 16, 16), (8, 3, 16, 16), (16, 3, 16, 16))})


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run code in a new process that finds the course and this module; its output is captured."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "PYTHONPATH": path},
    )
