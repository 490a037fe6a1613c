"""The fused graph as a list of steps, each with the ONNX tensors that it reads and writes: a memory planner's view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from course.engine.types import Layer


@dataclass(frozen=True)
class Step:
    """One layer of the engine. reads, writes: names of tensors that really lie in memory."""

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True)
class Tensor:
    """A tensor between layers: size in bytes, first step (writes it) and last step (reads it), both inclusive."""

    name: str
    size: int
    first: int
    last: int


def fused_steps(nodes: Sequence[Layer], layers: Sequence[Layer], hidden: Sequence[str]) -> tuple[Step, ...]:
    """The layers in the order in which they run, each with the tensors that come from and go to other layers.

    Args:
        nodes: the ONNX nodes (`network_layers(path, "onnxruntime")`).
        layers: `Engine.layers()`.
        hidden: tensors that fusion keeps inside a layer. Inputs and outputs of the network are left out, too: their
            memory belongs to the caller.
    """
    made = {tensor.name for node in nodes for tensor in node.outputs}
    used = {tensor.name for node in nodes for tensor in node.inputs}
    inner = (made & used) - set(hidden)
    home = {name: index for index, layer in enumerate(layers) for name in layer.onnx_nodes}
    groups: dict[object, list[Layer]] = {}
    for node in nodes:  # a node in no layer was removed, or computed beforehand: it is a step of its own
        groups.setdefault(home.get(node.name, node.name), []).append(node)
    place = {node.name: index for index, node in enumerate(nodes)}
    ordered = sorted(groups.values(), key=lambda group: max(place[node.name] for node in group))
    steps = []
    for group in ordered:
        writes = {t.name for node in group for t in node.outputs} & inner
        reads = {t.name for node in group for t in node.inputs} & inner - writes
        steps.append(Step(" + ".join(node.kind for node in group), tuple(sorted(reads)), tuple(sorted(writes))))
    return tuple(steps)


def tensor_bytes(nodes: Sequence[Layer], batch: int) -> Mapping[str, int]:
    """Tensor -> bytes of a float32 tensor of its shape, open dimensions set to `batch`. Unknown shapes: left out."""
    return {
        tensor.name: 4 * int(np.prod([batch if size < 0 else size for size in tensor.shape]))
        for node in nodes
        for tensor in node.outputs
        if tensor.shape is not None
    }


def most_live(tensors: Sequence[Tensor]) -> int:
    """Bytes alive in the busiest step: no plan can need less."""
    steps = range(max((tensor.last for tensor in tensors), default=-1) + 1)
    return max((sum(t.size for t in tensors if t.first <= step <= t.last) for step in steps), default=0)
