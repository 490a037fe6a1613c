"""Which TensorRT versions parse a quantised ONNX file, by opset and by the parsers' rules for Q and DQ.

Sources, in the order of SOURCES: the ONNX parser's code and operator tables in onnx/onnx-tensorrt, branches 8.6-GA
(builtin_op_importers.cpp, QuantDequantLinearHelper and Conv; docs/operators.md) and 10.0-GA to 10.1-GA
(onnxOpImporters.cpp; docs/operators.md); NVIDIA's ONNX Opset Guide for 11.x (newest opset). The code of 11's parser is
not public: its rules are those that the parser of TensorRT-RTX 1.7 was seen to have, which a test asks on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from course.engine import available_runtimes, graph, network_layers
from course.engine.opsets import TARGET_OPSET
from course.errors import ParseError
from course.quantize.network import Network, attribute, opset
from course.quantize.pairs import DEQUANTISE, QUANTISE, Pair, read_pairs

SOURCES = {
    "8.6": "onnx-tensorrt 8.6-GA",
    "10": "onnx-tensorrt 10.0-GA to 10.1-GA",
    "11": "NVIDIA's ONNX Opset Guide for 11.x; else as the parser of TensorRT-RTX 1.7",
    "RTX": "the parser of the installed TensorRT-RTX",
}
VERSIONS = tuple(SOURCES)
OLDEST_OPSET = 9  # docs/operators.md of 10.0-GA; earlier ones name no oldest
INTEGER_OPERATORS = (
    "QLinearConv",
    "QLinearMatMul",
    "QLinearAdd",
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantizeLinear",
)
"""Not in the parsers' tables: quantised arithmetic must be written as float operators between pairs."""
_INT8, _UINT8 = onnx.TensorProto.INT8, onnx.TensorProto.UINT8


@dataclass(frozen=True)
class Refusal:
    """Something that a version does not take. source: where that is written."""

    version: str
    node: str
    cause: str
    next_step: str
    source: str

    def __str__(self) -> str:
        return f"TensorRT {self.version}, {self.node}: {self.cause}\n  Next step: {self.next_step}\n  [{self.source}]"


@dataclass(frozen=True)
class _Rule:
    """A refusal and the versions that have it."""

    versions: tuple[str, ...]
    node: str
    cause: str
    next_step: str


def parses_on(model) -> dict[str, tuple[Refusal, ...]]:
    """Version -> what it refuses in this model; an empty tuple: it parses it, as far as Q, DQ and opset go.

    "RTX" is not looked up but tried; it is missing from the answer where TensorRT-RTX does not work.

    Raises:
        MissingFileError, ParseError: the model cannot be read.
    """
    read = graph.read(model)
    net = Network(read.proto)
    rules = [*_opsets(read.proto), *_operators(net), *_pairs(net), *_biases(net), *_kernels(net)]
    found = {
        version: tuple(
            Refusal(version, rule.node, rule.cause, rule.next_step, SOURCES[version])
            for rule in rules
            if version in rule.versions
        )
        for version in ("8.6", "10", "11")
    }
    if available_runtimes()["rtx"] is None:
        found["RTX"] = ()
        try:
            network_layers(read.proto, runtime="rtx")
        except ParseError as error:
            found["RTX"] = (Refusal("RTX", error.what, error.cause, error.next_step, SOURCES["RTX"]),)
    return found


def _opsets(proto: onnx.ModelProto) -> Iterator[_Rule]:
    version = opset(proto)
    for name in ("8.6", "10", "11"):
        newest = TARGET_OPSET[name][1]
        if version > newest:
            yield _Rule(
                (name,),
                "the model",
                f"It has opset {version}; this version reads {newest} and older.",
                f"Export it with opset {newest} or older.",
            )
        elif version < OLDEST_OPSET:
            yield _Rule(
                (name,),
                "the model",
                f"It has opset {version}; this version reads {OLDEST_OPSET} and newer.",
                "Export it with opset 17.",
            )


