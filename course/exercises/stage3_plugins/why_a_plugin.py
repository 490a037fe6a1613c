"""Lesson 3.01, why a plugin: a fold rewritten, decomposed, and cut out of its model."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from course.exercises import Wrong, exercise, reference
from course.native.fold import lookup, restorer

SHAPES = ((2, 192, 3, 5), (1, 64, 4, 2))


@exercise(
    "why-rewrite",
    points=2,
    hints=(
        "Which operator puts a small picture at every fourth pixel and adds where pictures overlap?",
        "functional.conv_transpose2d with stride 4 and padding 2. Its weights are [channels in, channels out, 8, 8]: channel "
        "number c * 64 + i * 8 + j has a single 1, for colour c at row i, column j.",
        "weights = torch.eye(patches.shape[1]).view(patches.shape[1], -1, 8, 8); return functional.conv_transpose2d(patches, "
        "weights, stride=4, padding=2)",
    ),
)
def rewrite(rewritten: Callable):
    for shape in SHAPES:
        patches = torch.rand(shape)
        got, wanted = rewritten(patches), restorer.folded(patches)
        if got.shape != wanted.shape:
            raise Wrong(
                f"Patches {shape} give {tuple(got.shape)}, and the fold gives {tuple(wanted.shape)}.",
                "A transposed convolution without padding keeps the border that the fold cuts off."
                if got.shape[-1] == wanted.shape[-1] + 4
                else "Stride, side and padding are the fold's: 4, 8 and 2; the colours are a 64th of the channels.",
                "conv_transpose2d(…, stride=4, padding=2).",
            )
        if not torch.allclose(got, wanted, atol=1e-5):
            mirrored = patches.view(shape[0], -1, 8, 8, *shape[2:]).flip(2, 3).reshape(shape)
            raise Wrong(
                f"Patches {shape}: values differ by up to {(got - wanted).abs().max():.2g}.",
                "Every patch is mirrored: a transposed convolution writes its weights as they are, so nothing has to be flipped."
                if torch.allclose(got, restorer.folded(mirrored), atol=1e-5)
                else "Each channel is one pixel of one colour of the patch. Its weights are one 1 and zeros: an identity, looked at "
                "as [channels, colours, 8, 8].",
                "torch.eye(channels).view(channels, -1, 8, 8).",
            )
    kinds = _operators(rewritten)
    if "ConvTranspose" not in kinds:
        raise Wrong(
            f"Right values, by {', '.join(kinds)}.",
            "Those are other operators; here it is to be one that every version of TensorRT has and has tuned.",
            "torch.nn.functional.conv_transpose2d.",
            share=0.25,
        )
    return f"The same image, by {', '.join(kinds)}: nothing that a parser has to learn."


@reference("why-rewrite")
def _rewrite():
    return restorer.rewritten


@exercise(
    "why-decompose",
    points=3,
    hints=(
        "A patch is 8 wide and the next one begins 4 further. Which parts of the patches do not overlap one another?",
        "unflatten(1, (colours, 2, 4, 2, 4)) splits a patch into 2 x 2 quarters of 4 x 4 pixels. All quarters (i, j) together are "
        "an image without overlap: functional.pixel_shuffle of [n, colours * 16, h, w] by 4.",
        "part = patches.unflatten(1, (c, 2, 4, 2, 4))[:, :, i, :, j].flatten(1, 3); image = functional.pixel_shuffle(part, 4); "
        "functional.pad(image, (4 * j, 4 * (1 - j), 4 * i, 4 * (1 - i))); add the four; [:, :, 2:-2, 2:-2].",
    ),
)
def decompose(decomposed: Callable):
    for shape in SHAPES:
        patches = torch.rand(shape)
        got, wanted = decomposed(patches), restorer.folded(patches)
        if got.shape != wanted.shape:
            raise Wrong(
                f"Patches {shape} give {tuple(got.shape)}, and the fold gives {tuple(wanted.shape)}.",
                "The four images lie on a canvas that is 4 pixels larger than each; then 2 are cut off on every side.",
                "Pad each image to the canvas, add, and slice [2:-2].",
            )
        if not torch.allclose(got, wanted, atol=1e-5):
            centre = (got / wanted)[:, :, 4:-4, 4:-4].mean()
            raise Wrong(
                f"Patches {shape}: values differ by up to {(got - wanted).abs().max():.2g}.",
                "The image is too dark: every pixel is covered by four patches, and all four have to be added."
                if centre < 0.75
                else "The quarters are in the wrong places: quarter (i, j) lies 4 i rows and 4 j columns further, so the padding "
                "goes in front of it. functional.pad takes left, right, top, bottom.",
                "Draw two neighbouring patches and number their quarters.",
            )
    kinds = _operators(decomposed)
    if refused := sorted({"Col2Im", "ConvTranspose", "ScatterElements", "ScatterND"} & set(kinds)):
        raise Wrong(
            f"Right values, by {refused[0]}.",
            "That is the operator that the parser does not take." if refused[0] == "Col2Im"
            else "That is another way; here the fold is to be taken apart into moves and additions.",
            "Use unflatten, pixel_shuffle, pad, + and slices.",
            share=0.25,
        )  # fmt: skip
    return f"The same image, by {', '.join(kinds)}."


@reference("why-decompose")
def _decompose():
    def decomposed(patches: torch.Tensor) -> torch.Tensor:
        parts = patches.unflatten(1, (-1, 2, 4, 2, 4))
        total = 0
        for i in range(2):
            for j in range(2):
                image = torch.nn.functional.pixel_shuffle(parts[:, :, i, :, j].flatten(1, 3), 4)
                total = total + torch.nn.functional.pad(image, (4 * j, 4 * (1 - j), 4 * i, 4 * (1 - i)))
        return total[:, :, 2:-2, 2:-2]

    return decomposed


class _Module(torch.nn.Module):
    def __init__(self, function: Callable):
        super().__init__()
        self.forward = function


def _operators(function: Callable) -> list[str]:
    """What it is made of in ONNX, each once.

    Raises:
        Wrong: TensorRT-RTX's parser does not take it.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        program = torch.onnx.export(_Module(function).eval(), (torch.rand(SHAPES[0]),), dynamo=True, verbose=False)
    model = program.model_proto
    kinds = list(
        dict.fromkeys(node.op_type for node in model.graph.node if node.op_type not in ("Constant", "Identity"))
    )
    answer = lookup.parse(model)
    if answer is not None and answer.code and answer.operator != "Col2Im":
        raise Wrong(
            f"Right values, but the parser stops at {answer.operator}: {answer.message}",
            f"In ONNX it is made of {', '.join(kinds)}.",
            "Write that step with another function.",
            share=0.25,
        )
    return kinds


