"""An ONNX graph as a quantiser sees it: who makes a tensor, who reads it, what is a weight."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import onnx

from course.engine import graph

MOST_SHAPE_VALUES = 64  # a constant that decides shapes, as of Reshape or Resize, is no larger
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that multiply by weights: the ones that run on INT8 tensor cores."""


@dataclass(frozen=True)
class Edge:
    """Input number `slot` of the node at `index`: the place where a pair of Q and DQ can be put."""

    index: int
    slot: int


class Network:
    """A read-only view of a ModelProto.

    nodes: in the order of the file, which is topological. weights: initialisers by name. producer: tensor -> index of
    the node that makes it. readers: tensor -> edges that take it. inputs, outputs: names, without the weights.
    dtypes, shapes: what ONNX can infer; an unknown dimension is -1, an unknown shape is missing.
    """

    def __init__(self, proto: onnx.ModelProto):
        self.proto = proto
        self.nodes = list(proto.graph.node)
        self.weights = {tensor.name: tensor for tensor in proto.graph.initializer}
        self.inputs = [value.name for value in proto.graph.input if value.name not in self.weights]
        self.outputs = [value.name for value in proto.graph.output]
        self.producer = {tensor: index for index, node in enumerate(self.nodes) for tensor in node.output if tensor}
        self.readers: dict[str, list[Edge]] = defaultdict(list)
        for index, node in enumerate(self.nodes):
            for slot, tensor in enumerate(node.input):
                if tensor:
                    self.readers[tensor].append(Edge(index, slot))
        self.dtypes: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        inferred = onnx.shape_inference.infer_shapes(_without_large_weights(proto)).graph
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            tensor = value.type.tensor_type
            self.dtypes[value.name] = tensor.elem_type
            if tensor.HasField("shape"):
                self.shapes[value.name] = tuple(
                    dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim
                )
        for name, weight in self.weights.items():
            self.dtypes[name], self.shapes[name] = weight.data_type, tuple(weight.dims)
        self._constant = self._constant_tensors()

    def name(self, index: int) -> str:
        """The node's name, or one made of its operator and position."""
        return graph.node_name(self.nodes[index], index)

    def tensor(self, edge: Edge) -> str:
        """Name of the tensor that comes in at an edge."""
        return self.nodes[edge.index].input[edge.slot]

    def maker(self, tensor: str) -> onnx.NodeProto | None:
        """The node that makes a tensor; None for inputs and weights."""
        return self.nodes[self.producer[tensor]] if tensor in self.producer else None

    def is_constant(self, tensor: str) -> bool:
        """Whether it depends on weights only, as a weight does that comes through Q and DQ."""
        return tensor in self._constant

    def is_activation(self, tensor: str) -> bool:
        """Whether it is a float32 tensor that depends on the input."""
        return self.dtypes.get(tensor) == onnx.TensorProto.FLOAT and tensor not in self._constant

    def activations(self) -> list[str]:
        """All of them, inputs first, in the order in which they are made."""
        made = [tensor for node in self.nodes for tensor in node.output if tensor]
        return [tensor for tensor in (*self.inputs, *made) if self.is_activation(tensor)]

    def read_once(self, tensor: str) -> bool:
        """Whether exactly one edge takes it and it is no output of the graph: only then its maker can be fused on."""
        return len(self.readers[tensor]) == 1 and tensor not in self.outputs

    def depth(self) -> dict[str, int]:
        """Tensor -> number of nodes on the longest way from an input to it."""
        depths: dict[str, int] = dict.fromkeys(self.inputs, 0)
        for node in self.nodes:
            here = 1 + max((depths.get(tensor, 0) for tensor in node.input), default=0)
            depths.update(dict.fromkeys(node.output, here))
        return depths

    def edges(self) -> Iterator[Edge]:
        """Every input of every node that is not left out."""
        for index, node in enumerate(self.nodes):
            for slot, tensor in enumerate(node.input):
                if tensor:
                    yield Edge(index, slot)

    def _constant_tensors(self) -> set[str]:
        constant = set(self.weights)
        for node in self.nodes:
            if all(tensor in constant for tensor in node.input if tensor):
                constant.update(node.output)
        return constant


def _without_large_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with large weights as inputs: their values say nothing about shapes, and copying them takes seconds."""
    light = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    given = {value.name for value in proto.graph.input}
    light.graph.name = proto.graph.name
    light.graph.node.extend(proto.graph.node)
    light.graph.input.extend(proto.graph.input)
    light.graph.output.extend(proto.graph.output)
    light.graph.value_info.extend(proto.graph.value_info)
    for tensor in proto.graph.initializer:
        if math.prod(tensor.dims) <= MOST_SHAPE_VALUES:
            light.graph.initializer.add().CopyFrom(tensor)
        elif tensor.name not in given:
            light.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return light


def attribute(node: onnx.NodeProto, name: str, default):
    """Value of a node's attribute, `default` where it is not given."""
    for entry in node.attribute:
        if entry.name == name:
            return onnx.helper.get_attribute_value(entry)
    return default


def opset(proto: onnx.ModelProto) -> int:
    """Version of the standard operators that a model uses."""
    return next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
