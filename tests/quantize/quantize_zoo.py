"""Small networks with the shapes that matter to a quantiser, and their inputs."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from course.engine import Profile


class Builder:
    """Adds nodes and weights to a graph; every operator's output is called `<node>_out`."""

    def __init__(self, seed: int = 0):
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def op(self, kind: str, name: str, *inputs: str, outputs: int = 1, **attributes) -> str:
        made = [f"{name}_out"] if outputs == 1 else [f"{name}_out{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), made, name, **attributes))
        return made[0]

    def weight(self, name: str, *shape: int, gain: float = 1.0) -> str:
        fan_in = max(int(np.prod(shape[1:])), 1)
        values = self.rng.standard_normal(shape) * gain * np.sqrt(2 / fan_in)
        return self.constant(name, values.astype(np.float32))

    def constant(self, name: str, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def conv(
        self,
        name: str,
        x: str,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        stride: int = 1,
        group: int = 1,
        say_kernel: bool = True,
    ) -> str:
        w = self.weight(f"{name}.weight", outputs, inputs // group, kernel, kernel)
        b = self.constant(f"{name}.bias", (self.rng.standard_normal(outputs) * 0.1).astype(np.float32))
        shape = {"kernel_shape": [kernel, kernel]} if say_kernel else {}
        return self.op("Conv", name, x, w, b, pads=[kernel // 2] * 4, strides=[stride] * 2, group=group, **shape)

    def silu(self, name: str, x: str) -> str:
        return self.op("Mul", f"{name}.mul", x, self.op("Sigmoid", f"{name}.sigmoid", x))

    def model(self, output: str, shape: tuple) -> onnx.ModelProto:
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ("batch", 3, 32, 32))
        graph = helper.make_graph(
            self.nodes, "net", [image], [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)], self.weights
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        made.ir_version = 8
        onnx.checker.check_model(made, full_check=True)
        return made


def residual_net(classes: int = 16) -> onnx.ModelProto:
    """image [N, 3, 32, 32] -> fc_out [N, classes]: a ResNet's stem, a block with and one without downsample, a head."""
    b = Builder()
    x = b.op(
        "MaxPool",
        "pool",
        b.op("Relu", "relu", b.conv("conv", "image", 3, 32, 7, 2)),
        kernel_shape=[3, 3],
        strides=[2, 2],
        pads=[1] * 4,
    )
    for block, inputs in (("block0", 32), ("block1", 64)):
        y = b.op("Relu", f"{block}.relu1", b.conv(f"{block}.conv1", x, inputs, 32, 1))
        y = b.op("Relu", f"{block}.relu2", b.conv(f"{block}.conv2", y, 32, 32, 3))
        y = b.conv(f"{block}.conv3", y, 32, 64, 1)
        skip = b.conv(f"{block}.down", x, inputs, 64, 1) if inputs != 64 else x
        x = b.op("Relu", f"{block}.relu3", b.op("Add", f"{block}.add", y, skip))
    x = b.op("Flatten", "flatten", b.op("GlobalAveragePool", "average", x))
    w = b.weight("fc.weight", classes, 64)
    out = b.op("Gemm", "fc", x, w, b.constant("fc.bias", np.zeros(classes, np.float32)), transB=1)
    return b.model(out, ("batch", classes))


def concat_net() -> onnx.ModelProto:
    """image [N, 3, 32, 32] -> last_out [N, 16, 16, 16]: SiLU, Split, an Add behind a SiLU, Concat, ConvTranspose."""
    b = Builder(1)
    x = b.silu("stem", b.conv("stem", "image", 3, 32, 3, 2))
    b.constant("sizes", np.array([16, 16], np.int64))
    b.op("Split", "split", x, "sizes", outputs=2, axis=1)
    y = b.silu("inner", b.conv("inner", "split_out1", 16, 16))
    y = b.op("Add", "add", "split_out1", y)
    z = b.silu("second", b.conv("second", y, 16, 16))
    x = b.op("Concat", "concat", "split_out0", y, z, axis=1)
    x = b.silu("leave", b.conv("leave", x, 48, 32, 1, say_kernel=False))
    x = b.op("MaxPool", "pool", x, kernel_shape=[2, 2], strides=[2, 2])
    w = b.weight("up.weight", 32, 16, 2, 2)
    x = b.op("ConvTranspose", "up", x, w, kernel_shape=[2, 2], strides=[2, 2])
    return b.model(b.conv("last", x, 16, 16, 1), ("batch", 16, 16, 16))


def images(count: int, seed: int = 0) -> np.ndarray:
    """float32 [count, 3, 32, 32]"""
    return np.random.default_rng(seed).standard_normal((count, 3, 32, 32)).astype(np.float32)


PROFILE = Profile({"image": ((1, 3, 32, 32), (4, 3, 32, 32), (8, 3, 32, 32))})


def answers(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """ONNX Runtime's first output, without its optimisations: just what the file says."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": x})[0]
