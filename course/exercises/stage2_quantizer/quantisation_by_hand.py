"""Lesson 01, quantisation by hand: the arithmetic beside ONNX Runtime's nodes, a calibrator on three histograms, and limits
for a whole ResNet-50 beside those of min-max, on images that the lesson does not use."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from course.data import cifar10, preprocess
from course.exercises import Wrong, exercise, reference
from course.quantize import (
    Difference,
    Histogram,
    Histograms,
    collect,
    histogram,
    paired,
    quantize,
    scales,
    tensors_to_calibrate,
)

MODEL = "artifacts/resnet50.onnx"
"""The float model that the lesson's first cells write."""
IMAGES = 16
"""To calibrate."""
TESTED = (slice(500, 516), slice(516, 564))
"""Of the public split: images that the lesson does not use. The first few show a clear loss already."""


# ---------------------------------------------------------------- 1: what QuantizeLinear does


@exercise(
    "hand-quantise",
    points=2,
    hints=(
        "Which numbers does an int8 hold, and what does .astype(np.int8) do with 130?",
        "Divide, round to the nearest integer (np.rint takes the even one half way), add the zero point, clip to -128 … 127, "
        "and change the type last.",
        "return np.clip(np.rint(x / scale) + zero_point, -128, 127).astype(np.int8)",
    ),
)
def quantise(quantise: Callable):
    count = 0
    for scale, zero in ((0.5, 0), (0.02, -128), (0.07, 5)):
        x = _numbers(scale)
        found = np.asarray(quantise(x.copy(), np.float32(scale), zero))
        if found.dtype != np.int8 or found.shape != x.shape:
            raise Wrong(
                f"quantise returned {found.dtype} {list(found.shape)} for float32 {list(x.shape)}.",
                "What is stored and multiplied is an INT8 number for each value.",
                "End with .astype(np.int8).",
            )
        wanted = _node(x, scale, zero)
        if not np.array_equal(found, wanted):
            raise _wrong_integer(x, found, wanted, scale, zero)
        count += len(x)
    return f"The same integers as ONNX Runtime's QuantizeLinear, for {count} numbers, three scales, three zero points."


@reference("hand-quantise")
def _quantise():
    def quantise(x, scale, zero_point=0):
        return np.clip(np.rint(x / scale) + zero_point, -128, 127).astype(np.int8)

    return quantise


def _numbers(scale: float) -> np.ndarray:
    """float32: in and out of the range, and ties where the division is exact."""
    steps = np.random.default_rng(3).uniform(-400, 400, 3000).astype(np.float32)
    near_tie = np.abs(steps - np.floor(steps) - 0.5) < 0.01
    ties = np.arange(-140.5, 140, dtype=np.float32) if math.log2(scale).is_integer() else np.empty(0, np.float32)
    return np.concatenate([steps[~near_tie], ties, np.float32([0, 127, -127, -128])]) * np.float32(scale)


def _node(x: np.ndarray, scale: float, zero: int) -> np.ndarray:
    """int8: QuantizeLinear of ONNX Runtime."""
    constants = {"scale": np.float32(scale), "zero": np.int8(zero)}
    node = helper.make_node("QuantizeLinear", ["x", *constants], ["q"])
    return _run([node], {"x": x}, [numpy_helper.from_array(v, k) for k, v in constants.items()], "q", TensorProto.INT8)


