"""The rules behind `explain_placement`: what TensorRT fuses, and what a pair, or a missing one, does to it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from course.quantize.network import WEIGHTED, Edge
from course.quantize.pairs import Pair, Stripped
from course.quantize.placement import FUSED_ACTIVATIONS, backbone, residual_adds, weight_axis

COMMUTING = (
    "MaxPool",
    "Identity",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Slice",
    "Split",
    "Concat",
    "Gather",
    "Resize",
    "Relu",
)
"""Operators that a pair can move over: they pick or order values, and Relu's 0 is exact."""
INT8_OPERATORS = (*WEIGHTED, *COMMUTING, "Add", "Mul", "AveragePool", "GlobalAveragePool")
"""Operators that a DQ in front of them can be fused with. All others compute in float."""


@dataclass(frozen=True)
class Finding:
    """One place where a placement costs something.

    kind: the rule, one of KINDS. node, tensor: where, by the names of the float model.
    kernel: whether TensorRT needs a kernel more than without this; else it only moves or rounds more.
    """

    kind: str
    node: str
    tensor: str
    cause: str
    next_step: str
    kernel: bool = True

    def __str__(self) -> str:
        return f"{self.kind}: {self.tensor} at {self.node}\n  Cause: {self.cause}\n  Next step: {self.next_step}"


KINDS = {
    "pair before Add": "the convolution's result is rounded before the residual Add, which stays outside its kernel",
    "skip in float": "an INT8 convolution's Add reads its other input in float",
    "skip dequantised": "the skip side is INT8, but the Add's result is needed in float",
    "pair before pool": "a pair between a convolution and its activation keeps the pooling outside its kernel",
    "pair before activation": "a result is rounded between an operator and its activation",
    "input in float": "weights are quantised, the input is not",
    "weights in float": "the input is quantised, weights are not",
    "scales per channel": "an activation has several scales, or weights have them for another axis than outputs",
    "two copies": "a tensor is needed in INT8 and in float",
    "two scales": "a tensor is quantised with two scales",
    "Concat scales": "the inputs of a Concat have other scales than its result",
    "pair for nothing": "no operator behind a pair works in INT8",
    "quantised alone": "a tensor is made in float by an operator that cannot write INT8",
}


class View:
    """The float graph with what the pairs say of its edges and nodes."""

    def __init__(self, stripped: Stripped):
        self.net, self.pairs, self.outputs = stripped.net, stripped.pairs, stripped.outputs
        self.by_tensor: dict[str, list[Pair]] = defaultdict(list)  # float tensor -> the pairs it goes through first
        for edge, pairs in self.pairs.items():
            self.by_tensor[self.net.tensor(edge)].append(pairs[-1])
        for tensor, pairs in self.outputs.items():
            self.by_tensor[tensor].append(pairs[-1])
        self.by_tensor = dict(self.by_tensor)
        self.int8 = {
            index
            for index, node in enumerate(self.net.nodes)
            if node.op_type in WEIGHTED and self.comes_in_int8(Edge(index, 0)) and self.comes_in_int8(Edge(index, 1))
        }
        self.adds = residual_adds(self.net, self.int8)

    def comes_in_int8(self, edge: Edge) -> bool:
        """Whether a pair stands on the edge, or before operators that it can move over."""
        if edge in self.pairs:
            return not any(self.wrong_axis(edge, pair) for pair in self.pairs[edge])
        maker = self.net.producer.get(self.net.tensor(edge))
        if maker is None or self.net.nodes[maker].op_type not in COMMUTING:
            return False
        edges = [
            Edge(maker, slot)
            for slot, tensor in enumerate(self.net.nodes[maker].input)
            if self.net.is_activation(tensor)
        ]
        return bool(edges) and all(self.comes_in_int8(other) for other in edges)

    def wrong_axis(self, edge: Edge, pair: Pair) -> bool:
        """Whether a pair has several scales where a kernel takes one, or one for each output channel."""
        if not pair.per_channel:
            return False
        node = self.net.nodes[edge.index]
        if edge.slot != 1 or node.op_type not in WEIGHTED or not self.net.is_constant(self.net.tensor(edge)):
            return True
        rank = len(self.net.shapes[self.net.tensor(edge)])
        return pair.axis % rank != weight_axis(node, rank)

    def is_wanted_in_int8(self, tensor: str) -> bool:
        """Whether every reader takes the tensor through a pair, at once or behind operators that it can move over."""
        if tensor in self.net.outputs:
            return tensor in self.outputs
        return bool(self.net.readers[tensor]) and all(
            edge in self.pairs
            or (
                self.net.nodes[edge.index].op_type in COMMUTING
                and all(self.is_wanted_in_int8(t) for t in self.net.nodes[edge.index].output)
            )
            for edge in self.net.readers[tensor]
        )

    def behind_activation(self, index: int) -> str:
        """The node's result, behind the activation that follows it."""
        tensor = self.net.nodes[index].output[0]
        while self.net.read_once(tensor) and tensor not in self.by_tensor:
            reader = self.net.nodes[self.net.readers[tensor][0].index]
            if reader.op_type not in FUSED_ACTIVATIONS or reader.op_type in ("Mul", "Sigmoid"):
                break
            tensor = reader.output[0]
        return tensor


