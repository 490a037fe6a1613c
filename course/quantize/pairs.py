"""Reads the pairs of QuantizeLinear and DequantizeLinear in a model, whoever wrote them, and takes them out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from course.quantize.network import Edge, Network, attribute

QUANTISE, DEQUANTISE = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True, eq=False)
class Pair:
    """A Q and its DQ, or a DQ of integers that are stored in the file.

    q, dq: names of the nodes, q "" without one. tensor: the float tensor that goes in; for stored integers their name.
    scale: float32 [C] or [], None if it is no constant. zero_point: None if not given. dtype: onnx.TensorProto type of
    the integers, 0 if neither a zero point nor stored integers say it. axis: of the channels.
    """

    q: str
    dq: str
    tensor: str
    scale: np.ndarray | None
    zero_point: np.ndarray | None
    dtype: int
    axis: int

    @property
    def per_channel(self) -> bool:
        """Whether there is more than one scale, one for each channel; not one for each block, as INT4 weights have."""
        return self.scale is not None and self.scale.ndim == 1 and self.scale.size > 1


@dataclass(frozen=True)
class Stripped:
    """A model without its pairs. pairs: edge of this model -> the pairs that stood on it, the last one first.

    outputs: output of the graph -> the pairs before it.
    """

    proto: onnx.ModelProto
    net: Network
    pairs: dict[Edge, tuple[Pair, ...]]
    outputs: dict[str, tuple[Pair, ...]]


def read_pairs(net: Network) -> dict[str, Pair]:
    """Output of each DequantizeLinear -> its pair."""
    return {node.output[0]: _pair(net, index) for index, node in enumerate(net.nodes) if node.op_type == DEQUANTISE}


def strip(net: Network) -> Stripped:
    """Take all pairs out. Stored integers become float32 weights again."""
    pairs = read_pairs(net)
    proto = onnx.ModelProto()
    proto.CopyFrom(net.proto)
    proto.graph.ClearField("node")
    on_edges: dict[Edge, tuple[Pair, ...]] = {}
    floats: dict[str, onnx.TensorProto] = {}

    def behind(tensor: str) -> tuple[str, tuple[Pair, ...]]:
        passed = []
        while tensor in pairs:
            passed.append(pairs[tensor])
            tensor = pairs[tensor].tensor
        if passed and not passed[-1].q and tensor in net.weights:
            floats.setdefault(tensor, _dequantised(net.weights[tensor], passed[-1]))
        return tensor, tuple(passed)

    outputs = {}
    renamed: dict[str, str] = {}
    for tensor in net.outputs:
        source, passed = behind(tensor)
        if passed:
            outputs[tensor] = passed
            renamed[source] = tensor
    for node in net.nodes:
        if node.op_type in (QUANTISE, DEQUANTISE):
            continue
        copy = proto.graph.node.add()
        copy.CopyFrom(node)
        for slot, tensor in enumerate(node.input):
            source, passed = behind(tensor)
            copy.input[slot] = renamed.get(source, source)
            if passed:
                on_edges[Edge(len(proto.graph.node) - 1, slot)] = passed
        copy.output[:] = [renamed.get(tensor, tensor) for tensor in node.output]
    used = {tensor for node in proto.graph.node for tensor in node.input} | set(net.outputs)
    kept = [floats.get(tensor.name, tensor) for tensor in net.proto.graph.initializer if tensor.name in used]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    del proto.graph.value_info[:]
    return Stripped(proto, Network(proto), on_edges, outputs)


def without_pairs(model: onnx.ModelProto, tensors: Collection[str]) -> onnx.ModelProto:
    """A copy in which these tensors have no pair: whoever read the DQ reads the float tensor.

    Args:
        tensors: float tensors that a QuantizeLinear reads; others are no fault. The graph's outputs keep their names.
    """
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph, ends = model.graph, {value.name for value in model.graph.output}
    rounded = {node.output[0]: node.input[0] for node in graph.node if node.op_type == QUANTISE}
    renamed, gone = {}, set()
    for node in graph.node:
        if node.op_type == DEQUANTISE and rounded.get(node.input[0]) in tensors:
            tensor, result = rounded[node.input[0]], node.output[0]
            gone |= {node.input[0], result}
            renamed.update({tensor: result} if result in ends else {result: tensor})
    kept = [node for node in graph.node if node.output[0] not in gone]
    for node in kept:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    del graph.node[:]
    graph.node.extend(kept)
    return model


def _pair(net: Network, index: int) -> Pair:
    dq = net.nodes[index]
    maker = net.producer.get(dq.input[0])
    q = net.nodes[maker] if maker is not None and net.nodes[maker].op_type == QUANTISE else None
    zero_point = _value(net, dq.input[2]) if len(dq.input) > 2 and dq.input[2] else None
    if zero_point is not None:
        dtype = net.dtypes.get(dq.input[2], 0)
    else:
        dtype = 0 if q is not None else net.dtypes.get(dq.input[0], 0)
    return Pair(
        "" if q is None else net.name(maker),
        net.name(index),
        dq.input[0] if q is None else q.input[0],
        _value(net, dq.input[1]),
        zero_point,
        dtype,
        attribute(dq, "axis", 1),
    )


def _value(net: Network, tensor: str) -> np.ndarray | None:
    """A constant's value; None if it is computed."""
    if tensor in net.weights:
        return numpy_helper.to_array(net.weights[tensor])
    maker = net.maker(tensor)
    if maker is not None and maker.op_type == "Constant" and maker.attribute[0].HasField("t"):
        return numpy_helper.to_array(maker.attribute[0].t)
    return None


def _dequantised(weight: onnx.TensorProto, pair: Pair) -> onnx.TensorProto:
    integers = numpy_helper.to_array(weight).astype(np.float32)
    scale = np.float32(1) if pair.scale is None else pair.scale.astype(np.float32)
    zero = np.float32(0) if pair.zero_point is None else pair.zero_point.astype(np.float32)
    if pair.per_channel:
        shape = [1] * integers.ndim
        shape[pair.axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape) if zero.size > 1 else zero
    elif scale.ndim > 1:  # a scale for each block of values
        length = integers.shape[pair.axis]
        block = -(-length // scale.shape[pair.axis])
        scale, zero = (
            part if part.ndim == 0 else np.repeat(part, block, pair.axis).take(range(length), pair.axis)
            for part in (scale, zero)
        )
    return numpy_helper.from_array(((integers - zero) * scale).astype(np.float32), weight.name)
