"""Where pairs of QuantizeLinear and DequantizeLinear go: the rules that TensorRT fuses by, and four others to compare.

    "tensorrt"  both inputs of each convolution and matrix product, and the skip side of each residual Add
    "inputs"    the same without the Adds
    "both"      the same with both sides of each Add
    "outputs"   inputs and outputs of every operator: what ONNX Runtime's quantize_static does unless told otherwise
    "weights"   weights only

TensorRT makes one INT8 kernel of DQ → Conv → Add → Relu → Q. A pair between the convolution and the Add would ask for
the convolution's own result in INT8, so the Add cannot be in the same kernel; without one on the skip side the kernel
would have to read one input in INT8 and the other in float. (Developer Guide, "Q/DQ Layer-Placement Recommendations";
the rule for the skip side is Model Optimizer's, modelopt/onnx/quantization/graph_utils.py.)
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import onnx

from course.errors import CourseError
from course.quantize.network import WEIGHTED, Edge, Network, attribute

PLACEMENTS = ("tensorrt", "inputs", "both", "outputs", "weights")
FEWEST_CHANNELS = 16
"""Below it INT8 tensor cores have too little to do, in K or N of a matrix product and in most convolutions."""
FUSED_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "Mul", "HardSwish", "HardSigmoid", "BatchNormalization")
"""What may stand between a convolution and the Add that it is fused with; Sigmoid and Mul are a SiLU."""
UNTOUCHED = ("Shape", "Size", "NonMaxSuppression")  # no arithmetic on values, or in float only


@dataclass(frozen=True)
class Plan:
    """Where pairs go. Edges name inputs of nodes.

    weights: edge -> axis of the output channels. activations: edges whose tensor goes through a pair, one pair for all
    edges of a tensor. outputs: outputs of the graph that go through one. groups: tensors that share one scale.
    kept: node -> why it stays in high precision, for nodes that could have been quantised.
    """

    weights: dict[Edge, int] = field(default_factory=dict)
    activations: tuple[Edge, ...] = ()
    outputs: tuple[str, ...] = ()
    groups: tuple[frozenset[str], ...] = ()
    kept: dict[str, str] = field(default_factory=dict)

    def tensors(self, net: Network) -> list[str]:
        """Activations that need a scale, in the order in which the network makes them; those of their groups too."""
        wanted = {net.tensor(edge) for edge in self.activations} | set(self.outputs)
        wanted |= {tensor for group in self.groups if group & wanted for tensor in group}
        return [tensor for tensor in net.activations() if tensor in wanted]


def plan(net: Network, placement: str = "tensorrt", exclude: Iterable[str] = ()) -> Plan:
    """Decide where pairs go.

    Args:
        exclude: names of nodes that stay in high precision; * and ? stand for any characters.

    Raises:
        CourseError: there is no such placement or node, or the model already has Q/DQ nodes.
    """
    if placement not in PLACEMENTS:
        raise CourseError(
            f"There is no placement {placement!r}.", f"The placements are {', '.join(PLACEMENTS)}.", "Use one of these."
        )
    present = next(
        (
            net.name(index)
            for index, node in enumerate(net.nodes)
            if node.op_type in ("QuantizeLinear", "DequantizeLinear")
        ),
        None,
    )
    if present is not None:
        raise CourseError(
            "The model is quantised already.",
            f"Its node {present!r} is one of a pair of Q and DQ.",
            "Start from the float model.",
        )
    excluded = _excluded(net, exclude)
    kept = {
        net.name(index): reason
        for index in range(len(net.nodes))
        if (reason := _reason_to_keep(net, index, excluded, small_ones=placement == "outputs")) is not None
    }
    weighted = [
        index for index, node in enumerate(net.nodes) if node.op_type in WEIGHTED and net.name(index) not in kept
    ]
    weights = {
        Edge(index, 1): weight_axis(net.nodes[index], len(net.shapes[net.nodes[index].input[1]])) for index in weighted
    }
    inputs = [Edge(index, 0) for index in weighted]
    mains = {index: slot for index, slot in residual_adds(net, set(weighted)).items() if index not in excluded}
    outputs: tuple[str, ...] = ()
    if placement == "weights":
        activations = []
    elif placement == "inputs":
        activations = inputs
    elif placement == "both":
        activations = inputs + [Edge(index, slot) for index in mains for slot in (0, 1)]
    elif placement == "outputs":
        activations, outputs = _everywhere(net, excluded | {i for i, n in enumerate(net.nodes) if net.name(i) in kept})
    else:
        activations = inputs + [Edge(index, 1 - slot) for index, slot in mains.items()]
    activations = [edge for edge in dict.fromkeys(activations) if net.is_activation(net.tensor(edge))]
    groups = () if placement == "outputs" else _groups(net, {net.tensor(edge) for edge in activations})
    return Plan(weights, tuple(activations), outputs, groups, kept)


def weight_axis(node: onnx.NodeProto, rank: int) -> int:
    """Axis of the output channels in a node's weights, which are its input 1."""
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return rank - 1 if node.op_type == "MatMul" else 0


