"""ONNX graphs with and without the node CourseFold: made, exported, run and judged for lesson 3.05."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from course.exercises import Wrong
from course.native import fold
from course.native.fold import lookup

NAMES = lookup.ATTRIBUTES


class CourseFold(OpRun):
    """The node, for ONNX's reference evaluator."""

    op_domain = "course"

    def _run(self, x, kernel=1, stride=1, padding=0, **_):
        return (fold.fold(x, kernel, stride, padding),)


def exported(module: torch.nn.Module, shape: tuple[int, ...]) -> onnx.ModelProto:
    """The module as ONNX by PyTorch's newer exporter: input `patches` of this shape with an open batch, output `restored`."""
    with contextlib.redirect_stdout(io.StringIO()):
        program = torch.onnx.export(
            module.eval(),
            (torch.rand(shape),),
            dynamo=True,
            input_names=["patches"],
            output_names=["restored"],
            dynamic_shapes=({0: "n"},),
            verbose=False,
        )
    return program.model_proto


def judge_surgery(given: onnx.ModelProto, model: onnx.ModelProto, window: tuple[int, int, int]) -> None:
    """Raise what is wrong with `model`, in which one CourseFold should stand for Reshape and Col2Im of `given`."""
    graph = model.graph
    kinds = [node.op_type for node in graph.node]
    if kinds.count("CourseFold") != 1 or "Col2Im" in kinds:
        raise Wrong(
            f"The graph holds {', '.join(kinds)}.",
            "Col2Im should have given its place to one CourseFold.",
            "Insert the new node, remove the old ones.",
        )
    node = next(node for node in graph.node if node.op_type == "CourseFold")
    maker = next((one for one in graph.node if node.input[0] in one.output), None)
    if maker is not None and maker.op_type == "Reshape" or len(node.input) != 1:
        raise Wrong(
            f"CourseFold reads {', '.join(node.input)}: three dimensions, or more than the patches.",
            "Col2Im wants its places in one row and its sizes as inputs. The plugin takes [n, c * k * k, h, w] and nothing else.",
            "Let it read what the Reshape read.",
            share=0.25,
        )
    try:
        onnx.checker.check_model(model)
        names = [one.name for one in graph.initializer]
        read = {name for one in graph.node for name in one.input}
        if left := [name for name in names if name not in read] + [
            one.name for one in graph.node if one.op_type == "Reshape"
        ]:
            raise Wrong(
                f"Nobody reads {', '.join(left)} any more, and it is still there.",
                "A node or constant without a reader is parsed all the same, and may stop the parser.",
                "Remove what only the old nodes needed.",
                share=0.5,
            )
    except onnx.checker.ValidationError as error:
        raise Wrong(
            "onnx.checker refuses the model.",
            str(error).strip().splitlines()[0],
            'Nodes in order, each input made before it is read, and helper.make_opsetid("course", 1) in model.opset_import.',
            share=0.25,
        ) from error
    attributes(node, window, 0.5)
    x = np.random.default_rng(0).standard_normal((2, 2 * window[0] ** 2, 3, 4)).astype(np.float32)
    wanted = onnxruntime.InferenceSession(given.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": x}
    )
    try:
        got = ReferenceEvaluator(model, new_ops=[CourseFold]).run(None, {"x": x})
    except Exception as error:
        raise Wrong(
            "The new model does not run.",
            f"{type(error).__name__}: {error}",
            "Compare the node's input and attributes.",
        ) from error
    if got[0].shape != wanted[0].shape or not np.allclose(got[0], wanted[0], atol=1e-5):
        raise Wrong(
            f"kernel, stride, padding {window}: shape {got[0].shape}, and Col2Im gives {wanted[0].shape}."
            if got[0].shape != wanted[0].shape
            else f"kernel, stride, padding {window}: other values than Col2Im's.",
            "The attributes are right, so the node stands in another place, or reads another tensor.",
            "Compare what it reads and writes with what Reshape read and Col2Im wrote.",
            share=0.5,
        )


def reshaped(kernel: int, stride: int, padding: int) -> onnx.ModelProto:
    """x -> Relu -> Reshape -> Col2Im -> Neg -> y, as an exporter writes a fold."""
    size = [2 * stride + kernel - 2 * padding, 3 * stride + kernel - 2 * padding]
    nodes = [
        helper.make_node("Relu", ["x"], ["patches"], name="relu"),
        helper.make_node("Reshape", ["patches", "flat"], ["columns"], name="flatten"),
        helper.make_node(
            "Col2Im", ["columns", "size", "block"], ["image"], name="col2im", pads=4 * [padding], strides=2 * [stride]
        ),
        helper.make_node("Neg", ["image"], ["y"], name="neg"),
    ]
    constants = {"flat": [0, 2 * kernel**2, -1], "size": size, "block": [kernel, kernel]}
    graph = helper.make_graph(
        nodes,
        "reshaped",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2 * kernel**2, 3, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, *size])],
        [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def attributes(node: onnx.NodeProto, window: tuple[int, int, int], share: float) -> None:
    """The node's attributes as the creator gets them, by TensorRT-RTX's parser where it is, else as they stand."""
    graph = helper.make_graph(
        [helper.make_node(node.op_type, ["x"], ["y"], domain=node.domain)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2 * window[0] ** 2, 3, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    graph.node[0].attribute.extend(node.attribute)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(node.domain, 1)]
    answer = lookup.parse(helper.make_model(graph, opset_imports=opsets, ir_version=8))
    given = answer.fields if answer else {one.name: [helper.get_attribute_value(one)] for one in node.attribute}
    if answer and not answer.found:
        raise Wrong(
            "The parser does not come to the creator: " + answer.message,
            "Name, version and namespace all have to be the creator's: CourseFold, 1, and an empty namespace.",
            'Leave plugin_version and plugin_namespace out, or write "1" and "".',
            share=share,
        )
    for name, wanted in zip(NAMES, window):
        if name not in given:
            raise Wrong(
                f"The creator is not given {name}; the node has {', '.join(one.name for one in node.attribute) or 'none'}.",
                "An attribute with another name is no error for the parser. The plugin silently takes its default.",
                f"Call the attributes {', '.join(NAMES)}.",
                share=share,
            )
        if len(given[name]) != 1 or not isinstance(given[name][0], int):
            raise Wrong(
                f"The creator is given {name} = {given[name]}, and one whole number was expected.",
                "The parser hands an attribute over in the type that the node gives it. The plugin reads the first four bytes "
                "as a whole number, whatever they are.",
                "Write one int.",
                share=share,
            )
        if given[name] != [wanted]:
            raise Wrong(
                f"The creator is given {name} = {given[name][0]}, and this fold has {wanted}.",
                "The numbers belong to this one fold: its block, its strides, its pads. Another model has others.",
                "Read them where this fold has them.",
                share=share,
            )
