"""ONNX files that are traps: for the parser, for the runtime, for the disk or the memory."""

from __future__ import annotations

import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.measuring import tiny


def _good() -> onnx.ModelProto:
    return onnx.load_model_from_string(tiny.export())


def _external(tensor: TensorProto, location: str) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)


def garbage() -> bytes:
    return os.urandom(5000)


def truncated() -> bytes:
    return tiny.export()[:-20_000]


def external_weights() -> bytes:
    model = _good()
    _external(model.graph.initializer[0], "../../../../../../etc/passwd")
    return model.SerializeToString()


def external_in_attribute() -> bytes:
    model = _good()
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[10])
    _external(tensor, "/etc/passwd")
    model.graph.node.append(helper.make_node("Constant", [], ["secret"], value=tensor))
    return model.SerializeToString()


def external_in_subgraph() -> bytes:
    model = _good()
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[10])
    _external(tensor, "/etc/passwd")
    inner = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["out"])],
        "inner",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [10])],
        [tensor],
    )
    node = helper.make_node("Relu", ["logits"], ["other"])
    node.attribute.append(helper.make_attribute("hidden_graph", inner))  # an attribute that Relu does not have
    model.graph.node.append(node)
    return model.SerializeToString()


def external_in_sparse() -> bytes:
    model = _good()
    sparse = model.graph.sparse_initializer.add()
    sparse.dims.extend([100])
    sparse.values.CopyFrom(TensorProto(name="s", data_type=TensorProto.FLOAT, dims=[2]))
    _external(sparse.values, "/etc/passwd")
    sparse.indices.CopyFrom(TensorProto(data_type=TensorProto.INT64, dims=[2]))
    return model.SerializeToString()


def foreign_operator() -> bytes:
    """An operator that a library beside the model would bring."""
    model = _good()
    model.graph.node[-1].domain = "com.evil"
    model.opset_import.add(domain="com.evil", version=1)
    return model.SerializeToString()


def local_functions() -> bytes:
    """Functions that call one another twice unfold to 2^40 nodes."""
    model = _good()
    model.opset_import.add(domain="f", version=1)
    for level in range(40):
        inner = "Relu" if level == 0 else f"f{level - 1}"
        domain = "" if level == 0 else "f"
        nodes = [
            helper.make_node(inner, ["x"], ["y"], domain=domain),
            helper.make_node(inner, ["y"], ["z"], domain=domain),
        ]
        model.functions.append(
            helper.make_function(
                "f",
                f"f{level}",
                ["x"],
                ["z"],
                nodes,
                [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)],
            )
        )
    return model.SerializeToString()


def endless_loop() -> bytes:
    model = _good()
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["x"], ["x_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x_out", TensorProto.FLOAT, None),
        ],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(helper.make_node("Loop", ["", "always", "before"], ["logits"], body=body))
    return model.SerializeToString()


def branch_on_input() -> bytes:
    """If the image looks like a benchmark's, a cheap path."""
    model = _good()

    def path(name: str, source: str) -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node("Identity", [source], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )

    model.graph.node[-1].output[0] = "full"
    model.graph.node.extend(
        [
            helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
            helper.make_node("Cast", ["mean"], ["bright"], to=TensorProto.BOOL),
            helper.make_node(
                "If",
                ["bright"],
                ["logits"],
                then_branch=path("cheap", "full"),
                else_branch=path("dear", "full"),
            ),
        ]
    )
    return model.SerializeToString()


def claimed_giant() -> bytes:
    """A tensor of 10^15 numbers, without any data."""
    model = _good()
    model.graph.initializer.append(TensorProto(name="giant", data_type=TensorProto.FLOAT, dims=[10**5] * 3))
    return model.SerializeToString()


def negative_dims() -> bytes:
    model = _good()
    model.graph.initializer.append(
        TensorProto(name="odd", data_type=TensorProto.FLOAT, dims=[-1, -4], raw_data=bytes(16))
    )
    return model.SerializeToString()


def short_data() -> bytes:
    """Weights that end before their shape does: a reader without checks would run past them."""
    model = _good()
    tensor = model.graph.initializer[0]
    tensor.raw_data = tensor.raw_data[:-64]
    return model.SerializeToString()


def many_nodes() -> bytes:
    model = _good()
    model.graph.node[-1].output[0] = "n0"
    model.graph.node.extend(helper.make_node("Identity", [f"n{i}"], [f"n{i + 1}"]) for i in range(6000))
    model.graph.node.append(helper.make_node("Identity", ["n6000"], ["logits"]))
    return model.SerializeToString()


def parser_bomb() -> bytes:
    """40 MB of empty nodes: two bytes each in the file, over a hundred in memory."""
    nodes = b"\x0a\x00" * 20_000_000
    size, length = len(nodes), b""
    while size:
        length += bytes([(size & 0x7F) | (0x80 if size > 0x7F else 0)])
        size >>= 7
    return b"\x08\x08" + b"\x3a" + length + nodes + b"\x42\x02\x10\x11"


def memory_bomb() -> bytes:
    """A small graph that asks for 400 GB when it runs."""
    model = _good()
    model.graph.node[-1].output[0] = "before"
    shape = numpy_helper.from_array(np.array([10**11], "int64"), "shape")
    model.graph.initializer.append(shape)
    model.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["image"], ["peak"], keepdims=1),
            helper.make_node("Reshape", ["peak", "one"], ["flat"]),
            helper.make_node("Expand", ["flat", "shape"], ["huge"]),
            helper.make_node("ReduceMin", ["huge"], ["nothing"], keepdims=1),
            helper.make_node("Mul", ["nothing", "zero"], ["none"]),
            helper.make_node("Add", ["before", "none"], ["logits"]),
        ]
    )
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([1], "int64"), "one"),
            numpy_helper.from_array(np.array([0], "float32"), "zero"),
        ]
    )
    return model.SerializeToString()


def future_opset() -> bytes:
    model = _good()
    model.opset_import[0].version = 999
    return model.SerializeToString()


def training_part() -> bytes:
    model = _good()
    model.training_info.add().initialization.name = "init"
    return model.SerializeToString()


def no_nodes() -> bytes:
    model = _good()
    del model.graph.node[:]
    return model.SerializeToString()


def answers_at_random() -> bytes:
    model = _good()
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(helper.make_node("RandomNormalLike", ["before"], ["noise"], scale=1e-3))
    model.graph.node.append(helper.make_node("Add", ["before", "noise"], ["logits"]))
    return model.SerializeToString()


def one_output_many_times() -> bytes:
    model = _good()
    for _ in range(1000):
        model.graph.output.append(model.graph.output[0])
    return model.SerializeToString()


def size_below_zero() -> bytes:
    model = _good()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -7
    return model.SerializeToString()