def _operators(net: Network) -> Iterator[_Rule]:
    for index, node in enumerate(net.nodes):
        if node.op_type in INTEGER_OPERATORS:
            yield _Rule(
                ("8.6", "10", "11"),
                net.name(index),
                f"{node.op_type} is not among the parser's operators.",
                "Put Q/DQ pairs around float operators (quant_format=QuantFormat.QDQ in ONNX Runtime).",
            )
        elif node.op_type in (QUANTISE, DEQUANTISE) and node.domain not in ("", "ai.onnx"):
            yield _Rule(
                ("8.6", "10", "11"),
                net.name(index),
                f"It is {node.domain}.{node.op_type}, not ONNX's.",
                "Write INT8 pairs of the standard operators.",
            )


def _pairs(net: Network) -> Iterator[_Rule]:
    everywhere = ("8.6", "10", "11")
    for pair in read_pairs(net).values():
        node = pair.q or pair.dq
        if pair.dtype not in (_INT8, 0):
            yield _integer_type(net, pair)
        if pair.zero_point is None:
            if not net.dtypes.get(pair.tensor) == _INT8:  # ONNX's default is uint8; 10 and later take INT8 instead
                yield _Rule(
                    ("8.6",),
                    node,
                    "It has no zero point; this parser needs three inputs.",
                    "Give a zero point: int8, 0.",
                )
        elif np.any(pair.zero_point.astype(np.float64) != 0):
            yield _Rule(
                everywhere,
                node,
                "Its zero point is not 0; TensorRT quantises symmetrically only.",
                "Calibrate symmetric ranges (ActivationSymmetric and WeightSymmetric in ONNX Runtime).",
            )
        if pair.scale is not None:
            if not (np.isfinite(pair.scale).all() and (pair.scale > 0).all()):
                yield _Rule(
                    everywhere, node, "A scale is not above 0.", "Give channels of nothing but zeros the scale 1."
                )
            if pair.zero_point is not None and pair.zero_point.size != pair.scale.size:
                yield _Rule(
                    everywhere,
                    node,
                    f"There are {pair.scale.size} scales and {pair.zero_point.size} zero points.",
                    "Give one zero point for each scale.",
                )
            if pair.per_channel and (shape := net.shapes.get(pair.tensor)) is not None:
                axis = pair.axis if pair.axis >= 0 else pair.axis + len(shape)
                if axis >= len(shape) or shape[axis] not in (-1, pair.scale.size):
                    yield _Rule(
                        everywhere,
                        node,
                        f"There are {pair.scale.size} scales for axis {pair.axis} of the shape {list(shape)}.",
                        "Set the attribute axis to that of the output channels.",
                    )


def _integer_type(net: Network, pair: Pair) -> _Rule:
    node, name = pair.q or pair.dq, onnx.TensorProto.DataType.Name(pair.dtype).lower()
    if pair.dtype == onnx.TensorProto.INT32:
        return _Rule(
            ("8.6", "10", "11"),
            pair.dq,
            "It dequantises int32, as a quantised bias is; only INT8 is taken.",
            "Leave biases in float (QuantizeBias=False in ONNX Runtime).",
        )
    versions: tuple[str, ...] = ("8.6", "10", "11")
    if pair.dtype in (onnx.TensorProto.FLOAT8E4M3FN, getattr(onnx.TensorProto, "INT4", -1)):
        versions = ("8.6",)
    elif pair.dtype == _UINT8:  # 11 takes it where the zero point is 0, and reads the integers as INT8
        versions = ("8.6", "10")
    return _Rule(versions, node, f"Its integers are {name}.", "Use int8 (QuantType.QInt8 in ONNX Runtime).")


def _biases(net: Network) -> Iterator[_Rule]:
    for index, node in enumerate(net.nodes):
        if node.op_type in ("Conv", "ConvTranspose") and len(node.input) > 2 and node.input[2]:
            maker = net.maker(node.input[2])
            if maker is not None and maker.op_type != "Constant":
                yield _Rule(
                    ("8.6",),
                    net.name(index),
                    f"Its bias comes from {maker.op_type}; this parser needs an initialiser.",
                    "Leave biases in float (QuantizeBias=False in ONNX Runtime).",
                )


def _kernels(net: Network) -> Iterator[_Rule]:
    for index, node in enumerate(net.nodes):
        if (
            node.op_type in ("Conv", "ConvTranspose")
            and node.input[1] not in net.weights
            and attribute(node, "kernel_shape", None) is None
        ):
            yield _Rule(
                ("8.6",),
                net.name(index),
                "Its weights come from another node and it does not say kernel_shape.",
                "Add the attribute; course.engine.build() does it.",
            )
