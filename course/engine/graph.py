"""The ONNX model before any runtime sees it: read, described, prepared, and explained when it is wrong."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import math
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from course.engine.types import TensorSpec
from course.errors import BuildError, MissingFileError, ParseError, UnsupportedError

_EXPORT_AGAIN = "Export the model again with course.export.export()."
_NEW_OPERATOR = (
    "Write it with operators that this runtime knows, leave this part out of the model and "
    "compute it outside the engine, or write a plugin for it (stage 3)."
)


@dataclass(frozen=True)
class Model:
    """An ONNX model with its weights inside. `sha256` is of the bytes as they were given."""

    name: str
    proto: onnx.ModelProto
    data: bytes
    sha256: str


def read(source) -> Model:
    """Read a path, the bytes of a file, or a ModelProto. Weights in separate files are taken in.

    Raises:
        MissingFileError: the file, or a file with its weights, is not there.
        ParseError: not an ONNX model.
        UnsupportedError: larger than protobuf's 2 GB.
    """
    if isinstance(source, onnx.ModelProto):
        name, folder, data = "the model", None, _serialize("the model", source)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        name, folder, data = "the model", None, bytes(source)
    else:
        path = Path(source)
        if not path.is_file():
            raise MissingFileError(
                f"{path} is not there.",
                "There is no such ONNX file.",
                "Check the path, or export the model with course.export.export().",
            )
        name, folder, data = path.name, path.parent, path.read_bytes()
    proto = _parse(name, data)
    model = Model(name, proto, data, hashlib.sha256(data).hexdigest())
    outside = {
        entry.value
        for tensor in _tensors(proto.graph)
        for entry in tensor.external_data
        if tensor.data_location == onnx.TensorProto.EXTERNAL and entry.key == "location"
    }
    return _with_weights_inside(model, folder, sorted(outside)) if outside else model


def _parse(name: str, data: bytes) -> onnx.ModelProto:
    if data.startswith(b"version https://git-lfs"):
        raise ParseError(
            f"{name} is not an ONNX model.",
            "It is a Git LFS pointer, not the file itself.",
            "Fetch the file with `git lfs pull`.",
        )
    try:
        proto = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's DecodeError has moved between its versions
        raise ParseError(
            f"{name} is not an ONNX model.",
            f"Its {len(data)} bytes cannot be read as one ({error}); the file is another kind of file, or damaged.",
            _EXPORT_AGAIN,
        ) from error
    if not proto.graph.node or not proto.graph.output:
        raise ParseError(
            f"{name} is not a usable ONNX model.",
            f"Its {len(data)} bytes hold {len(proto.graph.node)} nodes and {len(proto.graph.output)} outputs.",
            _EXPORT_AGAIN,
        )
    made = {out for node in proto.graph.node for out in node.output}
    made |= {value.name for value in (*proto.graph.input, *proto.graph.initializer)}
    made |= {tensor.values.name for tensor in proto.graph.sparse_initializer}
    for output in proto.graph.output:  # TensorRT 8.6's parser crashes the process on such a model
        if output.name not in made:
            raise ParseError(
                f"{name} is not a usable ONNX model.", f"No node makes its output {output.name!r}.", _EXPORT_AGAIN
            )
    return proto


def _with_weights_inside(model: Model, folder: Path | None, files: list[str]) -> Model:
    if folder is None:
        raise MissingFileError(
            f"Weights of {model.name} are in other files: {', '.join(files)}.",
            "Bytes and ModelProto objects do not say where these are.",
            "Give the path of the ONNX file instead.",
        )
    for file in files:
        if not (folder / file).is_file():
            raise MissingFileError(
                f"{model.name} keeps weights in {file}, which is not beside it.",
                f"There is no file {folder / file}.",
                "Put the file beside the model, or export the model again.",
            )
    try:
        onnx.load_external_data_for_model(model.proto, str(folder))
        for tensor in _tensors(model.proto.graph):
            onnx.numpy_helper.to_array(tensor)  # some onnx versions take a file that is too short
    except Exception as error:  # ValidationError, ValueError or OSError, by onnx version
        raise ParseError(
            f"The weights of {model.name} in {', '.join(files)} cannot be read.", one_line(error), _EXPORT_AGAIN
        ) from error
    data = _serialize(model.name, model.proto)
    return Model(model.name, model.proto, data, hashlib.sha256(data).hexdigest())


def _serialize(name: str, proto: onnx.ModelProto) -> bytes:
    try:
        return proto.SerializeToString(deterministic=True)
    except Exception as error:  # ValueError or EncodeError above 2 GB
        raise UnsupportedError(
            f"{name} cannot be handed to a runtime.", one_line(error), "Use a model below 2 GB."
        ) from error


def _tensors(graph: onnx.GraphProto) -> Iterable[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _tensors(inner)


def inputs(proto: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Input name -> shape, -1 where the dimension is dynamic.

    Raises:
        ParseError: an input does not say how many dimensions it has, or is no tensor.
    """
    weights = {tensor.name for tensor in proto.graph.initializer}
    weights |= {tensor.values.name for tensor in proto.graph.sparse_initializer}
    shapes = {}
    for value in proto.graph.input:
        if value.name in weights:
            continue
        if not value.type.tensor_type.HasField("shape"):
            raise ParseError(
                f"Input {value.name!r} has no shape.", "A runtime must know how many dimensions it has.", _EXPORT_AGAIN
            )
        shapes[value.name] = dims_of(value)
    return shapes