@exercise(
    "why-cut",
    points=3,
    hints=(
        "Which nodes have to wait for the fold? And which tensors do they read that nobody among them makes?",
        "Go through the nodes in order with a set of tensors that depend on the node: its outputs first, then the outputs of "
        "everybody who reads one of them. The rest is `before`. What crosses: made in `before` (or an input), read in `after`.",
        "waits = set(); for node in graph.node: if node.name == name or set(node.input) & waits: after.append(node); "
        "waits.update(node.output); else: before.append(node). crossing = [t for node in before for t in node.output if t is "
        "read by a node of after]. Shapes: onnx.shape_inference.infer_shapes(model).graph.value_info.",
    ),
)
def cut_model(cut: Callable):
    skipping = _skipping()
    first, second = _two_models(cut(skipping, "fold"))
    if "Col2Im" in {node.op_type for node in first.graph.node}:
        raise Wrong(
            "The first part still holds Col2Im.",
            "The engine ends before the node that the parser does not take.",
            "The node itself belongs to the second part.",
        )
    x = np.random.default_rng(0).standard_normal((2, 64, 12)).astype(np.float32)
    wanted = _run(skipping, {"x": x})
    try:
        onnx.checker.check_model(first)
        onnx.checker.check_model(second)
        between = _run(first, {"x": x})
        feeds = {one.name: {"x": x, **between}[one.name] for one in second.graph.input}
        got = _run(second, feeds)
    except Exception as error:
        raise Wrong(
            "The two parts do not work together.",
            "Not only the fold's own input crosses the border. Everything that was made in the first part and is read in the "
            f"second has to be an output there and an input here. ({str(error).strip().splitlines()[0]})",
            "Collect what the nodes of the second part read and do not make themselves.",
            share=0.25,
        ) from error
    if set(wanted) - set(got) - set(between) or not np.allclose({**between, **got}["y"], wanted["y"], atol=1e-5):
        raise Wrong(
            "The parts together give another result.", "A node was lost or doubled.", "Compare the lists of nodes."
        )
    late = [node.name for node in second.graph.node if node.name in ("mean", "last")]
    if late:
        raise Wrong(
            f"Right, but {late[0]} runs in the second part, and does not need the fold.",
            "It stands behind the fold in the list. A list of nodes is an order, not a dependence; what could run in the engine "
            "is left outside.",
            "Ask whether a node reads something that depends on the fold.",
            share=0.5,
        )
    if len(first.graph.output) > 3:
        raise Wrong(
            f"Right, but {len(first.graph.output)} tensors cross the border.",
            "Each output of the engine is written to memory, and perhaps copied.",
            "Only what the second part reads.",
            share=0.75,
        )
    answer = lookup.parse(first)
    if answer is not None and answer.code:
        raise Wrong(
            f"The parser refuses the first part at {answer.operator}.", answer.message, "Look at that node.", share=0.5
        )
    return f"The first part parses, {', '.join(one.name for one in second.graph.input)} cross the border, and both together agree."


