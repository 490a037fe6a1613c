"""Lesson 01, Export: the learner's files and modules are exported and run on fresh inputs, at several batch sizes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from course.engine import available_runtimes, graph, log, network_layers
from course.errors import CourseError, ParseError
from course.exercises import Wrong, exercise
from course.export import export
from course.export.parity import OnnxRunner, run_torch

REFUSED = ("Col2Im", "Det", "DFT", "Unique")
"""Operators of ONNX that no TensorRT has a parser for; asked only where no parser of TensorRT works."""


@exercise(
    "export-batch",
    points=2,
    hints=(
        "What does `export` take for fixed, if nobody says that it may change?",
        "Look at the argument `dynamic`: a dict of input name -> {axis: name of the dimension}.",
        'Axis 0 of the input "image" is the batch: dynamic={"image": {0: "batch"}}.',
    ),
)
def export_batch(small, batch_path):
    if not Path(batch_path).is_file():
        raise NotImplementedError
    proto = graph.read(batch_path).proto
    dims = [dim.dim_param or dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    if isinstance(dims[0], int):
        raise Wrong(
            f"The batch size is fixed at {dims[0]}: the input is {dims}.",
            "An exporter keeps every size of the example input, unless it is told that an axis is dynamic.",
            "Give export(...) the argument dynamic.",
        )
    if others := [dim for dim in dims[1:] if isinstance(dim, str)]:
        raise Wrong(
            f"More than the batch is open: the input is {dims}.",
            f"{', '.join(others)} may now be any size, and an engine must be prepared for all of them. This "
            "network was trained for one image size.",
            "Leave only axis 0 open.",
            share=0.5,
        )
    _compare(small, OnnxRunner(proto), lambda n: _noise(n, 3, 32, 32), (1, 3, 7), "Your file")
    if dims[0] != "batch":
        raise Wrong(
            f"The open dimension is called {dims[0]!r}, not 'batch'.",
            "The name is how a profile and the error messages of an engine speak of this axis; the task asks "
            "for 'batch'.",
            'Write {0: "batch"}.',
            share=0.5,
        )
    return f"The input is {dims}; at batch 1, 3 and 7 the file gives PyTorch's answers."


@exercise(
    "export-parity",
    points=4,
    hints=(
        "A positive and a negative difference of the same size are equally bad. What makes them equal?",
        "np.abs(a - b).max() is the largest difference; the class of an image is the place of its largest logit.",
        "largest = np.abs(answers - expected).max(); same = (answers.argmax(1) == expected.argmax(1)).mean()",
    ),
)
def export_parity(compare: Callable):
    torch.manual_seed(11)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    x = _noise(40, 3, 2, 2)
    with tempfile.TemporaryDirectory() as folder:
        good, lower, higher, flipped = (
            Path(folder) / name for name in ("good.onnx", "lower.onnx", "higher.onnx", "flipped.onnx")
        )
        _export(model, x[:2], good)
        _with_bias(good, lower, lambda bias: bias - np.float32([0.0, 0.0, 0.5, 0.0, 0.0]))
        _with_bias(good, higher, lambda bias: bias + np.float32([0.0, 0.4, 0.0, 0.0, 0.0]))
        _with_bias(good, flipped, lambda bias: bias + np.float32([3.0, 0.0, 0.0, 0.0, -3.0]))
        for name, path in (
            ("the right file", good),
            ("a file with one logit too small by 0.5", lower),
            ("a file with one logit too large by 0.4", higher),
            ("a file with two wrong biases", flipped),
        ):
            expected, answers = run_torch(model, [x])[0], next(iter(OnnxRunner(path).run({"image": x}).values()))
            wanted = float(np.abs(answers - expected).max()), float((answers.argmax(1) == expected.argmax(1)).mean())
            _judge_pair(_call(compare, model, path, x), wanted, answers - expected, name)
    return "It lets the right file pass and finds three wrong ones, with the right numbers for each."


def _judge_pair(found, wanted: tuple[float, float], difference: np.ndarray, name: str) -> None:
    try:
        largest, same = (float(value) for value in found)
    except (TypeError, ValueError):
        raise Wrong(
            f"compare(...) returned {found!r}.",
            "Two numbers were asked for: the largest difference, and the part of the images with the same class.",
            "return largest, same",
        ) from None
    if abs(largest - wanted[0]) > 1e-6 + 1e-3 * wanted[0]:
        reason = "Perhaps it looks at some of the logits only."
        if abs(largest - difference.max()) < 1e-6:
            reason = "It is the largest difference with its sign: a logit that is too small counts as nothing."
        elif abs(largest + difference.min()) < 1e-6:
            reason = "It is the largest difference with its sign: a logit that is too large counts as nothing."
        elif abs(largest - np.abs(difference).mean()) < 1e-6:
            reason = "It is the mean difference: many right logits hide one that is wrong."
        raise Wrong(
            f"For {name}, your largest difference is {largest:.3g}; it is {wanted[0]:.3g}.",
            reason,
            "Take the absolute value of every difference, then the largest.",
        )
    if abs(same - wanted[1]) > 1e-6:
        reason = "Perhaps axes are mixed up."
        if same in (0.0, 1.0):
            reason = "Perhaps it compares the logits, not the classes."
        if abs(same - 100 * wanted[1]) < 1e-3 or abs(same - 40 * wanted[1]) < 1e-3:
            reason = "It is in other units: a part is a number from 0 to 1."
        raise Wrong(
            f"For {name}, {same:.3g} of the images have the same class, you say; it is {wanted[1]:.3g}.",
            reason,
            "The class of an image is argmax over its logits, axis 1. Take the mean of where both are equal.",
            share=0.5,
        )


@exercise(
    "export-branch",
    points=3,
    hints=(
        "A graph has no `if`. Which operation of PyTorch computes both sides and picks one?",
        "torch.where(condition, a, b) takes a where the condition holds, else b. The condition may be one number.",
        "return torch.where(image.mean() < 0.25, 2 * image, image)",
    ),
)
def export_branch(BrightenFixed):
    model = _made(BrightenFixed)
    dark, bright = _pixels(2, 0.4), _pixels(2, 1.0, seed=4)
    mixed = np.concatenate([0.1 * bright[:1], bright[:1]])  # one dark image, but not a dark batch
    samples = {"a dark batch": dark, "a bright batch": bright, "a dark and a bright image": mixed}

    def judge(run: Callable, whose: str) -> None:
        for name, x in samples.items():
            wanted = 2 * x if x.mean() < 0.25 else x
            answer = run(x)
            if answer.shape != wanted.shape or not np.allclose(answer, wanted, atol=1e-5):
                raise Wrong(
                    f"{whose}: {name} (mean {x.mean():.2f}) comes out with mean {answer.mean():.2f} "
                    f"instead of {wanted.mean():.2f}.",
                    _branch_reason(answer, x, wanted),
                    "Keep the rule: the mean of the whole batch is below 0.25, then twice the batch, else "
                    "the batch as it is.",
                )

    judge(lambda x: _torch(model, x), "In PyTorch")
    runner = _exported(model, dark)
    judge(lambda x: next(iter(runner.run({"image": x}).values())), "In the ONNX file")
    return "Both sides of the condition are in the file, and each input takes the right one."


def _branch_reason(answer: np.ndarray, x: np.ndarray, wanted: np.ndarray) -> str:
    other = 2 * x if wanted is x else x
    if answer.shape == other.shape and np.allclose(answer, other, atol=1e-5):
        return "It took the other side of the condition: the sides are exchanged, or one side is taken always."
    return "It is neither the batch nor twice the batch: perhaps each image or each pixel is judged by itself."


@exercise(
    "export-flatten",
    points=3,
    hints=(
        "Which number in view(8, -1) comes from the example, and not from the network?",
        "A size that comes from the tensor itself stays open: x.shape[0], or an operation that needs no size.",
        "x.flatten(1) keeps axis 0 and joins all the others.",
    ),
)
def export_flatten(EmbedFixed):
    model = _made(EmbedFixed)
    for n in (8, 3, 1):
        x = _pixels(n, 1.0, seed=n)
        answer = _torch(model, x)
        if answer.shape != (n, 48):
            raise Wrong(
                f"In PyTorch, {n} images [{n}, 3, 4, 4] give a tensor of shape {list(answer.shape)} instead of "
                f"[{n}, 48].",
                "A number for the batch size is still in forward(), or images are joined.",
                "Keep axis 0, join the others.",
            )
        flat = x.reshape(n, -1)
        if not np.allclose(answer, flat / np.linalg.norm(flat, axis=1, keepdims=True), atol=1e-5):
            raise Wrong(
                f"In PyTorch, {n} images give other values than before.",
                "The values of images are mixed, or are no longer divided by the length of each row.",
                "Change only the line with view.",
            )
    runner = _exported(model, _pixels(8, 1.0))
    _compare(model, runner, lambda n: _pixels(n, 1.0, seed=5), (1, 3, 8), "The exported file")
    return "The file takes 1, 3 and 8 images."


@exercise(
    "export-operator",
    points=4,
    hints=(
        "How does a patch of 48 numbers hold 3 channels of 4 x 4 pixels, and where does each number go in the image?",
        "Two ways: reshape to [N, 3, 4, 4, 4, 4] (channel, y and x inside the patch, row and column of the patch), "
        "permute, reshape; or one operation of torch.nn.functional that moves channels into pixels.",
        "F.pixel_shuffle(patches.reshape(-1, 48, 4, 4), 4)",
    ),
)
def export_operator(JoinFixed):
    model = _made(JoinFixed)
    for n in (2, 1, 5):
        patches = _noise(n, 48, 16)
        wanted = torch.nn.functional.fold(torch.from_numpy(patches), (16, 16), 4, stride=4).numpy()
        answer = _torch(model, patches)
        if answer.shape != wanted.shape:
            raise Wrong(
                f"In PyTorch, {n} x 48 x 16 numbers give the shape {list(answer.shape)} instead of "
                f"{list(wanted.shape)}.",
                "Each patch is 3 x 4 x 4, and 4 x 4 patches make an image.",
                "Compare with F.fold(patches, (16, 16), 4, stride=4).",
            )
        right = float(np.isclose(answer, wanted, atol=1e-6).mean())
        if right < 1:
            raise Wrong(
                f"Only {100 * right:.0f} % of the pixels are where F.fold puts them.",
                "reshape never moves a number in memory: a row of an image takes numbers from four patches, so "
                "axes must change places first.",
                "Order of the six axes before: channel, y, x in the patch, row, column of the patch. After: "
                "channel, row, y, column, x.",
            )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "join.onnx"
        _export(model, _noise(2, 48, 16), path)
        _compare(model, OnnxRunner(path), lambda n: _noise(n, 48, 16), (1, 3), "The exported file")
        operators = [node.op_type for node in graph.read(path).proto.graph.node]
        parser = parser_here()
        if parser is not None:
            try:
                network_layers(path, parser)
            except ParseError as error:
                raise Wrong(
                    error.what,
                    error.cause,
                    "Compute the same with reshape and permute, or with F.pixel_shuffle.",
                    share=0.25,
                ) from None
            return f"Every pixel is right, and the parser of {parser} takes all of {', '.join(operators)}."
    if bad := [name for name in operators if name in REFUSED]:
        raise Wrong(
            f"The file still holds {', '.join(bad)}.",
            "No TensorRT has a parser for it.",
            "Compute the same with reshape and permute, or with F.pixel_shuffle.",
            share=0.25,
        )
    return f"Every pixel is right, with {', '.join(operators)}. (No parser of TensorRT works here to ask.)"


@exercise(
    "export-int32",
    points=2,
    hints=(
        "Which argument of `export` decides the dtype of the file's input?",
        "The example input: its shape and dtype become those of the file. PyTorch's embedding takes int32 as well.",
        "export(words, (tokens.to(torch.int32),), int32_path, ...)",
    ),
)
def export_int32(words, int32_path):
    if not Path(int32_path).is_file():
        raise NotImplementedError
    proto = graph.read(int32_path).proto
    value = proto.graph.input[0]
    dtype = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    if dtype != "int32":
        raise Wrong(
            f"The file's input is {dtype}.",
            "The input of the file has the dtype of the example input, whatever the module does with it afterwards.",
            "Convert the example before you export.",
        )
    runner = OnnxRunner(proto)
    for n in (1, 3, 6):
        ids = np.random.default_rng(n).integers(0, 100, (n, 6)).astype(np.int32)
        try:
            answer = next(iter(runner.run({value.name: ids}).values()))
        except CourseError:
            raise Wrong(
                f"The file does not take {n} rows of int32.",
                "Its batch size is fixed.",
                'Keep dynamic={"tokens": {0: "batch"}}.',
                share=0.5,
            ) from None
        wanted = run_torch(words, [ids])[0]
        if answer.shape != wanted.shape or not np.allclose(answer, wanted, atol=1e-5):
            raise Wrong(
                f"For {n} rows of words, the file's answers differ from PyTorch's.",
                "It was made from another module than `words`, or with other weights.",
                "Export `words` itself.",
            )
    said = _int64_warnings(int32_path)
    if said:
        raise Wrong("The parser still warns.", said[0], "Export again with an int32 example.", share=0.5)
    return "The input is int32, the answers are the same, and no parser here has anything to say about Int64 inputs."


def parser_here() -> str | None:
    """The real parser that works on this machine: "tensorrt", else "rtx", else None."""
    reasons = available_runtimes()
    return next((name for name in ("tensorrt", "rtx") if reasons[name] is None), None)


def _int64_warnings(path) -> list[str]:
    parser = parser_here()
    if parser is None:
        return []
    with log.capture() as lines:
        network_layers(path, parser)
    return [line.text for line in lines if line.severity == "WARNING" and "Int64 binding" in line.text]


def _made(kind) -> nn.Module:
    return (kind() if isinstance(kind, type) else kind).eval()


def _call(function: Callable, *args):
    try:
        return function(*args)
    except NotImplementedError:
        raise Wrong(
            "It is not written yet.",
            "The cell above holds only its name.",
            "Fill it in, run the cell, then run this one again.",
        ) from None


def _torch(model: nn.Module, x: np.ndarray) -> np.ndarray:
    try:
        return _call(run_torch, model, [x])[0]
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise Wrong(
            f"In PyTorch, it fails on an input of shape {list(np.shape(x))}.",
            str(error).splitlines()[0],
            "Make it work in PyTorch at every batch size first.",
        ) from None


def _export(model: nn.Module, x: np.ndarray, path: Path):
    return export(
        model,
        (torch.from_numpy(x),),
        path,
        input_names=["image"],
        output_names=["answer"],
        dynamic={"image": {0: "batch"}},
    )


def _exported(model: nn.Module, x: np.ndarray) -> OnnxRunner:
    """Export and read again. A refusal of `export` is the learner's answer: it says what is built in."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        _export(model, x, path)
        return OnnxRunner(path.read_bytes())