def residual_adds(net: Network, int8: set[int]) -> dict[int, int]:
    """Index of each residual Add -> which input (0 or 1) comes from the convolution that the Add is fused with.

    int8: indices of the convolutions and products in INT8; Adds that would be fused with another one are left out. If
    both sides come from one, it is the side with the longer way from the input: that convolution runs last, when the
    other's result is already there.
    """
    depth, found = net.depth(), {}
    for index, node in enumerate(net.nodes):
        if node.op_type != "Add" or len(node.input) != 2 or node.input[0] == node.input[1]:
            continue
        if not all(net.is_activation(tensor) for tensor in node.input) or _broadcasts(net, node):
            continue
        sides = [slot for slot in (0, 1) if backbone(net, node.input[slot]) is not None]
        main = max(sides, key=lambda slot: (depth.get(node.input[slot], 0), slot), default=None)
        if main is not None and backbone(net, node.input[main]) in int8:
            found[index] = main
    return found


def backbone(net: Network, tensor: str) -> int | None:
    """Index of the convolution whose result this is, alone or through operators that are fused with it; else None.

    Nobody else may read what lies between: a result that others need must be written.
    """
    if not net.read_once(tensor):
        return None
    while True:
        maker = net.producer.get(tensor)
        if maker is None:
            return None
        node = net.nodes[maker]
        if node.op_type in WEIGHTED:
            return maker
        if node.op_type == "Mul" and (gate := _silu_input(net, node)) is not None:
            tensor = gate
            continue
        if node.op_type not in FUSED_ACTIVATIONS or node.op_type in ("Mul", "Sigmoid"):
            return None
        tensor = node.input[0]
        if not net.read_once(tensor):
            return None


def _silu_input(net: Network, node: onnx.NodeProto) -> str | None:
    """x if the node computes x * sigmoid(x) and nobody else reads the two, else None."""
    for x, gate in (tuple(node.input), tuple(reversed(node.input))):
        maker = net.maker(gate)
        if maker is not None and maker.op_type == "Sigmoid" and maker.input[0] == x:
            return x if len(net.readers[x]) == 2 and net.read_once(gate) and x not in net.outputs else None
    return None


def _broadcasts(net: Network, node: onnx.NodeProto) -> bool:
    shapes = [net.shapes.get(tensor) for tensor in node.input]
    return None not in shapes and shapes[0] != shapes[1]


def _excluded(net: Network, names: Iterable[str]) -> set[int]:
    known = [net.name(index) for index in range(len(net.nodes))]
    found: set[int] = set()
    for name in [names] if isinstance(names, str) else names:
        here = {index for index, other in enumerate(known) if other == name or fnmatch.fnmatchcase(other, name)}
        if not here:
            close = difflib.get_close_matches(name, known, 3)
            raise CourseError(
                f"There is no node {name!r} to exclude.",
                f"Close names: {', '.join(close)}." if close else "No name is close to it.",
                "Take names from course.engine.network_layers(model).",
            )
        found |= here
    return found


