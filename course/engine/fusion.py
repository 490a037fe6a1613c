"""Which ONNX nodes ONNX Runtime fused into each node that it runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx

from course.engine import graph, onnx_layers
from course.engine.types import Layer, TensorInfo

_PREFIX, _SUFFIX = "InsertedPrecisionFreeCast_", "_nchwc"  # what ONNX Runtime puts around tensor names
_REORDERS = ("ReorderInput", "ReorderOutput")  # only move data between layouts


def fused_layers(proto: onnx.ModelProto, optimised: Path) -> tuple[Layer, ...]:
    """Layers of the graph that ONNX Runtime made of `proto` and saved, with the nodes that went into each.

    ONNX Runtime keeps no record of its fusions, so they are found again: a fused node still carries the name
        of a
    tensor of the original model, which some original node produced. Nodes whose result only this node needs,
    and the addition and activation that a convolution took in, belong to it too.
    """
    fused = list(onnx.load(str(optimised)).graph.node)
    nodes = list(proto.graph.node)
    producer = {tensor: index for index, node in enumerate(nodes) for tensor in node.output if tensor}
    consumers = [set() for _ in nodes]
    for index, node in enumerate(nodes):
        for tensor in node.input:
            if tensor in producer:
                consumers[producer[tensor]].add(index)
    names = _original_names(fused, producer)

    owner: dict[int, int] = {}  # original node -> fused node
    for position, node in enumerate(fused):
        for tensor in node.output if node.op_type not in _REORDERS else ():
            if tensor in names:
                owner.setdefault(producer[original_tensor(names[tensor])], position)
    for index, position in list(owner.items()):
        _take_following(index, position, nodes, fused[position], consumers, owner)
    results = {value.name for value in proto.graph.output}
    for index in reversed(range(len(nodes))):  # what only one fused node needs went into it
        owners = {owner.get(consumer) for consumer in consumers[index]}
        kept = results & set(nodes[index].output)
        if index not in owner and len(owners) == 1 and None not in owners and not kept:
            owner[index] = owners.pop()

    constant = _constant_nodes(proto)
    infos = {
        info.name: info
        for layer in onnx_layers.layers(graph.Model("", proto, b"", ""))
        for info in (*layer.inputs, *layer.outputs)
    }

    def tensors(tensor_names):
        return tuple(_info(tensor, names.get(tensor, tensor), infos) for tensor in tensor_names if tensor)

    def members(position):
        return tuple(graph.node_name(nodes[i], i) for i in sorted(owner) if owner[i] == position and i not in constant)

    return tuple(
        Layer(
            graph.node_name(node, position),
            node.op_type,
            tensors(node.input),
            tensors(node.output),
            members(position),
            node.domain,
        )
        for position, node in enumerate(fused)
    )


def original_tensor(name: str) -> str:
    """The tensor name of the original model inside a name that ONNX Runtime made."""
    return name.removesuffix(_SUFFIX).removeprefix(_PREFIX)


def _original_names(fused, producer) -> dict[str, str]:
    """Tensor of the fused graph -> the original tensor with the same values (perhaps with the prefix)."""
    names = {}
    for node in fused:
        for tensor in node.output:
            found = next((name for name in (tensor, node.name) if original_tensor(name) in producer), None)
            if found is not None:
                names[tensor] = found
    for node in reversed(fused):  # through a reorder the values stay the same
        if node.op_type in _REORDERS and node.output[0] in names:
            names.setdefault(node.input[0], names[node.output[0]])
    return names


def _take_following(index: int, position: int, nodes, fused, consumers, owner) -> None:
    """Give a fused convolution the Add (its fourth input) and the activation that followed it."""
    activation = next((a.s.decode() for a in fused.attribute if a.name == "activation"), None)
    wanted = ["Add"] if len(fused.input) > 3 and fused.input[3] else []
    wanted += [activation] if activation else []
    for operator in wanted:
        free = (c for c in consumers[index] if c not in owner)
        follower = next((c for c in free if nodes[c].op_type == operator), None)
        if follower is None:
            return
        owner[follower] = position
        index = follower


def _constant_nodes(proto: onnx.ModelProto) -> set[int]:
    """Nodes that depend on weights only: they are computed once, when the graph is optimised."""
    known = {tensor.name for tensor in proto.graph.initializer} | {""}
    constant = set()
    for index, node in enumerate(proto.graph.node):
        if set(node.input) <= known:
            constant.add(index)
            known.update(node.output)
    return constant


def _info(name: str, original: str, infos: dict[str, TensorInfo]) -> TensorInfo:
    info = infos.get(original_tensor(original), TensorInfo(""))
    dtype = "float32" if original.startswith(_PREFIX) else info.dtype
    return dataclasses.replace(info, name=name, dtype=dtype)
