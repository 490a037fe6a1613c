"""A small network definition as an ONNX model, so that ONNX Runtime can run it where TensorRT cannot run.

The network is read back through TensorRT's own API: what runs is what was defined, mistakes included.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from course.engine.trt import features as compat
from course.errors import UnsupportedError

OPSET = 17
_ONNX_TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int32": TensorProto.INT32}
_ACTIVATIONS = {"RELU": "Relu", "SIGMOID": "Sigmoid", "TANH": "Tanh"}
_ELEMENTWISE = {"SUM": "Add", "PROD": "Mul", "SUB": "Sub", "DIV": "Div", "MAX": "Max", "MIN": "Min"}


def to_onnx(trt, network) -> onnx.ModelProto:
    """The network as ONNX: convolution, activation, pooling, scale, elementwise, constant and identity layers.

    Raises:
        UnsupportedError: a layer of another kind, or with a setting that is not translated here; names it.
    """
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def constant(name: str, values, shape) -> str:
        # A copy: TensorRT hands out a view of memory that it may give back.
        weights.append(numpy_helper.from_array(np.array(values, np.float32).reshape(shape), name))
        return name

    for index in range(network.num_layers):
        layer = network.get_layer(index)
        ends = [layer.get_input(0).name if layer.num_inputs else ""], [layer.get_output(0).name]
        kind = trt.ILayer.type.fget(layer).name  # a learner's own view of the layer may have another `type`
        if kind == "CONVOLUTION":
            nodes.append(_convolution(trt, layer, *ends, constant))
        elif kind == "POOLING":
            nodes.append(_pooling(trt, layer, *ends))
        elif kind == "SCALE":
            nodes.extend(_scale(trt, layer, *ends, constant))
        elif kind == "ACTIVATION":
            layer.__class__ = trt.IActivationLayer
            nodes.append(helper.make_node(_known(layer, layer.type, _ACTIVATIONS), *ends))
        elif kind == "ELEMENTWISE":
            layer.__class__ = trt.IElementWiseLayer
            both = [layer.get_input(0).name, layer.get_input(1).name]
            nodes.append(helper.make_node(_known(layer, layer.op, _ELEMENTWISE), both, ends[1]))
        elif kind == "CONSTANT":
            layer.__class__ = trt.IConstantLayer
            constant(ends[1][0], layer.weights, tuple(layer.shape))
        elif kind == "IDENTITY":
            nodes.append(helper.make_node("Identity", *ends))
        else:
            raise _unsupported(layer.name, kind)
    inputs = [_value(network.get_input(i), network) for i in range(network.num_inputs)]
    outputs = [_value(network.get_output(i), network) for i in range(network.num_outputs)]
    graph = helper.make_graph(nodes, "by_hand", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def _convolution(trt, layer, source, result, constant) -> onnx.NodeProto:
    name, channels = layer.name, layer.get_input(0).shape[1]
    layer.__class__ = trt.IConvolutionLayer
    kernel, bias, groups = np.array(layer.kernel), np.array(layer.bias), layer.num_groups
    shape = (layer.num_output_maps, channels // groups, *layer.kernel_size_nd)
    if kernel.size != np.prod(shape):
        raise UnsupportedError(
            f"Layer {name!r} has {kernel.size} weights.",
            f"{' x '.join(map(str, shape))} = {np.prod(shape)} are needed.",
            "Give add_convolution_nd the whole kernel: [outputs, inputs, height, width].",
        )
    names = [*source, constant(f"{name}.kernel", kernel, shape)]
    if bias.size:
        names.append(constant(f"{name}.bias", bias, (-1,)))
    return helper.make_node(
        "Conv",
        names,
        result,
        kernel_shape=shape[2:],
        group=groups,
        strides=tuple(layer.stride_nd),
        dilations=tuple(layer.dilation_nd),
        **_pads(layer, name),
    )


def _pooling(trt, layer, source, result) -> onnx.NodeProto:
    name = layer.name
    layer.__class__ = trt.IPoolingLayer
    operator = _known(layer, layer.type, {"MAX": "MaxPool", "AVERAGE": "AveragePool"})
    extra = {"count_include_pad": int(not layer.average_count_excludes_padding)} if operator == "AveragePool" else {}
    return helper.make_node(
        operator,
        source,
        result,
        kernel_shape=tuple(layer.window_size_nd),
        strides=tuple(layer.stride_nd),
        **_pads(layer, name),
        **extra,
    )


def _pads(layer, name: str) -> dict:
    mode = layer.padding_mode.name
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        return {"auto_pad": mode}
    if mode != "EXPLICIT_ROUND_DOWN":
        raise _unsupported(name, f"padding mode {mode}")
    return {"pads": (*layer.pre_padding, *layer.post_padding)}


def _scale(trt, layer, source, result, constant) -> list[onnx.NodeProto]:
    """(x * scale + shift) ** power, per tensor or per channel."""
    name, rank = layer.name, len(layer.get_input(0).shape)
    layer.__class__ = trt.IScaleLayer
    if layer.mode.name not in ("UNIFORM", "CHANNEL") or layer.channel_axis != 1:
        raise _unsupported(name, f"scale mode {layer.mode.name} on axis {layer.channel_axis}")
    shape = (1, -1) + (1,) * (rank - 2)
    now, nodes = source[0], []
    for operator, values in (("Mul", layer.scale), ("Add", layer.shift), ("Pow", layer.power)):
        values = np.array(values)
        if values.size:
            last = f"{name}.{operator}"
            nodes.append(helper.make_node(operator, [now, constant(f"{last}.value", values, shape)], [last]))
            now = last
    return [*nodes, helper.make_node("Identity", [now], result)]


def _value(tensor, network) -> onnx.ValueInfoProto:
    kind = compat.DTYPES.get(tensor.dtype.name, tensor.dtype.name)
    if kind not in _ONNX_TYPES:
        raise UnsupportedError(
            f"Tensor {tensor.name!r} is {kind}.", "The translation to ONNX does not know this type.", "Use float32."
        )
    # Open dimensions of one position share a name, as a batch does.
    shape = [f"open_{axis}" if side < 0 else side for axis, side in enumerate(tensor.shape)]
    if shape and shape[0] == "open_0":
        shape[0] = "batch"
    return helper.make_tensor_value_info(tensor.name, _ONNX_TYPES[kind], shape)


def _known(layer, setting, table: dict[str, str]) -> str:
    if setting.name not in table:
        raise _unsupported(layer.name, setting.name)
    return table[setting.name]


def _unsupported(name: str, kind: str) -> UnsupportedError:
    return UnsupportedError(
        f"Layer {name!r} ({kind}) is not translated to ONNX here.",
        "Only what the lesson on the raw API needs is: convolution, activation, pooling, scale, "
        "elementwise, constant and identity layers.",
        "Build your network of these.",
    )