@reference("why-cut")
def _cut_model():
    def cut(model: onnx.ModelProto, name: str) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        graph, before, after, waits = model.graph, [], [], set()
        for node in graph.node:
            if node.name == name or waits & set(node.input):
                after.append(node)
                waits |= set(node.output)
            else:
                before.append(node)
        typed = {one.name: one for one in onnx.shape_inference.infer_shapes(model).graph.value_info}
        typed |= {one.name: one for one in (*graph.input, *graph.output)}
        read = {tensor for node in after for tensor in node.input}
        made = [tensor for node in before for tensor in node.output]
        crossing = [typed[tensor] for tensor in made if tensor in read]
        ends = [one for one in graph.output if one.name in made and one.name not in read]
        second = [*crossing, *(one for one in graph.input if one.name in read)]

        def part(nodes, inputs, outputs):
            used = {tensor for node in nodes for tensor in node.input}
            weights = [one for one in graph.initializer if one.name in used]
            new = helper.make_graph(nodes, "part", inputs, outputs, weights)
            return helper.make_model(new, opset_imports=model.opset_import, ir_version=model.ir_version)

        first = part(before, list(graph.input), [*crossing, *ends])
        return first, part(after, second, [one for one in graph.output if one.name in waits])

    return cut


def _two_models(parts: object) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    if not (isinstance(parts, tuple) and len(parts) == 2 and all(isinstance(one, onnx.ModelProto) for one in parts)):
        raise Wrong("cut does not return two models.", f"It returns a {type(parts).__name__}.", "return before, after")
    return parts


def _run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds)))


def _skipping() -> onnx.ModelProto:
    """A fold in the middle, a tensor that goes past it, and a node behind it in the list that does not need it."""
    constants = {"size": [12, 16], "block": [8, 8], "scale": 0.5}
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="relu"),
        helper.make_node("Tanh", ["a"], ["b"], name="tanh"),
        helper.make_node("Col2Im", ["b", "size", "block"], ["image"], name="fold", pads=4 * [2], strides=2 * [4]),
        helper.make_node("ReduceMean", ["a"], ["mean_1"], name="mean", keepdims=1),
        helper.make_node("Mul", ["mean_1", "scale"], ["mean_2"], name="last"),
        helper.make_node("Add", ["image", "mean_2"], ["y"], name="add"),
    ]
    weights = [
        numpy_helper.from_array(np.array(value, np.float32 if name == "scale" else np.int64), name)
        for name, value in constants.items()
    ]
    graph = helper.make_graph(
        nodes,
        "skipping",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 64, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 1, 12, 16])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
