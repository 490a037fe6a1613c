"""INT8 files, honest, wrong and cheating, each with the points that it must get: (int8, accuracy), of 4 and 5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from course.quantize import quantize
from tests.hostile.int8.milestone import images, plain, scales
from tests.measuring import tiny


@dataclass(frozen=True)
class Model:
    name: str
    make: Callable[[], onnx.ModelProto]
    int8: float
    accuracy: float
    says: str = ""


def honest() -> onnx.ModelProto:
    return quantize(plain(), scales())


def stored_weights() -> onnx.ModelProto:
    """Weights as INT8 with a DQ: no less honest."""
    return quantize(plain(), scales(), int8_weights=True)


def saturating() -> onnx.ModelProto:
    """Nearly everything is clipped."""
    return quantize(plain(), {tensor: scale / 16 for tensor, scale in scales().items()})


def from_noise() -> onnx.ModelProto:
    """Calibrated on faint noise instead of images."""
    noise = np.random.default_rng(0).standard_normal(images(8).shape) * 0.05
    return quantize(plain(), scales(noise.astype(np.float32)))


def from_raw_pixels() -> onnx.ModelProto:
    """Calibrated without the preprocessing of use: values up to 255."""
    return quantize(plain(), scales(images() * 57 + 120))


def another_network() -> onnx.ModelProto:
    other = onnx.load_model_from_string(tiny.export(tiny.Net(seed=8)))
    return quantize(other, scales())


def convs(model: onnx.ModelProto) -> list[str]:
    return [node.name for node in model.graph.node if node.op_type == "Conv"]


def heavy_ones_in_float() -> onnx.ModelProto:
    """Pairs on one layer, the others left out by name."""
    return quantize(plain(), scales(), exclude=convs(plain())[1:])


def names_of_others() -> onnx.ModelProto:
    """As above, and the float layers' names are made to look like the INT8 layer's in a list of kernels."""
    model = heavy_ones_in_float()
    good = convs(model)[0]
    for node in model.graph.node:
        if node.op_type == "Conv" and node.name != good:
            node.name = f"{node.name}] [ONNX Layer: {good}"
    for node in model.graph.node:
        if node.name == good:
            node.name = " ".join(f"[ONNX Layer: node{number}]" for number in range(12))
    return model


def float16() -> onnx.ModelProto:
    """FP16 called INT8: float16 weights behind casts, no pairs."""
    model = plain()
    floats = {tensor.name: tensor for tensor in model.graph.initializer if len(tensor.dims) > 1}
    casts = []
    for name, tensor in floats.items():
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], f"{name}_cast", to=TensorProto.FLOAT))
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    return model


def rounded_in_float() -> onnx.ModelProto:
    """The values of INT8 without INT8: weights rounded to 255 levels, in float32."""
    model = plain()
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim > 1:
            step = np.abs(values).max() / 127
            tensor.CopyFrom(numpy_helper.from_array(np.rint(values / step).astype(np.float32) * step, tensor.name))
    return model


def one_scale_for_all_weights() -> onnx.ModelProto:
    model = honest()
    weights = {name for node in model.graph.node if node.op_type == "Conv" for name in node.input[1:2]}
    pairs = [node for node in model.graph.node if node.op_type.endswith("Linear") and {*node.output} & weights]
    firsts = {node.input[0] for node in pairs}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node in pairs or node.output[0] in firsts and node.op_type == "QuantizeLinear":
            scale, zero = constants[node.input[1]], constants[node.input[2]]
            largest = float(numpy_helper.to_array(scale).max())
            scale.CopyFrom(numpy_helper.from_array(np.float32(largest), scale.name))
            zero.CopyFrom(numpy_helper.from_array(np.int8(0), zero.name))
            del node.attribute[:]
    return model


def unsigned() -> onnx.ModelProto:
    """Activations as uint8 with a zero point, as other runtimes like them."""
    model = honest()
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type.endswith("Linear") and constants[node.input[1]].dims == []:
            zero = constants[node.input[2]]
            zero.CopyFrom(numpy_helper.from_array(np.uint8(128), zero.name))
    return model


def int8_beside_the_network() -> onnx.ModelProto:
    """The network in float, and an INT8 copy of it whose answer is multiplied by nothing."""
    model, copy = plain(), honest()
    output = model.graph.output[0].name
    taken = {*(value.name for value in model.graph.input)}
    for part in (copy.graph.node, copy.graph.initializer):
        for one in part:
            one.name = f"copy_{one.name}"
    for node in copy.graph.node:
        node.input[:] = [name if name in taken or not name else f"copy_{name}" for name in node.input]
        node.output[:] = [f"copy_{name}" for name in node.output]
    for node in model.graph.node:
        node.output[:] = ["in_float" if name == output else name for name in node.output]
    zero = numpy_helper.from_array(np.zeros(1, np.float32), "nothing")
    model.graph.initializer.extend([*copy.graph.initializer, zero])
    model.graph.node.extend(copy.graph.node)
    model.graph.node.append(helper.make_node("Mul", [f"copy_{output}", "nothing"], ["gone"], "gone"))
    model.graph.node.append(helper.make_node("Add", ["in_float", "gone"], [output], "both"))
    return model


CASES = (
    Model("honest", honest, 4, 5),
    Model("stored-weights", stored_weights, 4, 5),
    Model("weights-only", lambda: quantize(plain(), {}, "weights"), 0, 0, "computes in float"),
    Model("heavy-ones-in-float", heavy_ones_in_float, 0, 0, "computes in float"),
    Model("names-of-others", names_of_others, 0, 0, "computes in float"),
    Model("one-scale-for-all-weights", one_scale_for_all_weights, 0, 0, "one scale for all its weights"),
    Model("unsigned", unsigned, 0, 0, "Not every TensorRT reads the file"),
    Model("plain-float", plain, 0, 0, "no Q/DQ nodes"),
    Model("float16", float16, 0, 0, "no Q/DQ nodes"),
    Model("rounded-in-float", rounded_in_float, 0, 0, "no Q/DQ nodes"),
    Model("int8-beside-the-network", int8_beside_the_network, 0, 0, "times as much as the network"),
    Model("saturating", saturating, 4, 0),
    Model("from-noise", from_noise, 4, 0),
    Model("from-raw-pixels", from_raw_pixels, 4, 0),
    Model("another-network", another_network, 4, 0, "another one"),
)
QUICK = ("honest", "weights-only", "names-of-others")