def _weights(view: View) -> list[tuple[int, Finding]]:
    """Convolutions and products that have only one of their operands in INT8."""
    found = []
    for index, node in enumerate(view.net.nodes):
        if node.op_type not in WEIGHTED or not view.net.is_constant(node.input[1]):
            continue
        x, w = view.comes_in_int8(Edge(index, 0)), view.comes_in_int8(Edge(index, 1))
        name = view.net.name(index)
        wrong = [
            node.input[edge.slot]
            for edge in (Edge(index, 0), Edge(index, 1))
            if any(view.wrong_axis(edge, pair) for pair in view.pairs.get(edge, ()))
        ]
        found += [
            (
                index,
                Finding(
                    "scales per channel",
                    name,
                    tensor,
                    f"{node.op_type} in INT8 takes one scale for its input and one for "
                    "each output channel of its weights; it runs in float.",
                    "Use one scale for an activation, and axis 0 for weights (1 for ConvTranspose).",
                ),
            )
            for tensor in wrong
        ]
        if wrong:
            continue
        if w and not x:
            found.append(
                (
                    index,
                    Finding(
                        "input in float",
                        name,
                        node.input[0],
                        f"{node.op_type} runs in INT8 only if both its operands are "
                        "INT8; its weights are turned back into floats.",
                        f"Put a pair on {node.input[0]!r}, or take the pair off the weights.",
                    ),
                )
            )
        elif x and not w:
            found.append(
                (
                    index,
                    Finding(
                        "weights in float",
                        name,
                        node.input[1],
                        f"{node.op_type} runs in INT8 only if both its operands are "
                        "INT8; its input is turned back into floats.",
                        "Put a pair on the weights, with a scale for each output channel.",
                    ),
                )
            )
    return found


