"""An ONNX file of unknown origin, judged as data before any runtime sees it.

Runs inside the measuring process, under its memory limit: a small file can unfold to a huge one while it is
parsed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from autograder.rejected import Rejected

CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
DOMAINS = ("", "ai.onnx")
OLDEST_OPSET = 11
_BITS = {
    "FLOAT": 32,
    "UINT8": 8,
    "INT8": 8,
    "UINT16": 16,
    "INT16": 16,
    "INT32": 32,
    "INT64": 64,
    "BOOL": 8,
    "FLOAT16": 16,
    "DOUBLE": 64,
    "UINT32": 32,
    "UINT64": 64,
    "BFLOAT16": 16,
    "FLOAT8E4M3FN": 8,
    "FLOAT8E5M2": 8,
    "FLOAT8E4M3FNUZ": 8,
    "FLOAT8E5M2FNUZ": 8,
    "UINT4": 4,
    "INT4": 4,
    "FLOAT4E2M1": 4,
    "STRING": 0,
    "COMPLEX64": 64,
    "COMPLEX128": 128,
}
_AGAIN = "Export the network again with course.export.export."


@dataclass(frozen=True)
class Facts:
    """What is known about a model that passed. Shapes: int, or the name of an open dimension ("?" without a
    name)."""

    ir: int
    opset: int
    nodes: int
    elements: int
    operators: dict[str, int]
    inputs: dict[str, tuple[str, tuple[int | str, ...]]]
    outputs: dict[str, tuple[str, tuple[int | str, ...]]]


def inspect(data: bytes, name: str, *, max_nodes: int, max_elements: int, allow_ops: tuple[str, ...] = ()) -> Facts:
    """Parse and judge.

    Refused: what does not parse; IR versions and opsets that this onnx package does not know; operators of
    other domains; local functions and training parts; control flow outside of `allow_ops`; weights in other
    files, anywhere; tensors whose data do not fill their shape; more than `max_nodes` nodes or `max_elements`
    numbers.

    Raises:
        Rejected: says what was found.
    """
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's DecodeError has moved between its versions
        raise Rejected(
            f"{name} is not an ONNX model.",
            f"Its {len(data):,} bytes cannot be read as one: {error}.",
            _AGAIN,
        ) from error
    _check_header(model, name)
    nodes, elements, operators = 0, 0, Counter()
    for graph in _graphs(model.graph):
        nodes += len(graph.node)
        if nodes > max_nodes:
            raise Rejected(
                f"{name} has more than {max_nodes:,} nodes.",
                "The network of this milestone has far fewer.",
                "Export the given network, with simplify=True.",
            )
        operators.update(node.op_type for node in graph.node)
        for node in graph.node:
            _check_node(node, name, allow_ops)
        for tensor in _tensors(graph):
            elements += _check_tensor(tensor, name, max_elements)
            if elements > max_elements:
                raise Rejected(
                    f"{name} holds more than {max_elements:,} numbers.",
                    "The network of this milestone has far fewer.",
                    "Export the given network, once.",
                )
    if not model.graph.node or not model.graph.output:
        raise Rejected(f"{name} holds no network.", f"{nodes} nodes and {len(model.graph.output)} outputs.", _AGAIN)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise Rejected(f"{name} is no valid ONNX model.", " ".join(str(error).split())[:300], _AGAIN) from error
    _check_ends(model.graph, name)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: _value(value) for value in model.graph.input if value.name not in weights}
    outputs = {value.name: _value(value) for value in model.graph.output}
    opset = next(entry.version for entry in model.opset_import if entry.domain in DOMAINS)
    return Facts(model.ir_version, opset, nodes, elements, dict(operators), inputs, outputs)


def _check_header(model: onnx.ModelProto, name: str) -> None:
    if not 3 <= model.ir_version <= onnx.IR_VERSION:
        raise Rejected(f"{name} has IR version {model.ir_version}.", f"3 to {onnx.IR_VERSION} are read here.", _AGAIN)
    versions = [entry.version for entry in model.opset_import if entry.domain in DOMAINS]
    newest = onnx.defs.onnx_opset_version()
    if len(versions) != 1 or not OLDEST_OPSET <= versions[0] <= newest:
        raise Rejected(
            f"{name} has the opsets {versions}.", f"One from {OLDEST_OPSET} to {newest} is read here.", _AGAIN
        )
    if model.functions:
        raise Rejected(
            f"{name} defines functions of its own.",
            f"The first is {model.functions[0].name!r}.",
            "Export with simplify=True, which puts their nodes in their place.",
        )
    if model.training_info:
        raise Rejected(f"{name} has a training part.", "Only inference is measured.", _AGAIN)


def _check_ends(graph: onnx.GraphProto, name: str) -> None:
    for what, values in (("input", graph.input), ("output", graph.output)):
        names = Counter(value.name for value in values)
        if twice := [one for one, count in names.items() if count > 1]:
            raise Rejected(
                f"{name} declares the {what} {twice[0][:100]!r} {names[twice[0]]} times.",
                "Each has a name of its own.",
                _AGAIN,
            )
        for value in values:
            sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            if min(sizes, default=0) < 0:
                raise Rejected(
                    f"{name}: the {what} {value.name[:100]!r} has the size {min(sizes)}.",
                    "A size is a number above 0; an open one is a name.",
                    "Give the dimension a name, such as batch.",
                )


def _check_node(node: onnx.NodeProto, name: str, allow_ops: tuple[str, ...]) -> None:
    if node.domain not in DOMAINS and f"{node.domain}.{node.op_type}" not in allow_ops:
        raise Rejected(
            f"{name} uses {node.domain}.{node.op_type}.",
            "Only ONNX's own operators are taken.",
            "Export with standard operators.",
        )
    if node.op_type in CONTROL_FLOW and node.op_type not in allow_ops:
        raise Rejected(
            f"{name} holds control flow: node {node.name!r} is {node.op_type}.",
            "The network of this milestone takes the same path for every input.",
            "Remove branches and loops from what is exported.",
        )
    if node.op_type in RANDOM and node.op_type not in allow_ops:
        raise Rejected(
            f"{name} answers at random: node {node.name!r} is {node.op_type}.",
            "The network of this milestone gives the same answer to the same input.",
            "Export it in evaluation mode, without noise.",
        )


def _graphs(graph: onnx.GraphProto, depth: int = 0) -> Iterator[onnx.GraphProto]:
    """The graph and all graphs inside its nodes, also of nodes that should have none."""
    if depth > 8:
        raise Rejected("The model's graphs are nested too deeply.", "More than 8 levels.", _AGAIN)
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _graphs(inner, depth + 1)


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from ([attribute.t] if attribute.HasField("t") else []) + list(attribute.tensors)
            sparse_ones = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
            for sparse in sparse_ones + list(attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def _check_tensor(tensor: TensorProto, name: str, max_elements: int) -> int:
    """Number of elements."""
    if tensor.external_data or tensor.data_location == TensorProto.EXTERNAL:
        raise Rejected(
            f"{name} keeps tensor {tensor.name!r} in another file.",
            "All weights must be inside the ONNX file; no other file is opened.",
            _AGAIN,
        )
    if any(size < 0 for size in tensor.dims) or math.prod(tensor.dims) > max_elements:
        raise Rejected(
            f"{name}: tensor {tensor.name!r} has the shape {list(tensor.dims)[:8]}.",
            f"At most {max_elements:,} numbers are taken.",
            _AGAIN,
        )
    count = math.prod(tensor.dims)
    kind = TensorProto.DataType.Name(tensor.data_type) if tensor.data_type in TensorProto.DataType.values() else "?"
    bits = _BITS.get(kind)
    if bits is None or (tensor.HasField("raw_data") and len(tensor.raw_data) != math.ceil(count * bits / 8)):
        raise Rejected(
            f"{name}: the data of tensor {tensor.name!r} do not fill its shape.",
            f"{len(tensor.raw_data):,} bytes for {count:,} numbers of type {kind}.",
            _AGAIN,
        )
    return count


def _value(value: onnx.ValueInfoProto) -> tuple[str, tuple[int | str, ...]]:
    tensor = value.type.tensor_type
    known = tensor.elem_type in TensorProto.DataType.values()
    dtype = TensorProto.DataType.Name(tensor.elem_type).lower() if known else "?"
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in tensor.shape.dim)
    return {"float": "float32", "double": "float64"}.get(dtype, dtype), shape