def _wrong_integer(x: np.ndarray, found: np.ndarray, wanted: np.ndarray, scale: float, zero: int) -> Wrong:
    bad = found != wanted
    place = int(np.argmax(bad))
    what = (
        f"With scale {scale:g} and zero point {zero}, {x[place]:.6g} becomes {wanted[place]}, not {found[place]} "
        f"({100 * bad.mean():.2g} % of {len(x)} numbers are wrong)."
    )
    steps, next_step = x / np.float32(scale), "Print x / scale, the rounded steps and the result for that number."
    with np.errstate(invalid="ignore"):
        wrapped = (np.rint(steps) + zero).astype(np.int64).astype(np.int8)
    if np.array_equal(found, wrapped):
        cause = (
            "Nothing saturates: .astype(np.int8) keeps the lower eight bits, so a large positive number turns negative."
        )
    elif np.array_equal(found, np.clip(np.trunc(steps) + zero, -128, 127).astype(np.int8)):
        cause = "The digits behind the point are cut off: that goes towards 0 and is wrong for half of all numbers."
    elif np.array_equal(found, np.clip(np.floor(steps + 0.5) + zero, -128, 127).astype(np.int8)):
        cause = "Only numbers half way are wrong. Q rounds them to the even neighbour, so that they do not all go up."
    elif zero and np.array_equal(found, (np.clip(np.rint(steps), -128, 127) + zero).astype(np.int64).astype(np.int8)):
        cause = "It was clipped before the zero point was added: the sum leaves the range again."
    elif found.min() >= -127:
        cause = "-128 is missing: QuantizeLinear uses all 256 integers, though a scale is made for 127."
    else:
        cause = "The order is: divide, round, add the zero point, clip, change the type."
    return Wrong(what, cause, next_step)


# ---------------------------------------------------------------- 2: a pair for a weight


@exercise(
    "hand-pair",
    points=3,
    hints=(
        "Which numbers share a scale, if each output channel has its own? What is the largest of each such group? And what "
        "if a channel is 0 everywhere?",
        "Move the axis to the front, make one row of each channel, take the largest |w| of each row, divide by 127; replace "
        "0 by 1. Both nodes get the constants and axis=axis, which is 1 if you leave it out.",
        'helper.make_node("QuantizeLinear", [name, f"{name}_scale", f"{name}_zero"], [f"{name}_q"], axis=axis), the same with '
        'DequantizeLinear to f"{name}_dq"; numpy_helper.from_array(np.zeros(len(scale), np.int8), f"{name}_zero").',
    ),
)
def pair(weight_pair: Callable):
    rng = np.random.default_rng(4)
    for axis, shape, kind in ((0, (6, 6, 3, 3), "Conv"), (1, (5, 5, 2, 2), "ConvTranspose"), (1, (20, 5), "MatMul")):
        spread = 10 ** rng.uniform(-3, 0, shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
        weight = (rng.standard_normal(shape) * spread).astype(np.float32)
        np.moveaxis(weight, axis, 0)[2] = 0  # a channel that was pruned away
        _judge_pair(weight_pair("w", weight.copy(), axis), weight, axis, kind)
    return "Right in ONNX Runtime for Conv, ConvTranspose and MatMul weights, a pruned channel in each."


@reference("hand-pair")
def _pair():
    def weight_pair(name, weight, axis):
        largest = np.abs(np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis], -1).max(1)
        scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        constants = [
            numpy_helper.from_array(scale, f"{name}_scale"),
            numpy_helper.from_array(np.zeros(len(scale), np.int8), f"{name}_zero"),
        ]
        inputs = [constant.name for constant in constants]
        nodes = [
            helper.make_node("QuantizeLinear", [name, *inputs], [f"{name}_q"], axis=axis),
            helper.make_node("DequantizeLinear", [f"{name}_q", *inputs], [f"{name}_dq"], axis=axis),
        ]
        return nodes, constants

    return weight_pair