def _adds(view: View) -> list[tuple[int, Finding]]:
    """Residual Adds and the INT8 convolution that they should be fused with."""
    found = []
    for index, main in view.adds.items():
        node = view.net.nodes[index]
        name, own, skip = view.net.name(index), node.input[main], node.input[1 - main]
        conv = view.net.name(backbone(view.net, own))
        if Edge(index, main) in view.pairs:
            found.append(
                (
                    index,
                    Finding(
                        "pair before Add",
                        name,
                        own,
                        f"The pair asks for the result of {conv} in INT8, so the kernel of "
                        f"{conv} ends there and the Add with its activation becomes a kernel of its own.",
                        f"Take the pair off {own!r}; leave the one on {skip!r}.",
                    ),
                )
            )
        elif not view.comes_in_int8(Edge(index, 1 - main)):
            found.append(
                (
                    index,
                    Finding(
                        "skip in float",
                        name,
                        skip,
                        f"The Add could run inside the kernel of {conv}, which reads INT8; the "
                        "skip side comes in float, four times the bytes, and has to be kept in float for it.",
                        f"Put a pair on {skip!r} where it enters {name}.",
                        kernel=False,
                    ),
                )
            )
        elif not view.is_wanted_in_int8(result := view.behind_activation(index)):
            found.append(
                (
                    index,
                    Finding(
                        "skip dequantised",
                        name,
                        skip,
                        f"The result {result!r} is read in float, so the kernel of {conv} "
                        "adds in float, and the skip side is turned back into floats by a kernel of its own.",
                        f"Put a pair on {result!r}, or leave the skip side of this Add in float.",
                    ),
                )
            )
    return found


def _activations(view: View) -> list[tuple[int, Finding]]:
    """Pairs between an operator and its activation."""
    found = []
    for edge, _pairs in view.pairs.items():
        node, tensor = view.net.nodes[edge.index], view.net.tensor(edge)
        maker = view.net.producer.get(tensor)
        if node.op_type not in FUSED_ACTIVATIONS or maker is None:
            continue
        if view.net.nodes[maker].op_type not in (*WEIGHTED, "Add"):
            continue
        name = view.net.name(edge.index)
        result = node.output[0]
        pools = [view.net.nodes[e.index] for e in view.net.readers[result]]
        pooled = view.net.nodes[maker].op_type == "Conv" and len(pools) == 1 and pools[0].op_type == "MaxPool"
        found.append(
            (
                edge.index,
                Finding(
                    "pair before pool" if pooled else "pair before activation",
                    name,
                    tensor,
                    f"{view.net.name(maker)}'s result is rounded before {node.op_type}, and once more behind it"
                    + (", so the pooling cannot be in the same kernel." if pooled else "."),
                    f"Take the pair off {tensor!r}; the one behind {node.op_type} is enough.",
                    kernel=pooled,
                ),
            )
        )
    return found


def _copies(view: View) -> list[tuple[int, Finding]]:
    """Tensors that are needed in more than one form."""
    found = []
    adds = {Edge(index, slot) for index in view.adds for slot in (0, 1)}
    for tensor, pairs in view.by_tensor.items():
        if view.net.is_constant(tensor) or not view.net.is_activation(tensor):
            continue
        place = view.net.producer.get(tensor, -1)
        maker = view.net.name(place) if place >= 0 else "the graph's input"
        scales = {pair.scale.tobytes() for pair in pairs if pair.scale is not None}
        if len(scales) > 1:
            shown = sorted(float(pair.scale.ravel()[0]) for pair in pairs if pair.scale is not None)
            found.append(
                (
                    place,
                    Finding(
                        "two scales",
                        maker,
                        tensor,
                        f"Its pairs have scales from {shown[0]:.6g} to {shown[-1]:.6g}, so it is "
                        "written more than once.",
                        "Give all pairs on this tensor one scale.",
                        kernel=False,
                    ),
                )
            )
        floats = [
            edge
            for edge in view.net.readers[tensor]
            if edge not in view.pairs and edge not in adds and view.net.nodes[edge.index].op_type not in COMMUTING
        ]
        multiplied = [edge for edge in view.net.readers[tensor] if edge in view.pairs and edge not in adds]
        if floats and multiplied:  # an Add can round a float operand while it reads it
            reader = view.net.name(floats[0].index)
            found.append(
                (
                    place,
                    Finding(
                        "two copies",
                        maker,
                        tensor,
                        f"{reader} reads it in float, others in INT8, so it is written twice.",
                        f"Put a pair on it at {reader} too, or on none of its readers.",
                        kernel=False,
                    ),
                )
            )
    return found