def with_dim_names(specs: tuple[TensorSpec, ...], proto: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """The same inputs with the names that their dimensions have in the model."""
    names = {
        value.name: tuple(dim.dim_param for dim in value.type.tensor_type.shape.dim) for value in proto.graph.input
    }
    return tuple(dataclasses.replace(spec, dims=names[spec.name]) for spec in specs)


def dims_of(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    def known(dim):
        return dim.WhichOneof("value") == "dim_value" and dim.dim_value >= 0

    return tuple(dim.dim_value if known(dim) else -1 for dim in value.type.tensor_type.shape.dim)


def weights_bytes(proto: onnx.ModelProto) -> int:
    """Size of all weights, in bytes."""
    return sum(len(tensor.raw_data) or onnx.numpy_helper.to_array(tensor).nbytes for tensor in proto.graph.initializer)


def has_qdq(proto: onnx.ModelProto) -> bool:
    """Whether the model carries its own quantisation: QuantizeLinear or DequantizeLinear nodes."""
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in proto.graph.node)


def prepared(model: Model, keep: tuple[str, ...] = (), float16: bool = False) -> Model:
    """The model with further outputs, and with float16 weights if asked. `sha256` stays that of the original.

    Inputs and outputs keep their dtype; casts are put behind and before them. Convolutions whose weights come
    through Q/DQ nodes get the attribute `kernel_shape`: ONNX lets it out, TensorRT 8.6's parser does not. Weights that are
    inputs, too, become constants (a runtime folds nothing into what a caller may replace, and no Engine lets one replace
    it), sparse weights dense ones.

    Raises:
        BuildError: an output to keep does not exist, or the conversion fails.
        UnsupportedError: float16 for a model with Q/DQ nodes; sparse weights that would be larger than 2 GB.
    """
    unsaid, graph = _unsaid_kernels(model.proto), model.proto.graph
    weights = {tensor.name for tensor in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    open_weights = any(value.name in weights for value in graph.input)
    if not keep and not float16 and not unsaid and not open_weights and not graph.sparse_initializer:
        return model
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    if open_weights:
        kept = [value for value in graph.input if value.name not in weights]
        del proto.graph.input[:]
        proto.graph.input.extend(kept)
        proto.ir_version = max(proto.ir_version, 4)  # up to 3 every weight had to be an input
    if graph.sparse_initializer:
        proto.graph.initializer.extend(_dense(model.name, tensor) for tensor in graph.sparse_initializer)
        del proto.graph.sparse_initializer[:]
    for index, kernel in unsaid.items():
        proto.graph.node[index].attribute.append(onnx.helper.make_attribute("kernel_shape", kernel))
    if keep:
        _keep_outputs(model.name, proto, keep)
    if float16:
        proto = _to_float16(model.name, proto)
    return Model(model.name, proto, _serialize(model.name, proto), model.sha256)


def _dense(name: str, sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    """The same weights with their zeros. Indices count elements ([n]), or are coordinates ([n, axes])."""
    values, indices = onnx.numpy_helper.to_array(sparse.values), onnx.numpy_helper.to_array(sparse.indices)
    size = math.prod(sparse.dims) * values.itemsize
    if size >= 1 << 31:
        raise UnsupportedError(
            f"The sparse weights {sparse.values.name!r} of {name} would have {size / 1e9:,.0f} GB.",
            f"Their shape is {list(sparse.dims)}; runtimes keep all zeros, too.",
            "Use weights below 2 GB.",
        )
    full = np.zeros(tuple(sparse.dims), values.dtype)
    try:
        if indices.ndim == 2:
            full[tuple(indices.T)] = values
        else:
            full.reshape(-1)[indices] = values
    except (IndexError, ValueError) as error:
        raise ParseError(
            f"The sparse weights {sparse.values.name!r} of {name} cannot be read.", one_line(error), _EXPORT_AGAIN
        ) from error
    return onnx.numpy_helper.from_array(full, sparse.values.name)


def _unsaid_kernels(proto: onnx.ModelProto) -> dict[int, list[int]]:
    """Index of each convolution that has quantised weights and no `kernel_shape` -> that shape."""
    weights = {tensor.name: tensor.dims for tensor in proto.graph.initializer}
    for node in proto.graph.node:  # in topological order, as ONNX demands
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]]
    known = {tensor.name for tensor in proto.graph.initializer}
    return {
        index: list(weights[node.input[1]][2:])
        for index, node in enumerate(proto.graph.node)
        if node.op_type in ("Conv", "ConvTranspose")
        and node.input[1] in weights
        and node.input[1] not in known
        and all(attribute.name != "kernel_shape" for attribute in node.attribute)
    }


def _keep_outputs(name: str, proto: onnx.ModelProto, keep: tuple[str, ...]) -> None:
    types = {value.name: value for value in onnx.shape_inference.infer_shapes(proto).graph.value_info}
    produced = {tensor for node in proto.graph.node for tensor in node.output}
    present = {value.name for value in proto.graph.output}
    for tensor in keep:
        if tensor not in produced:
            close = difflib.get_close_matches(tensor, produced, 3)
            raise BuildError(
                f"{name} has no tensor {tensor!r} to keep.",
                f"Close names: {', '.join(close)}." if close else "No name is close to it.",
                "Take the name of an output from course.engine.network_layers().",
            )
        if tensor not in types and tensor not in present:
            raise BuildError(
                f"Tensor {tensor!r} of {name} cannot be kept.",
                "Its type is not known.",
                "Keep the output of a neighbouring node instead.",
            )
        if tensor not in present:
            proto.graph.output.append(types[tensor])


def _to_float16(name: str, proto: onnx.ModelProto) -> onnx.ModelProto:
    if has_qdq(proto):
        raise UnsupportedError(
            f"{name} has Q/DQ nodes and cannot be converted to float16 for this runtime.",
            "It sets no precision by flag, and converting the scales would change the model.",
            'Build with precision="int8", or convert the model before inserting Q/DQ nodes.',
        )
    from onnxruntime.transformers.float16 import convert_float_to_float16

    if proto.functions:
        from onnx import inliner

        proto = inliner.inline_local_functions(proto)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return convert_float_to_float16(proto, keep_io_types=True)
    except Exception as error:
        raise BuildError(
            f"{name} could not be converted to float16.",
            f"{type(error).__name__}: {one_line(error)}",
            'Build with precision="fp32", or export the model in float16.',
        ) from error


def node_name(node: onnx.NodeProto, index: int) -> str:
    """The node's name, or one made of its operator and position."""
    return node.name or f"{node.op_type}_{index}"


def parse_error(model: Model, node: str, operator: str, reason: str, supported: bool, runtime: str) -> ParseError:
    """The error for a node that a runtime refuses: names the node, the operator and what to do."""
    if operator and not supported:
        return ParseError(
            f"{runtime} does not know operator {operator} (node {node!r} of {model.name}).", reason, _NEW_OPERATOR
        )
    if operator:
        return ParseError(
            f"{runtime} cannot take node {node!r} ({operator}) of {model.name}.",
            reason,
            "Look at this node in the code that was exported: its shapes, dtypes and "
            "attributes. Then export the model again.",
        )
    return ParseError(f"{runtime} cannot take {model.name}.", reason, _EXPORT_AGAIN)


def one_line(error: object) -> str:
    """An error's text without line breaks and without places in somebody's C++ source."""
    text = re.sub(r"/[^\s:]*\.(?:cc|cpp|h):\d+\s+\S.*?\)\s", "", " ".join(str(error).split()))
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    return text if len(text) < 500 else text[:500] + " …"