def _reason_to_keep(net: Network, index: int, excluded: set[int], small_ones: bool) -> str | None:
    """Why a convolution or product stays in high precision; None if it is quantised, or no such node.

    small_ones: quantise those, too, for which INT8 does not pay.
    """
    node = net.nodes[index]
    if node.op_type not in WEIGHTED:
        return None
    if index in excluded:
        return "excluded by name"
    if not net.is_constant(node.input[1]):
        return "its second input is no weight"
    if node.input[1] not in net.weights or net.dtypes[node.input[1]] != onnx.TensorProto.FLOAT:
        return "its weights are not stored as float32"
    if not net.is_activation(node.input[0]):
        return "its input is no float32 activation"
    shape = net.shapes[node.input[1]]
    if node.op_type == "MatMul" and len(shape) != 2:
        return f"its weights have {len(shape)} dimensions"
    if node.op_type == "Gemm" and attribute(node, "transA", 0):
        return "its first input is transposed"
    if small_ones:
        return None
    if node.op_type in ("Gemm", "MatMul") and min(shape) < FEWEST_CHANNELS:
        return f"K or N is below {FEWEST_CHANNELS}: weights {list(shape)}"
    if node.op_type == "Conv" and not _enough_channels(net, node, shape):
        return f"too few channels: weights {list(shape)}"
    return None


def _enough_channels(net: Network, node: onnx.NodeProto, shape: Sequence[int]) -> bool:
    """Model Optimizer's rule (find_nodes_from_convs_to_exclude): 16 channels in and out, with exceptions.

    With fewer: a plain convolution with a square kernel if one side is a multiple of 8 and one has 16, or it reads an
    input of the graph; a grouped one if its outputs are a multiple of 8 and its kernel is 3 or larger.
    """
    outputs, inputs, *kernel = shape
    if min(outputs, inputs) >= FEWEST_CHANNELS:
        return True
    if attribute(node, "group", 1) > 1:
        return outputs % 8 == 0 and min(kernel) >= 3
    first = node.input[0] in net.inputs
    return (
        (outputs % 8 == 0 or inputs % 8 == 0)
        and (first or max(outputs, inputs) >= FEWEST_CHANNELS)
        and len(set(kernel)) == 1
    )


def _everywhere(net: Network, kept: set[int]) -> tuple[list[Edge], tuple[str, ...]]:
    """Every float activation that an operator reads or writes, those around the kept nodes excepted."""
    spared = {tensor for index in kept for tensor in (*net.nodes[index].input, *net.nodes[index].output)}
    active = [node for index, node in enumerate(net.nodes) if index not in kept and node.op_type not in UNTOUCHED]
    tensors = {
        tensor for node in active for tensor in (*node.input, *node.output) if net.is_activation(tensor)
    } - spared
    return (
        [edge for edge in net.edges() if net.tensor(edge) in tensors and edge.index not in kept],
        tuple(tensor for tensor in net.outputs if tensor in tensors),
    )


def _groups(net: Network, quantised: set[str]) -> tuple[frozenset[str], ...]:
    """Tensors around each Concat whose result is quantised: with one scale they are joined as INT8, without a kernel.

    Else each input that is quantised for another reader, too, would be there in two scales.
    """
    groups: list[set[str]] = []
    for node in net.nodes:
        if node.op_type == "Concat" and node.output[0] in quantised:
            group = {tensor for tensor in (*node.input, *node.output) if net.is_activation(tensor)}
            touching = [other for other in groups if other & group]
            groups = [other for other in groups if not other & group] + [group.union(*touching)]
    return tuple(frozenset(group) for group in groups)