def _compare(model: nn.Module, runner: OnnxRunner, make: Callable, sizes: tuple[int, ...], whose: str) -> None:
    for n in sizes:
        x = make(n)
        try:
            answer = next(iter(runner.run({runner.inputs[0]: x}).values()))
        except CourseError as error:
            raise Wrong(
                f"{whose} does not run at batch {n}.",
                error.cause,
                "Open axis 0, and keep numbers of the example out of forward().",
            ) from None
        wanted = _torch(model, x)
        off = float(np.abs(answer - wanted).max()) if answer.shape == wanted.shape else float("inf")
        if not off <= 1e-3 * (1 + float(np.abs(wanted).max())):
            raise Wrong(
                f"{whose} differs from PyTorch at batch {n}, by {off:.3g}.",
                "It was made from another module, or a value of the example is built in.",
                "Export the module that the task names.",
            )


def _with_bias(source: Path, target: Path, change: Callable) -> None:
    proto = onnx.load(str(source))
    bias = next(tensor for tensor in proto.graph.initializer if list(tensor.dims) == [5])
    bias.CopyFrom(onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(bias)).astype(np.float32), bias.name))
    onnx.save(proto, str(target))


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


def _pixels(n: int, brightness: float, seed: int = 3) -> np.ndarray:
    """[n, 3, 4, 4], 0 to `brightness`: the mean is half of it."""
    return (np.random.default_rng(seed).random((n, 3, 4, 4)) * brightness).astype(np.float32)