def _judge_pair(answer, weight: np.ndarray, axis: int, kind: str) -> None:
    try:
        nodes, constants = (list(part) for part in answer)
        operators = [node.op_type for node in nodes]
        arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in constants}
    except (TypeError, ValueError, AttributeError):
        raise Wrong(
            f"weight_pair(...) returned {type(answer).__name__}, which does not hold nodes and constants.",
            "Two lists were asked for: what make_node and what from_array made.",
            "return [q, dq], [scale, zero_point]",
        ) from None
    if operators != ["QuantizeLinear", "DequantizeLinear"] or nodes[1].output[0] != "w_dq":
        raise Wrong(
            f"The nodes are {', '.join(operators) or 'none'}, and the last writes {nodes[-1].output[0] if nodes else '-'}.",
            "A pair is Q, then DQ; the convolution will read name_dq.",
            'QuantizeLinear from name to name_q, DequantizeLinear from name_q to f"{name}_dq".',
        )
    missing = [name for node in nodes for name in node.input if name not in {"w", *arrays, nodes[0].output[0]}]
    if missing or min(len(node.input) for node in nodes) < 3:
        raise Wrong(
            f"A node reads {missing[0]!r}, which nothing makes." if missing else "A node has no zero point.",
            "Scale and zero point are constants of the file; without a zero point the integers would be uint8.",
            "Give both nodes [tensor, scale, zero point], and return both constants.",
        )
    scale, zero = (arrays[name] for name in nodes[0].input[1:3])
    _judge_constants(scale, zero, weight, axis, kind)
    if any(_axis(node) != axis for node in nodes):
        raise Wrong(
            f"For a {kind} weight {list(weight.shape)} the channels are on axis {axis}; the nodes say "
            f"{', '.join(str(_axis(node)) for node in nodes)}.",
            "Without the attribute the axis is 1: the input channels of a convolution. Where both have the same number, no "
            "tool complains.",
            "axis=axis in both make_node calls.",
        )
    found = _run(nodes, {}, [numpy_helper.from_array(weight, "w"), *constants], "w_dq", TensorProto.FLOAT)
    largest = np.abs(np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis], -1).max(1)
    steps = (
        np.abs(np.moveaxis(found - weight, axis, 0)).reshape(len(largest), -1).max(1) / (largest / 127 + 1e-30)
    ).max()
    if steps > 0.51:
        raise Wrong(
            f"A {kind} weight is off by {steps:.3g} steps of its channel's scale.",
            "Rounding to the nearest integer is off by half a step at most: some weights are clipped.",
            "scale = largest |w| of the channel / 127.",
        )


def _judge_constants(scale: np.ndarray, zero: np.ndarray, weight: np.ndarray, axis: int, kind: str) -> None:
    channels, what = (
        weight.shape[axis],
        f"For a {kind} weight {list(weight.shape)} with its output channels on axis {axis}",
    )
    if scale.shape != (channels,):
        raise Wrong(
            f"{what}, the scale has shape {list(scale.shape)}.",
            "One scale for the whole tensor is made for its largest channel; the others lose their digits."
            if scale.size == 1
            else "The largest values were taken over the wrong axes.",
            f"Make {channels} scales, one for each output channel.",
        )
    if zero.dtype != np.int8 or zero.any() or zero.shape != scale.shape:
        raise Wrong(
            f"{what}, the zero point is {zero.dtype} {list(zero.shape)}, {zero.ravel()[0]} at the front.",
            "The zero point's type is the type of the integers, and TensorRT's parser takes int8 with zero points of 0.",
            "np.zeros(len(scale), np.int8)",
        )
    if scale.dtype != np.float32 or not (scale > 0).all() or not np.isfinite(scale).all():
        raise Wrong(
            f"{what}, the scale is {scale.dtype}, the smallest {scale.min():.3g}.",
            "A scale is 0: one channel is 0 everywhere, and 0 / 0 is no number. TensorRT refuses such a file."
            if (scale == 0).any()
            else "The scale of a float32 tensor is float32, above 0 and finite.",
            "np.where(largest > 0, largest / 127, 1).astype(np.float32)",
        )


def _axis(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)


