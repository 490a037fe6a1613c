"""Lesson 04, when INT8 is wrong: the learner's models are run on scenes; settings are read off TensorRT's own objects."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from course import detection
from course.data.scenes import Scene
from course.exercises import Wrong, exercise, reference
from course.quantize import (
    Calibration,
    LayerNoise,
    calibrate,
    layer_noise,
    quantize,
    sqnr_db,
    tensorrt_here,
    without_pairs,
)
from course.quantize.pairs import DEQUANTISE, QUANTISE

DETECTOR, SCALES = "artifacts/detector.onnx", "artifacts/detector.scales.json"
"""The float detector and its scales, which the lesson's first cells write."""
CALIBRATION, TEST = range(50_000, 50_008), range(90_500, 90_508)
"""Seeds of scenes: for the scales, and for judging. The lesson itself looks at others."""
MOST_KEPT, WANTED_DB = 6, 6.0
"""Layers that may stay in float, and what that must gain: 6 dB are half the error."""


@functools.cache
def _scales() -> Mapping[str, float]:
    """Min-max scales of every activation: the lesson's, else made here."""
    if Path(SCALES).is_file():
        return Calibration.load(SCALES).scales
    return calibrate(DETECTOR, detection.frames(detection.compose(CALIBRATION)), "min-max").scales


@functools.cache
def _naive() -> onnx.ModelProto:
    return quantize(DETECTOR, _scales(), "outputs")


@functools.cache
def _scenes() -> list[Scene]:
    return detection.compose(TEST)


@functools.cache
def _exact() -> np.ndarray:
    """The float detector's answers on the test scenes."""
    return detection.answers(DETECTOR, _scenes())


# ---------------------------------------------------------------- 1: levels that are left


