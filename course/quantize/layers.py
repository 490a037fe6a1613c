"""What INT8 costs, layer by layer: the noise that each layer adds by itself, and what has gathered up to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx

from course.engine import graph
from course.errors import CourseError
from course.quantize.activations import BATCH, Data, batches, count_batches, inner_tensors
from course.quantize.arithmetic import Noise
from course.quantize.calibration import Tell
from course.quantize.network import Network
from course.quantize.placement import plan
from course.quantize.qdq import Scales, quantize


@dataclass(frozen=True)
class LayerNoise:
    """Signal to quantisation noise at the output of one layer, in dB; 6 dB less is twice the error.

    node, kind: name and operator. tensor: its output. alone: with exact inputs, so that the noise is the layer's own.
    gathered: in the INT8 model, where noise comes through all layers before it.
    """

    node: str
    kind: str
    tensor: str
    alone: float
    gathered: float

    def __str__(self) -> str:
        return f"{self.node}: {self.alone:.1f} dB alone, {self.gathered:.1f} dB gathered"


def layer_noise(
    model,
    scales: Scales,
    data: Data,
    placement: str = "tensorrt",
    exclude: Iterable[str] = (),
    *,
    batch: int = BATCH,
    progress: Tell | None = None,
) -> tuple[LayerNoise, ...]:
    """SQNR of every quantised convolution and matrix product, in the order of the network.

    The model, its INT8 version, and a version in which each layer stands once more in INT8 beside itself are run side
    by side, so that it costs about four times an inference, whatever the number of layers.

    Args:
        model: float32, as for `quantize`. scales, placement, exclude: as for `quantize`.
        data: a few images do: 16 tell the layers of a ResNet-50 apart.

    Raises: as `quantize` and `collect` do.
    """
    read = graph.read(model)
    net = Network(read.proto)
    exclude = [exclude] if isinstance(exclude, str) else list(exclude)
    layers = [edge.index for edge in plan(net, placement, exclude).weights]
    outputs = [net.nodes[index].output[0] for index in layers]
    twins = [f"{tensor}_alone" for tensor in outputs]
    with_twins = _with_twins(read.proto, net, layers, scales, placement, exclude)
    exact_and_alone = inner_tensors(with_twins, [*outputs, *twins])
    int8 = inner_tensors(quantize(read.proto, scales, placement, exclude), outputs)
    alone, gathered = [Noise() for _ in layers], [Noise() for _ in layers]
    total, seen = count_batches(data, batch), 0
    for seen, feed in enumerate(batches(data, net.inputs, batch), 1):
        exact, quantised = exact_and_alone(feed), int8(feed)
        for number, (tensor, twin) in enumerate(zip(outputs, twins)):
            alone[number].add(exact[tensor], exact[twin])
            gathered[number].add(exact[tensor], quantised[tensor])
        if progress is not None:
            progress(seen / total if total else 0.0, f"{seen} batches")
    if not seen:
        raise CourseError("There is no data to measure the layers with.", "It has no batch.", "Give a few inputs.")
    return tuple(
        LayerNoise(net.name(index), net.nodes[index].op_type, tensor, alone[i].sqnr_db, gathered[i].sqnr_db)
        for i, (index, tensor) in enumerate(zip(layers, outputs))
    )


def _with_twins(
    proto: onnx.ModelProto, net: Network, layers: list[int], scales: Scales, placement: str, exclude: list[str]
) -> onnx.ModelProto:
    """The float model, and beside each of these layers one in INT8 that reads the same exact input."""
    placement = "weights" if placement == "weights" else "inputs"
    made = quantize(proto, scales, placement, exclude)
    originals = {net.nodes[index].output[0]: net.nodes[index] for index in layers}
    nodes = []
    for node in made.graph.node:
        nodes.append(node)
        tensor = node.output[0]
        if tensor in originals:
            twin = onnx.NodeProto()
            twin.CopyFrom(node)
            twin.name, twin.output[0] = f"{node.name}_alone", f"{tensor}_alone"
            node.input[:] = originals[tensor].input
            nodes.append(twin)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del made.graph.node[:]
    made.graph.node.extend(kept)
    present = {tensor.name for tensor in made.graph.initializer}
    wanted = {name for index in layers for name in net.nodes[index].input} & set(net.weights)
    made.graph.initializer.extend(net.weights[name] for name in sorted(wanted - present))
    return made