def _concats(view: View) -> list[tuple[int, Finding]]:
    """Concats between tensors of different scales."""
    found = []
    for index, node in enumerate(view.net.nodes):
        if node.op_type != "Concat" or node.output[0] not in view.by_tensor:
            continue
        wanted = _scale(view.by_tensor[node.output[0]][0])
        for tensor in node.input:
            others = {_scale(pair) for pair in view.by_tensor.get(tensor, ())} - {wanted, None}
            if others and wanted is not None:
                found.append(
                    (
                        index,
                        Finding(
                            "Concat scales",
                            view.net.name(index),
                            tensor,
                            f"It has scale {min(others):.6g}, the Concat's result {wanted:.6g}; to join them as INT8 it must "
                            "be quantised a second time.",
                            "Give all inputs of the Concat and its result one scale, the largest.",
                        ),
                    )
                )
    return found


def _nothing(view: View) -> list[tuple[int, Finding]]:
    """Pairs that no INT8 operator follows."""
    found = []
    for tensor in view.outputs:
        place = view.net.producer.get(tensor, -1)
        found.append(
            (
                place,
                Finding(
                    "pair for nothing",
                    view.net.name(place) if place >= 0 else "the graph's input",
                    tensor,
                    "It is an output of the graph and leaves as float: the DQ is a kernel of its own.",
                    "Take the pair off.",
                ),
            )
        )
    for tensor, _pairs in view.by_tensor.items():
        edges = [edge for edge in view.net.readers[tensor] if edge in view.pairs]
        if not edges or view.net.is_constant(tensor):
            continue
        readers = {view.net.nodes[edge.index].op_type for edge in edges}
        if not readers & {*INT8_OPERATORS}:
            found.append(
                (
                    edges[0].index,
                    Finding(
                        "pair for nothing",
                        view.net.name(edges[0].index),
                        tensor,
                        f"{', '.join(sorted(readers))} computes in float: the value is rounded and turned back.",
                        "Take the pair off.",
                    ),
                )
            )
    return found


def _alone(view: View) -> list[tuple[int, Finding]]:
    """Tensors that an operator without INT8 output makes, and that are quantised at once."""
    found = []
    for tensor, pairs in view.by_tensor.items():
        if view.net.is_constant(tensor) or not pairs[0].q:
            continue
        place = _source(view, tensor)
        if place is None:
            first = view.net.readers[tensor][0].index if view.net.readers[tensor] else -1
            found.append(
                (
                    -1,
                    Finding(
                        "quantised alone",
                        view.net.name(first) if first >= 0 else "the graph's output",
                        tensor,
                        "It comes into the engine in float; a kernel turns it into INT8.",
                        "Nothing to do: the price of a float input.",
                    ),
                )
            )
        elif (node := view.net.nodes[place]).op_type in (
            "AveragePool",
            "GlobalAveragePool",
            "ReduceMean",
        ) and not view.comes_in_int8(Edge(place, 0)):
            found.append(
                (
                    place,
                    Finding(
                        "quantised alone",
                        view.net.name(place),
                        tensor,
                        f"{node.op_type} reads and writes floats here; a kernel turns its result into INT8.",
                        f"Put a pair on {node.input[0]!r}, too, or leave what follows in float.",
                    ),
                )
            )
    return found


def _source(view: View, tensor: str) -> int | None:
    """Index of the node that computes a tensor's values, behind what only orders them; None for an input."""
    index = view.net.producer.get(tensor)
    while index is not None and view.net.nodes[index].op_type in COMMUTING and view.net.nodes[index].op_type != "Relu":
        index = view.net.producer.get(view.net.nodes[index].input[0])
    return index


def _scale(pair: Pair) -> float | None:
    return None if pair.scale is None or pair.scale.size != 1 else float(pair.scale.ravel()[0])


RULES = (_weights, _adds, _activations, _copies, _concats, _nothing, _alone)