def levels_of(model: onnx.ModelProto, largest: Mapping[str, float]) -> dict[str, dict[str, int]]:
    """The lesson's own answer."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    q = {node.input[0]: node for node in model.graph.node if node.op_type == QUANTISE}
    rounded = {node.output[0]: tensor for tensor, node in q.items()}
    behind = {node.output[0]: rounded[node.input[0]] for node in model.graph.node if node.op_type == DEQUANTISE}
    found = {}
    for node in model.graph.node:
        if node.op_type == "Concat" and node.output[0] in q:
            scale = float(numpy_helper.to_array(constants[q[node.output[0]].input[1]]))
            tensors = [behind.get(name, name) for name in node.input]
            found[node.name] = {tensor: round(largest[tensor] / scale) for tensor in tensors}
    return found


def _joined_twice() -> tuple[onnx.ModelProto, dict[str, float]]:
    """Two Concats: one whose result has a pair, fed by a pair and by a plain tensor; one without a pair."""
    one = helper.make_tensor_value_info
    nodes = [
        helper.make_node(QUANTISE, ["wide", "s1", "z"], ["wide_q"], "wide_Q"),
        helper.make_node(DEQUANTISE, ["wide_q", "s1", "z"], ["wide_dq"], "wide_DQ"),
        helper.make_node("Concat", ["wide_dq", "narrow"], ["both"], "first", axis=1),
        helper.make_node(QUANTISE, ["both", "s2", "z"], ["both_q"], "both_Q"),
        helper.make_node(DEQUANTISE, ["both_q", "s2", "z"], ["both_dq"], "both_DQ"),
        helper.make_node("Concat", ["both_dq", "narrow"], ["end"], "second", axis=1),
    ]
    constants = [
        numpy_helper.from_array(np.float32(0.25), "s1"),
        numpy_helper.from_array(np.float32(0.5), "s2"),
        numpy_helper.from_array(np.int8(0), "z"),
    ]
    ends = [one(name, TensorProto.FLOAT, [1, 4]) for name in ("wide", "narrow")]
    graph = helper.make_graph(nodes, "joined", ends, [one("end", TensorProto.FLOAT, [1, 12])], constants)
    return helper.make_model(graph), {"wide": 31.0, "narrow": 2.6, "both": 31.0}


@exercise(
    "accuracy-levels",
    points=3,
    hints=(
        "Which node rounds the Concat's result, and where does it keep its scale?",
        "A QuantizeLinear reads the Concat's output; its second input names an initializer. The Concat's own inputs are "
        "mostly results of DQ nodes: go back through DQ and Q to the float tensor's name, which `largest` knows.",
        "scale = float(numpy_helper.to_array(constants[q.input[1]])); found[node.name] = {tensor: round(largest[tensor] / "
        "scale) for tensor in tensors}",
    ),
)
def levels(levels: Callable):
    """Tried on a small graph and on the detector with the default placement."""
    model, largest = _joined_twice()
    cases = [("a small graph", model, largest)]
    cases.append(("the detector", _naive(), {tensor: 127 * scale for tensor, scale in _scales().items()}))
    for case, model, largest in cases:
        renamed = {**largest, "detections_QuantizeLinear_Input": largest.get("detections", 0.0)}
        wanted, found = levels_of(model, renamed), levels(model, renamed)
        if not isinstance(found, Mapping) or not all(isinstance(value, Mapping) for value in found.values()):
            raise Wrong(
                f"levels() returned {type(found).__name__}.",
                "For each Concat a dict was asked for: input tensor -> levels.",
                'Return {"join": {"boxes": 127, "scores": 0}, …}.',
            )
        _compare_levels(case, found, wanted, renamed)
    lost = {name: row for name, row in wanted.items() if min(row.values()) <= 4}
    return f"{len(wanted)} Concats of the detector share a scale. With at most 4 levels for an input: {lost}."


def _compare_levels(case: str, found: Mapping, wanted: Mapping, largest: Mapping) -> None:
    if extra := [name for name in found if name not in wanted]:
        raise Wrong(
            f"For {case}, {extra[0]} is listed.",
            "Nobody rounds its result: it has no scale that its inputs could share.",
            "List a Concat only if a QuantizeLinear reads its output.",
        )
    for name, row in wanted.items():
        mine = found.get(name)
        if mine is None:
            raise Wrong(
                f"For {case}, {name} is missing.",
                "A QuantizeLinear reads its result.",
                "Go through all nodes with op_type Concat.",
            )
        if set(mine) != set(row):
            strange = sorted(set(mine) - set(row)) or sorted(set(row) - set(mine))
            raise Wrong(
                f"For {case}, the inputs of {name} are {', '.join(sorted(row))}; you list {', '.join(sorted(mine))}.",
                f"{strange[0]!r}: a Concat mostly reads a DQ's result; the float tensor is what its Q reads.",
                "Go back from the DQ's input to the Q that makes it, and take that Q's first input.",
            )
        for tensor, value in row.items():
            if abs(float(mine[tensor]) - value) > 0.51:
                own = value != 127 and abs(float(mine[tensor]) - 127) < 2
                raise Wrong(
                    f"For {case}, {tensor} has {value} levels in {name}; you find {float(mine[tensor]):.4g}.",
                    "That is its range in steps of its own scale. Behind the Concat it is rounded with the Concat's."
                    if own
                    else "A level is one step: the largest magnitude divided by the scale of the Concat's result.",
                    "Read the scale of the QuantizeLinear behind the Concat.",
                )


@reference("accuracy-levels")
def _reference_levels():
    return levels_of


# ---------------------------------------------------------------- 2: pairs off the decoding


@exercise(
    "accuracy-off",
    points=4,
    hints=(
        "Taking the last pair off brings scores back. Which other tensors behind the last convolutions mix ranges, or need "
        "more than 127 steps?",
        "Nothing behind the heads' last convolutions runs in INT8 with profit. Start with their outputs and walk forward: "
        "whatever reads a marked tensor makes marked tensors.",
        "off = set(heads); for node in plain.graph.node: if off & set(node.input): off |= set(node.output). Add "
        "'detections_QuantizeLinear_Input', the name of the last float tensor in the file with pairs.",
    ),
)
def off(off: Collection[str]):
    """The model without these pairs is run on eight scenes that the lesson did not show."""
    if isinstance(off, str) or not isinstance(off, Collection):
        raise Wrong(f"`off` is {type(off).__name__}.", "Names of tensors were asked for.", "off = [name, …]")
    naive = _naive()
    paired = {node.input[0] for node in naive.graph.node if node.op_type == QUANTISE}
    taken = set(off) & paired
    if not taken:
        raise Wrong(
            "No pair is taken off.",
            f"None of the {len(off)} names is a tensor that a QuantizeLinear reads.",
            "Names of float tensors: those that the QuantizeLinear nodes have as first input.",
        )
    model = without_pairs(naive, taken)
    lost = _in_float(model)
    if lost:
        raise Wrong(
            f"{len(lost)} convolutions do not run in INT8 any more, such as {lost[0]}.",
            "Their input or weights have no pair now; INT8 pays in convolutions.",
            "Take pairs off behind the last convolutions only.",
        )
    found = detection.accuracy("yours", model, _exact(), _scenes())
    exact = detection.accuracy("float", DETECTOR, _exact(), _scenes()).map50_95
    told = f"{len(taken)} pairs off: mAP {100 * found.map50_95:.1f} % of {100 * exact:.1f} %"
    if found.highest == 0:
        raise Wrong(
            f"{told}; every score is still 0.",
            "Boxes up to hundreds of pixels and scores up to 1 share one scale in the last Concat.",
            "Begin with the tensor that the Concat named join makes.",
        )
    share = float(np.clip(found.map50_95 / exact / 0.95, 0, 1))
    if share < 1:
        raise Wrong(
            f"{told}: the scores are back, and more is lost than need be.",
            "Other tensors of the decoding are still rounded to 127 steps: positions in pixels, bins of distances, Concats "
            "of box and class logits.",
            "Walk from the last convolutions to the end; take all pairs off there.",
            share=round(share / 2, 2),
        )
    return f"{told}, and all convolutions run in INT8."


def _in_float(model: onnx.ModelProto) -> list[str]:
    """Convolutions whose input or weights come without a pair."""
    behind = {node.output[0] for node in model.graph.node if node.op_type == DEQUANTISE}
    return [node.name for node in model.graph.node if node.op_type == "Conv" and not {*node.input[:2]} <= behind]


def decoding(naive: onnx.ModelProto) -> set[str]:
    """Tensors with a pair behind the heads' last convolutions: the lesson's own answer."""
    plain = onnx.load(DETECTOR)
    marked = {n.output[0] for n in plain.graph.node if n.op_type == "Conv" and n.name.endswith(".2/Conv")}
    for node in plain.graph.node:
        if marked & set(node.input):
            marked |= set(node.output)
    marked.add(f"{detection.JOINED}_QuantizeLinear_Input")
    return marked & {node.input[0] for node in naive.graph.node if node.op_type == QUANTISE}


@reference("accuracy-off")
def _reference_off():
    return decoding(_naive())


# ---------------------------------------------------------------- 3: precisions through the API


@exercise(
    "accuracy-obey",
    points=3,
    hints=(
        "TensorRT has three places for it: the layer's precision, a flag that allows the type, and a flag that makes the "
        "wish an order.",
        "for index in range(network.num_layers): layer = network.get_layer(index). layer.name is the ONNX node's name. "
        "layer.precision = trt.float16; the flags belong to the config.",
        "config.set_flag(trt.BuilderFlag.FP16); config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS); and for the "
        "layers in `nodes` layer.precision = trt.float16 and layer.set_output_type(0, trt.float16).",
    ),
)
def obey(keep_in_fp16: Callable):
    """Called with TensorRT's own network and config, or the stand-in's; what it set is read back."""
    trt = tensorrt_here(tell=False, needs="IInt8EntropyCalibrator2")
    network, config, held = _network(trt)
    names = [network.get_layer(index).name for index in range(network.num_layers)]
    wanted = [name for name in names if name.endswith("/Conv")][2:5]
    before = _precisions(network)  # TensorRT's parser sets some itself: its Shape layers compute with integers
    keep_in_fp16(trt, network, config, list(wanted))
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    changed = {name: kind for name, kind in _precisions(network).items() if before.get(name) != kind}
    half = {name for name, kind in changed.items() if kind == trt.float16}
    other = set(changed) - half
    del held
    if other:
        raise Wrong(
            f"{sorted(other)[0]} has another precision than FP16.",
            "FP16 was asked for.",
            "layer.precision = trt.float16",
        )
    if missing := [name for name in wanted if name not in half]:
        raise Wrong(
            f"{missing[0]} may still run in INT8.",
            "Its precision was not set: allowing FP16 is not asking for it.",
            "Find the layer by its name, then layer.precision = trt.float16.",
        )
    if extra := sorted(half - set(wanted)):
        raise Wrong(
            f"{len(extra)} more layers are kept in FP16, such as {extra[0]}.",
            "Every layer in FP16 costs speed; only those in `nodes` were to be kept.",
            "Compare whole names: layer.name in nodes.",
        )
    if not config.get_flag(trt.BuilderFlag.FP16):
        raise Wrong(
            "FP16 is not allowed in this build.",
            "Without the flag FP16, the builder has INT8 and FP32 to choose from.",
            "config.set_flag(trt.BuilderFlag.FP16)",
            share=0.5,
        )
    if not config.get_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS):
        raise Wrong(
            "The precisions are set, and the builder may ignore them.",
            "layer.precision alone is a wish: the builder weighs it against speed. PREFER_PRECISION_CONSTRAINTS keeps to it "
            "where it can, OBEY_PRECISION_CONSTRAINTS keeps to it or fails.",
            "config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)",
            share=0.5,
        )
    return f"{len(wanted)} layers of {len(layers)} in FP16, and TensorRT must keep to it. (Asked: TensorRT {trt.__version__}.)"


def _precisions(network) -> dict[str, object]:
    """Layer -> its precision, of those that have one set."""
    layers = (network.get_layer(index) for index in range(network.num_layers))
    return {layer.name: layer.precision for layer in layers if layer.precision_is_set}


def _network(trt):
    """The float detector, parsed, with an INT8 config; the third is what must stay alive meanwhile."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    parser = trt.OnnxParser(network, logger)
    parser.parse(onnx.load(DETECTOR).SerializeToString())
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.INT8)
    return network, config, (builder, parser)


