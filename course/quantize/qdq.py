"""Writes pairs of QuantizeLinear and DequantizeLinear into an ONNX model: an INT8 model that every TensorRT parses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from course.engine import graph
from course.errors import CourseError, UnsupportedError
from course.files import atomic_write
from course.quantize.activations import BATCH, Data
from course.quantize.arithmetic import Range, parameters
from course.quantize.arithmetic import quantize as to_int8
from course.quantize.calibration import Calibration, Tell, calibrate
from course.quantize.calibrators import Method
from course.quantize.network import Network, attribute, opset
from course.quantize.pairs import DEQUANTISE, QUANTISE
from course.quantize.placement import Plan, plan

OLDEST_OPSET = 13
"""QuantizeLinear and DequantizeLinear have an axis since opset 13."""
Scales = Mapping[str, float] | Calibration


def quantize(
    model, scales: Scales, placement: str = "tensorrt", exclude: Iterable[str] = (), *, int8_weights: bool = False
) -> onnx.ModelProto:
    """An INT8 version of a float32 model, with explicit Q/DQ pairs. Weights get a scale for each output channel.

    Activations have one scale for the tensor, zero points are 0, biases stay float. The scales of a Concat's tensors
    become one, the largest of them.

    Args:
        model: ONNX file, its bytes, or a ModelProto; float32, opset 13 or newer.
        scales: of activations, by tensor: a Calibration, or tensor -> scale (largest magnitude / 127).
        placement: see `course.quantize.placement`.
        exclude: nodes that stay in high precision; * and ? stand for any characters.
        int8_weights: store weights as INT8 with a DQ, a quarter of the bytes, instead of float32 with Q and DQ. Off by
            default: pairs on float weights are what TensorRT 8.6 is known to fuse.

    Raises:
        CourseError: a scale is missing, or not above 0; the placement or a node to exclude does not exist; the model is
            quantised already, or nothing in it can be quantised.
        UnsupportedError: an opset before 13.
        MissingFileError, ParseError: the model cannot be read.
    """
    read = graph.read(model)
    net = Network(read.proto)
    if opset(read.proto) < OLDEST_OPSET:
        raise UnsupportedError(
            f"{read.name} has opset {opset(read.proto)}.",
            "Q and DQ have scales for each channel since opset 13.",
            "Export it again with course.export.export(), or convert it with "
            "onnx.version_converter.convert_version(model, 17).",
        )
    chosen = plan(net, placement, exclude)
    if not chosen.weights:
        reasons = "; ".join(f"{node}: {reason}" for node, reason in list(chosen.kept.items())[:3])
        raise CourseError(
            f"Nothing in {read.name} can be quantised.",
            reasons or "It has no convolution or matrix product with weights.",
            "Look at the reasons, and at the nodes that you exclude.",
        )
    return _Writer(read.proto, net, chosen, _shared(net, chosen, scales), int8_weights).write()


@dataclass(frozen=True)
class Quantized:
    """What `ptq` made. proto: the INT8 model. calibration: of its activations."""

    proto: onnx.ModelProto
    calibration: Calibration

    def save(self, path: str | Path) -> Path:
        """Write the ONNX file."""
        return atomic_write(path, self.proto.SerializeToString())


def ptq(
    model,
    data: Data,
    method: str | Method = "entropy",
    placement: str = "tensorrt",
    exclude: Iterable[str] = (),
    *,
    batch: int = BATCH,
    int8_weights: bool = False,
    progress: Tell | None = None,
    checkpoint: str | Path | None = None,
) -> Quantized:
    """Post-training quantisation in one call: calibrate the tensors that the placement needs, write the pairs.

    Raises: as `calibrate` and `quantize` do.
    """
    exclude = [exclude] if isinstance(exclude, str) else list(exclude)
    calibration = calibrate(
        model,
        data,
        method,
        tensors_to_calibrate(model, placement, exclude),
        batch=batch,
        progress=progress,
        checkpoint=checkpoint,
    )
    return Quantized(quantize(model, calibration, placement, exclude, int8_weights=int8_weights), calibration)


def tensors_to_calibrate(model, placement: str = "tensorrt", exclude: Iterable[str] = ()) -> list[str]:
    """Names of the activations whose scales a placement needs. Raises: as `quantize` does."""
    net = Network(graph.read(model).proto)
    return plan(net, placement, exclude).tensors(net)


def _shared(net: Network, chosen: Plan, scales: Scales) -> dict[str, float]:
    """Scale of each tensor that gets a pair, the tensors of a group with one."""
    given = dict(scales.scales if isinstance(scales, Calibration) else scales)
    needed = chosen.tensors(net)
    paired = {net.tensor(edge) for edge in chosen.activations} | set(chosen.outputs)
    found = {tensor: float(given[tensor]) for tensor in needed if tensor in given}
    wrong = [tensor for tensor, scale in found.items() if not (np.isfinite(scale) and scale > 0)]
    if wrong:
        raise CourseError(
            f"The scale of {wrong[0]!r} is {found[wrong[0]]}.",
            "A scale must be a number above 0.",
            "Calibrate this tensor again.",
        )
    for group in chosen.groups:
        if here := [found[tensor] for tensor in group if tensor in found]:
            found.update(dict.fromkeys(group, max(here)))
    missing = [tensor for tensor in needed if tensor in paired and tensor not in found]
    if missing:
        raise CourseError(
            f"There is no scale for {missing[0]!r} ({len(missing)} of {len(paired)} are missing).",
            "The calibration was made for other tensors.",
            "Calibrate with tensors=tensors_to_calibrate(model, placement), or with all (tensors=None).",
        )
    return {tensor: found[tensor] for tensor in needed if tensor in paired}


class _Writer:
    """Makes the new graph: pairs behind the nodes that make a tensor, readers turned to the DQ's output."""

    def __init__(self, proto: onnx.ModelProto, net: Network, chosen: Plan, scales: dict[str, float], int8: bool):
        self.net, self.plan, self.scales, self.int8 = net, chosen, scales, int8
        self.proto = onnx.ModelProto()
        self.proto.CopyFrom(proto)
        self.constants: list[onnx.TensorProto] = []
        self.taken = {tensor for node in net.nodes for tensor in (*node.input, *node.output)} | set(net.weights)

    def write(self) -> onnx.ModelProto:
        nodes = list(self.proto.graph.node)
        first = [pair for tensor in self.net.inputs for pair in self._pair_if_wanted(tensor, nodes)]
        weights = self._weights(nodes)
        behind = {
            index: [pair for tensor in node.output for pair in self._pair_if_wanted(tensor, nodes)]
            for index, node in enumerate(self.net.nodes)
        }
        del self.proto.graph.node[:]
        self.proto.graph.node.extend([*weights, *first])
        for index, node in enumerate(nodes):
            self.proto.graph.node.extend([node, *behind[index]])
        used = {tensor for node in self.proto.graph.node for tensor in node.input} | set(self.net.outputs)
        kept = [tensor for tensor in self.proto.graph.initializer if tensor.name in used]
        del self.proto.graph.initializer[:]
        self.proto.graph.initializer.extend([*kept, *self.constants])
        del self.proto.graph.value_info[:]  # of tensors that may be gone; shape inference makes it again
        return self.proto

    def _pair_if_wanted(self, tensor: str, nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
        if tensor not in self.scales:
            return []
        source, result = tensor, self._free(f"{tensor}_DequantizeLinear_Output")
        for edge in self.plan.activations:
            if self.net.tensor(edge) == tensor:
                nodes[edge.index].input[edge.slot] = result
        if tensor in self.plan.outputs:  # the graph's output keeps its name: it is the DQ's result now
            source, inner = self._free(f"{tensor}_QuantizeLinear_Input"), result
            result = tensor
            maker = nodes[self.net.producer[tensor]]
            maker.output[list(maker.output).index(tensor)] = source
            for node in nodes:
                node.input[:] = [tensor if name == inner else name for name in node.input]
        scale = np.float32(self.scales[tensor])
        return self._pair(tensor, source, result, scale, np.int8(0), None)

    def _weights(self, nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
        """Nodes for all quantised weights; a weight that two nodes share has one pair if their axes are the same."""
        made: dict[tuple[str, int], str] = {}
        written: list[onnx.NodeProto] = []
        for edge, axis in self.plan.weights.items():
            name = self.net.tensor(edge)
            if (name, axis) not in made:
                made[name, axis] = self._free(f"{name}_DequantizeLinear_Output")
                written += self._weight(name, axis, made[name, axis])
            node = nodes[edge.index]
            node.input[edge.slot] = made[name, axis]
            self._say_kernel(node, name)
        return written

    def _weight(self, name: str, axis: int, result: str) -> list[onnx.NodeProto]:
        values = numpy_helper.to_array(self.net.weights[name])
        low, high = weight_range(values, axis)
        found = parameters(Range(low, high), axis=axis)
        if not self.int8:
            return self._pair(name, name, result, found.scale, found.zero_point, axis)
        integers = self._constant(f"{name}_quantized", to_int8(values, found))
        return self._pair(name, None, result, found.scale, found.zero_point, axis, integers)

    def _pair(
        self,
        name: str,
        source: str | None,
        result: str,
        scale: np.ndarray,
        zero: np.ndarray,
        axis: int | None,
        integers: str | None = None,
    ) -> list[onnx.NodeProto]:
        """Q and DQ, or a DQ alone where there are integers already."""
        parts = [self._constant(f"{name}_scale", scale), self._constant(f"{name}_zero_point", zero)]
        which = {} if axis is None else {"axis": axis}
        pair = []
        if integers is None:
            integers = self._free(f"{name}_QuantizeLinear_Output")
            pair.append(helper.make_node(QUANTISE, [source, *parts], [integers], f"{name}_{QUANTISE}", **which))
        pair.append(helper.make_node(DEQUANTISE, [integers, *parts], [result], f"{name}_{DEQUANTISE}", **which))
        return pair

    def _say_kernel(self, node: onnx.NodeProto, weight: str) -> None:
        """ONNX takes a kernel's size from the weights; TensorRT 8.6 cannot, where these come through a DQ."""
        if node.op_type in ("Conv", "ConvTranspose") and attribute(node, "kernel_shape", None) is None:
            node.attribute.append(helper.make_attribute("kernel_shape", list(self.net.shapes[weight][2:])))

    def _constant(self, name: str, values: np.ndarray) -> str:
        free = self._free(name)
        self.constants.append(numpy_helper.from_array(np.asarray(values), free))
        return free

    def _free(self, name: str) -> str:
        """The name, or the name with a number behind it that nothing has."""
        free, number = name, 1
        while free in self.taken:
            number += 1
            free = f"{name}_{number}"
        self.taken.add(free)
        return free


def weight_range(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest weight of each output channel, float32 [C]. TensorRT's own choice for weights, too."""
    rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    return rows.min(1), rows.max(1)