def _run(nodes, feed: Mapping[str, np.ndarray], constants, output: str, dtype: int) -> np.ndarray:
    import onnxruntime

    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in feed.items()]
    outputs = [helper.make_tensor_value_info(output, dtype, None)]
    graph = helper.make_graph(list(nodes), "tried", inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run([output], dict(feed))[0]


# ---------------------------------------------------------------- 3: a calibrator


@exercise(
    "hand-calibrator",
    points=4,
    hints=(
        "For one limit: what becomes of the values in bin k, and how far is that from where they were? How many are there?",
        "Let the middle of each bin stand for its values. Quantise all middles with scale = limit / 127, clipped at 127, "
        "and go back; sum counts · (difference)². Try some hundred limits up to the last bin that is not empty.",
        "middles = (np.arange(len(counts)) + 0.5) * width; back = np.clip(np.rint(middles / scale), 0, 127) * scale; "
        "(counts * (back - middles) ** 2).sum(); then min(limits, key=error).",
    ),
)
def calibrator(best_limit: Callable):
    gains = []
    for name, one in _histograms().items():
        counts, width = one.magnitudes()[0], float(one.widths[0])
        edge = float((np.flatnonzero(counts)[-1] + 1) * width)
        answer = best_limit(counts.copy(), width)
        try:
            found = float(answer)
        except (TypeError, ValueError):
            raise Wrong(
                f"best_limit(...) returned {type(answer).__name__}.",
                "A single number was asked for: the magnitude above which values are clipped.",
                "Return the best of the limits that you tried.",
            ) from None
        best = min(np.arange(1, 401) / 400 * edge, key=lambda limit: _error(counts, width, limit))
        if not (math.isfinite(found) and found > 0) or _error(counts, width, found) > 1.02 * _error(
            counts, width, best
        ):
            raise _wrong_limit(name, counts, width, edge, found, best)
        gains.append(f"{name}: {found / edge:.2f} of the largest")
    return f"The error is within 2 % of the smallest on three histograms. Limits: {'; '.join(gains)}."


@reference("hand-calibrator")
def _calibrator():
    def best_limit(counts, width):
        edge = (np.flatnonzero(counts)[-1] + 1) * width
        return min(edge * np.arange(1, 201) / 200, key=lambda limit: _error(counts, width, limit))

    return best_limit


@functools.cache
def _histograms() -> dict[str, Histogram]:
    rng = np.random.default_rng(6)
    long_tail = np.concatenate([np.maximum(rng.laplace(0, 1, 300_000), 0), [24.0]])
    return {
        "a ReLU output with a long tail": histogram(long_tail.astype(np.float32), bins=2048),
        "a bell": histogram(rng.standard_normal(60_000).astype(np.float32), bins=2048),
        "values spread evenly": histogram(rng.uniform(-3, 3, 60_000).astype(np.float32), bins=2048),
    }


def _error(counts: np.ndarray, width: float, limit: float) -> float:
    """Sum of squared errors of the values at the middles of their bins."""
    middles, scale = (np.arange(len(counts)) + 0.5) * width, limit / 127
    return float((counts * (np.clip(np.rint(middles / scale), 0, 127) * scale - middles) ** 2).sum())


def _wrong_limit(name: str, counts: np.ndarray, width: float, edge: float, found: float, best: float) -> Wrong:
    with np.errstate(all="ignore"):
        times = _error(counts, width, found) / _error(counts, width, best) if found > 0 else math.inf
    what = f"For {name}, your limit is {found:.4g}; the smallest error is near {best:.4g}" + (
        f", and yours is {times:.3g} times as large." if math.isfinite(times) else "."
    )
    if math.isclose(found, edge, rel_tol=0.01):
        cause = (
            "That is the largest value: nothing is clipped, and one outlier costs all others their resolution. It also "
            "comes out if each bin counts once, however many values are in it."
        )
    elif math.isclose(found, best / 127, rel_tol=0.1):
        cause = "That is the scale. The limit is 127 times as large."
    elif math.isclose(found * width, best, rel_tol=0.1):
        cause = "That is the number of a bin. Multiply by the width."
    elif found < 0.1 * best:
        cause = "What is clipped seems to cost nothing: with resolution alone, the smallest limit always wins."
    else:
        cause = (
            "It is near, but not the best: perhaps too few limits were tried, or edges of bins stand for their middles."
        )
    return Wrong(what, cause, "Compute the error of both limits by your own formula, and compare.")


# ---------------------------------------------------------------- 4: limits for the whole network


@exercise(
    "hand-limits",
    points=3,
    hints=(
        "You have a calibrator for one histogram, and a histogram for each tensor.",
        "histograms.tensors maps a tensor's name to its Histogram; .magnitudes()[0] are the counts of |x|, .widths[0] is the "
        "width of a bin.",
        "{name: best_limit(one.magnitudes()[0], one.widths[0]) for name, one in histograms.tensors.items()}",
    ),
)
def limits(limits: Mapping[str, float]):
    """Judged by what comes out at the end of the network, whatever made the limits."""
    if not isinstance(limits, Mapping):
        raise Wrong(
            f"`limits` is a {type(limits).__name__}.",
            "A limit for each tensor was asked for.",
            "A dict: tensor -> limit.",
        )
    counted = _collected()
    wanted = scales(counted, "min-max")
    missing = [name for name in wanted.scales if name not in limits]
    if missing:
        raise Wrong(
            f"{len(missing)} of {len(wanted.scales)} tensors have no limit, the first is {missing[0]!r}.",
            "Every input of a convolution, of the last product, and each skip connection gets a pair.",
            "Go through histograms.tensors.",
        )
    values = {name: float(limits[name]) for name in wanted.scales}
    wrong = [name for name, value in values.items() if not (math.isfinite(value) and value > 0)]
    if wrong:
        raise Wrong(
            f"The limit of {wrong[0]!r} is {values[wrong[0]]}.",
            "A limit is the largest magnitude that is not clipped: a number above 0.",
            "Look at this tensor's histogram.",
        )
    shares = np.array([value / wanted.amax(name) for name, value in values.items()])
    if np.median(shares) < 0.03:
        raise Wrong(
            f"Half of your limits are below {100 * np.median(shares):.1g} % of the tensor's largest value.",
            "These look like scales. A limit is 127 times as large.",
            "Return the limits; the cell below divides by 127.",
        )
    if shares.min() > 0.999 and shares.max() < 1.001:
        raise Wrong(
            "These are min-max's own limits, so nothing is gained over it.",
            "They are the largest values that were seen: nothing is clipped, and rare outliers set the step for all.",
            "Take each tensor's own histogram to your calibrator.",
        )
    gain, tested = _gain({name: value / 127 for name, value in values.items()})
    if gain.low <= 0:
        raise Wrong(
            f"On {tested} other images the answers gain {gain} dB over min-max: the interval does not lie above 0.",
            "Nearly nothing is clipped, and rare outliers set the step for all."
            if np.median(shares) > 0.97
            else "What clipping saves in some tensors, it loses in others.",
            "Take each tensor's own histogram to your calibrator.",
        )
    return f"On {tested} images that the lesson does not use, the answers gain {gain} dB over min-max."


@reference("hand-limits")
def _limits():
    best_limit = _calibrator()
    return {name: float(best_limit(one.magnitudes()[0], one.widths[0])) for name, one in _collected().tensors.items()}


@functools.cache
def _collected() -> Histograms:
    return collect(MODEL, _inputs("calibration", slice(IMAGES)), tensors_to_calibrate(MODEL), bins=2048)


def _inputs(split: str, part: slice) -> np.ndarray:
    """Images as the lesson's model takes them, float32 [N, 3, side, side]."""
    side = onnx.load(MODEL).graph.input[0].type.tensor_type.shape.dim[2].dim_value
    return preprocess.classifier(cifar10.images(split).pixels[part], side)


def _gain(found: Mapping[str, float]) -> tuple[Difference, int]:
    """SQNR of the logits in dB, more than with min-max, and over how many test images: a clear loss needs only the first."""
    answers, base = [], []
    model = quantize(MODEL, found)
    for part in range(len(TESTED)):
        answers.append(_sqnr(model, part))
        base.append(_of_min_max(part))
        gain = paired(np.concatenate(answers), np.concatenate(base))
        if gain.high < 0:
            break
    return gain, sum(map(len, answers))


@functools.cache
def _of_min_max(part: int) -> np.ndarray:
    return _sqnr(quantize(MODEL, scales(_collected(), "min-max")), part)


@functools.cache
def _exact(part: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and the float model's logits."""
    x = _inputs("public", TESTED[part])
    return x, _logits(onnx.load(MODEL), x)


def _sqnr(model: onnx.ModelProto, part: int) -> np.ndarray:
    x, exact = _exact(part)
    noise = _logits(model, x) - exact
    return 10 * np.log10((exact**2).sum(1) / (noise**2).sum(1))


def _logits(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": x[at : at + 8]})[0] for at in range(0, len(x), 8)])