def obeying(trt, network, config, nodes: Collection[str]) -> None:
    """The lesson's own answer."""
    config.set_flag(trt.BuilderFlag.FP16)
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.name in nodes:
            layer.precision = trt.float16
            layer.set_output_type(0, trt.float16)


@reference("accuracy-obey")
def _reference_obey():
    return obeying


# ---------------------------------------------------------------- 4: the guilty layers


@exercise(
    "accuracy-kept",
    points=3,
    hints=(
        "A layer can have much noise at its output because it made it, or because it was handed it. Which one helps when it "
        "goes back to float?",
        "Sort by `alone`, the smallest first: a small SQNR is much noise of its own.",
        "kept = [layer.node for layer in sorted(noise, key=lambda layer: layer.alone)[:6]]",
    ),
)
def kept(kept: Sequence[str]):
    """The detector with these layers in float is run on eight scenes that the lesson did not show."""
    if isinstance(kept, str) or not isinstance(kept, Collection):
        raise Wrong(f"`kept` is {type(kept).__name__}.", "Names of layers were asked for.", "kept = [layer.node, …]")
    convs = {node.name for node in onnx.load(DETECTOR).graph.node if node.op_type == "Conv"}
    if strange := [name for name in kept if name not in convs]:
        raise Wrong(
            f"{strange[0]!r} is no convolution of the detector.",
            f"It has {len(convs)}.",
            "Take names from layer.node.",
        )
    if len(set(kept)) > MOST_KEPT:
        raise Wrong(
            f"{len(set(kept))} layers are kept in float.",
            f"All {len(convs)} would be right, too, and as slow as before: at most {MOST_KEPT}.",
            "Choose those that bring most.",
        )
    before, after = (
        sqnr_db(detection.halves(_exact())[0], detection.halves(detection.answers(model, _scenes()))[0])
        for model in (quantize(DETECTOR, _scales()), quantize(DETECTOR, _scales(), exclude=kept))
    )
    gain = after - before
    told = f"{len(set(kept))} of {len(convs)} layers in float: boxes {before:.1f} dB -> {after:.1f} dB"
    if gain < WANTED_DB:
        cause = "These layers carry noise that others made; what they add themselves is little."
        if gain > 1:
            cause = "Some of them add noise of their own, but others add more."
        raise Wrong(
            f"{told}, a gain of {gain:.1f} dB of {WANTED_DB:g}.",
            cause,
            "Compare `alone` with `gathered` in the figure.",
            share=round(max(0.0, gain) / WANTED_DB, 2),
        )
    return f"{told}: {10 ** (gain / 20):.1f} times less error."


def guiltiest(noise: Sequence[LayerNoise]) -> list[str]:
    """The course's answer: the layers whose own noise is the largest, as many as may stay in float."""
    return [layer.node for layer in sorted(noise, key=operator.attrgetter("alone"))[:MOST_KEPT]]


@reference("accuracy-kept")
def _reference_kept():
    noise = layer_noise(DETECTOR, _scales(), detection.frames(detection.compose(CALIBRATION)[:4]))
    return guiltiest(noise)
