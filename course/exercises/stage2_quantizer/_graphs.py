"""Small graphs that learners' functions are tried on, and what is wrong with a graph that they return."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from course.exercises import Wrong
from course.quantize import Network
from course.quantize.pairs import DEQUANTISE, QUANTISE, Stripped


def block(seed: int = 0) -> onnx.ModelProto:
    """image [N, 16, 6, 6] -> logits [N, 16, 6, 6]: a convolution, a residual block with an Add, a last convolution."""
    rng = np.random.default_rng(seed)
    nodes, weights = [], []

    def conv(name: str, x: str) -> str:
        weights.append(numpy_helper.from_array((rng.standard_normal((16, 16, 3, 3)) / 12).astype("f4"), f"{name}.w"))
        attributes = {"pads": [1] * 4, "kernel_shape": [3, 3]}
        nodes.append(helper.make_node("Conv", [x, f"{name}.w"], [f"{name}_out"], name, **attributes))
        return f"{name}_out"

    def op(kind: str, name: str, *inputs: str) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [f"{name}_out"], name))
        return f"{name}_out"

    x = op("Relu", "relu0", conv("conv0", "image"))
    y = conv("conv2", op("Relu", "relu1", conv("conv1", x)))
    x = op("Relu", "relu2", op("Add", "add", y, x))
    nodes.append(helper.make_node("Conv", [x, "conv0.w"], ["logits"], "last", pads=[1] * 4, kernel_shape=[3, 3]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 16, 6, 6]) for name in ("image", "logits")]
    made = helper.make_model(
        helper.make_graph(nodes, "block", ends[:1], ends[1:], weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    made.ir_version = 8
    return made


def some_scales(model: onnx.ModelProto) -> dict[str, float]:
    """Some scale for each activation, all different."""
    return {tensor: 0.02 + 0.003 * place for place, tensor in enumerate(Network(model).activations())}


def run(model: onnx.ModelProto) -> np.ndarray:
    """What the file says, without a runtime's own rewriting."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(7).standard_normal((2, 16, 6, 6)).astype(np.float32)
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def graph_faults(found: object, given: onnx.ModelProto, before: bytes, name: str) -> None:
    """What is wrong with a returned model whatever was asked for.

    Raises:
        Wrong: it is no model, the given one was changed, or ONNX refuses it.
    """
    if not isinstance(found, onnx.ModelProto):
        raise Wrong(
            f"{name}() returned {type(found).__name__}.", "A model was asked for.", "End with `return model`, the copy."
        )
    if found is given or given.SerializeToString() != before:
        raise Wrong(
            f"{name}() changes the model that it is given.",
            "Steps of an experiment must not spoil each other: the next one starts from this model.",
            "Work on a copy: onnx.ModelProto.FromString(model.SerializeToString()).",
        )
    if [value.name for value in found.graph.output] != [value.name for value in given.graph.output]:
        raise Wrong(
            f"The graph's outputs are now {', '.join(value.name for value in found.graph.output)}.",
            "Whoever runs the model asks for its outputs by name.",
            "Let the node that makes the float tensor write the output's name.",
        )
    try:
        onnx.checker.check_model(found, full_check=True)
    except Exception as error:
        raise broken(found, str(error)) from None


def broken(model: onnx.ModelProto, words: str) -> Wrong:
    made = {value.name for value in (*model.graph.input, *model.graph.initializer)}
    everything = made | {tensor for node in model.graph.node for tensor in node.output}
    for node in model.graph.node:
        lost = [tensor for tensor in node.input if tensor and tensor not in made]
        if lost and lost[0] in everything:
            return Wrong(
                f"{node.name} reads {lost[0]}, which is made only after it.",
                "The nodes of an ONNX graph stand in the order in which they can be computed.",
                "Insert new nodes in front of the node that reads them, not at the end.",
            )
        if lost:
            return Wrong(
                f"{node.name} reads {lost[0]}, which nothing makes any more.",
                "The node that made it is gone, but this reader was not turned to the float tensor.",
                "Rename the inputs of all nodes that stay.",
            )
        made.update(node.output)
    ends = [value.name for value in model.graph.output if value.name not in made]
    if ends:
        return Wrong(
            f"Nothing makes the graph's output {ends[0]!r} any more.",
            "It was the DQ's result, and the DQ is gone.",
            "Let the node that makes the float tensor write the output's name.",
        )
    return Wrong(
        "ONNX refuses the graph.", words.splitlines()[0][:200], "Call onnx.checker.check_model on your result."
    )


def standing(stripped: Stripped) -> set[str]:
    """The pairs of a model in words: "conv1[0]" is input 0 of conv1, "output logits" an output."""
    return {f"{stripped.net.name(edge.index)}[{edge.slot}]" for edge in stripped.pairs} | {
        f"output {name}" for name in stripped.outputs
    }


def alone(model: onnx.ModelProto) -> list[str]:
    """Q nodes without a DQ, and DQ nodes without a Q."""
    read = {tensor for node in model.graph.node for tensor in node.input if node.op_type == DEQUANTISE}
    made = {tensor for node in model.graph.node if node.op_type == QUANTISE for tensor in node.output}
    return [
        node.name
        for node in model.graph.node
        if (node.op_type == QUANTISE and node.output[0] not in read)
        or (node.op_type == DEQUANTISE and node.input[0] not in made)
    ]


def unread(model: onnx.ModelProto) -> list[str]:
    """DQ nodes whose result nobody takes."""
    read = {tensor for node in model.graph.node for tensor in node.input} | {v.name for v in model.graph.output}
    return [node.name for node in model.graph.node if node.op_type == DEQUANTISE and node.output[0] not in read]
