"""Which convolutions and matrix products of a file run in INT8: read from the kernels that a builder made of them.

Nodes and weights get names of ours first, so that a file's own names cannot stand for other nodes: TensorRT 8.6 joins the
names of both in the name of a kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import onnx

from course.engine import Engine, Layer
from course.quantize import explain_placement, parses_on
from course.quantize.network import WEIGHTED, Edge, Network, attribute
from course.quantize.pairs import Stripped, strip
from course.quantize.placement import weight_axis

Build = Callable[[bytes], Engine]
_IN_FLOAT = ("input in float", "weights in float", "scales per channel")
"""Kinds of finding that keep a layer in float."""


@dataclass(frozen=True)
class HeavyLayer:
    """node: its name in the file. multiplications: for one image. int8: its kernel reads INT8.
    per_channel: its weights have a scale for each output channel.
    """

    node: str
    kind: str
    multiplications: int
    int8: bool
    per_channel: bool


def heavy_layers(data: bytes, build: Build) -> dict[str, list]:
    """ "layers": a dict for each layer of `WEIGHTED`; "why": what a placement's rules say, where it keeps a layer in float;
    "refusals": of TensorRT's parsers; with one of them nothing is built.

    build: makes an engine that lists its kernels.
    """
    proto = onnx.load_model_from_string(data)
    stripped = strip(Network(proto))
    names = [stripped.net.name(index) for index in range(len(stripped.net.nodes))]
    refusals = [" ".join(str(one).split()) for several in parses_on(proto).values() for one in several]
    why = [f"{one.node}: {one.cause} {one.next_step}" for one in explain_placement(proto) if one.kind in _IN_FLOAT]
    if refusals:
        return {"layers": [], "why": [], "refusals": refusals[:20]}
    _rename(proto.graph)
    with build(proto.SerializeToString()) as engine:
        kernels = engine.layers()
    layers = [
        HeavyLayer(
            names[index],
            node.op_type,
            _multiplications(stripped, index),
            _reads_int8(kernels, index),
            _fine(stripped, index),
        )
        for index, node in enumerate(stripped.net.nodes)
        if node.op_type in WEIGHTED
    ]
    return {"layers": [asdict(layer) for layer in layers], "why": why[:20], "refusals": refusals[:20]}


def _rename(network: onnx.GraphProto) -> None:
    """ "node0", "node1", ... without the pairs, which are no nodes of the network; "grader_weight0", ... for what is stored."""
    weights = {tensor.name: f"grader_weight{number}" for number, tensor in enumerate(network.initializer)}
    for tensor in network.initializer:
        tensor.name = weights[tensor.name]
    for value in (*network.input, *network.output, *network.value_info):
        value.name = weights.get(value.name, value.name)
    number = 0
    for place, node in enumerate(network.node):
        node.input[:] = [weights.get(name, name) for name in node.input]
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.name = f"pair{place}"
        else:
            node.name, number = f"node{number}", number + 1


def _reads_int8(kernels: tuple[Layer, ...], index: int) -> bool:
    """Whether the kernel that multiplies for this node reads INT8. Others ("kgen") only order or finish its values."""
    name = f"node{index}"
    return any(
        kernel.inputs and kernel.inputs[0].dtype == "int8"
        for kernel in kernels
        if name in kernel.onnx_nodes and kernel.kind not in ("kgen", "Reformat", "NoOp")
    )


def _fine(stripped: Stripped, index: int) -> bool:
    """Whether a layer's weights have one scale for each output channel."""
    pairs = stripped.pairs.get(Edge(index, 1), ())
    node, net = stripped.net.nodes[index], stripped.net
    rank = len(net.shapes.get(node.input[1], ()))
    return (
        bool(pairs)
        and rank > 0
        and all(pair.per_channel and pair.axis % rank == weight_axis(node, rank) for pair in pairs)
    )


def _multiplications(stripped: Stripped, index: int) -> int:
    """Of one image; 0 where a shape is not known."""
    node, net = stripped.net.nodes[index], stripped.net
    weights, result = net.shapes.get(node.input[1]), net.shapes.get(node.output[0])
    if not weights or not result or any(size < 1 for size in (*weights, *result[1:])):
        return 0
    if node.op_type == "Conv":
        return math.prod(result[1:]) * math.prod(weights[1:])
    if node.op_type == "ConvTranspose":
        taken = net.shapes.get(node.input[0])
        return math.prod(taken[1:]) * math.prod(weights[1:]) if taken and min(taken[1:]) > 0 else 0
    depth = weights[1] if node.op_type == "Gemm" and attribute(node, "transB", 0) else weights[-2]
    return math.prod(result[1:]) * depth
