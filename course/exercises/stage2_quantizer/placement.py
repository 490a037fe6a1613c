"""Lesson 03, when INT8 disappoints: functions are tried on recorded engines and on small graphs; the last model is built."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from course.exercises import Wrong, exercise, reference
from course.exercises.stage2_quantizer._graphs import (
    alone,
    block,
    broken,
    graph_faults,
    run,
    some_scales,
    standing,
    unread,
)
from course.quantize import Network, calibration_from, quantize, read_cache, trial
from course.quantize import without_pairs as pairs_off
from course.quantize.pairs import DEQUANTISE, QUANTISE, Stripped, strip
from course.quantize.placement import residual_adds

PLAIN = "artifacts/resnet50.onnx"
"""The float model that the lesson's first cells write."""
RECORDED = ("Q/DQ default", "FP16", "Q/DQ both sides", "Q/DQ inputs", "Q/DQ good")
"""Engines whose layers were recorded."""


# ---------------------------------------------------------------- 1: additions on their own


@exercise(
    "placement-outside",
    points=2,
    hints=(
        "A layer's name lists the ONNX nodes that it computes. What must stand in it, and what must not?",
        "Look for names that end in /Add in every layer whose name holds no /Conv. Layers called 'Reformatting "
        "CopyNode … to X' only carry data to X, and compute nothing of it.",
        'if "/Conv" not in layer["name"] and not layer["name"].startswith("Reformatting"): found.update('
        're.findall(r"/layer[^ ,()]*/Add", layer["name"]))',
    ),
)
def outside(outside: Callable):
    """Tried on the recorded lists, and on lists that nobody can look up: engines in which chance says what is fused."""
    counts = {}
    lists = {variant: trial.recorded_layers(variant) for variant in RECORDED}
    lists |= {
        f"{variant}, fused by chance": _otherwise_fused(trial.recorded_layers(variant)) for variant in RECORDED[:2]
    }
    for variant, layers in lists.items():
        wanted = _outside(layers)
        found = outside([dict(layer) for layer in layers])
        if isinstance(found, (int, float, type(None))):
            raise Wrong(
                f"outside() returned {found!r}.",
                "The names of the additions were asked for: with a number alone nobody finds the place.",
                'Return a set or list of names such as "/layer1/layer1.0/Add".',
            )
        found = list(found)
        if set(found) != wanted or len(found) != len(set(found)):
            raise _wrong_outside(variant, found, wanted)
        counts[variant] = len(wanted)
    return "Additions without a convolution: " + ", ".join(f"{name} {count}" for name, count in counts.items()) + "."


def _otherwise_fused(layers: Sequence[Mapping]) -> list[dict]:
    """Such a list with its blocks renamed, and half of the additions moved: into a convolution's layer, or out of it."""
    chance = random.SystemRandom()
    renamed: dict[str, str] = {}

    def rename(match: re.Match) -> str:
        return renamed.setdefault(match[0], f"/layer{chance.randrange(10**6)}/")

    made = []
    for layer in ({**layer, "name": re.sub(r"/layer\d/", rename, layer["name"])} for layer in layers):
        made.append(layer)
        add = re.search(r"/layer[^ ,()]*/Add", layer["name"])
        if add is None or layer["name"].startswith("Reformatting") or chance.random() < 0.5:
            continue
        if "/Conv" in layer["name"]:
            layer["name"] = layer["name"].replace(f" + {add[0]}", "")
            made.append({**layer, "name": f"PWN({add[0]})", "kind": "PointWiseV2"})
        else:
            layer["name"] = f"{add[0].removesuffix('Add')}conv3/Conv + {add[0]}"
    return made


def _outside(layers: Sequence[Mapping]) -> set[str]:
    """ONNX additions that a layer without a convolution computes."""
    return {
        name
        for layer in layers
        if "/Conv" not in layer["name"] and not layer["name"].startswith("Reformatting")
        for name in re.findall(r"/layer[^ ,()]*/Add", layer["name"])
    }


def _wrong_outside(variant: str, found: list, wanted: set[str]) -> Wrong:
    extra = [name for name in found if name not in wanted]
    what = f"For the engine {variant!r}, outside() finds {len(found)} additions; there are {len(wanted)}."
    if any(not re.fullmatch(r"/layer[^ ,()]*/Add", str(name)) for name in extra):
        return Wrong(
            what,
            f"{str(extra[0])[:70]!r} is no ONNX addition: a pointwise layer can be a lone ReLU, and a layer's name holds "
            "several nodes.",
            "Take the names that end in /Add out of the layer's name.",
        )
    if extra:
        return Wrong(
            what,
            f"{extra[0]} is computed in a convolution's layer.",
            "Leave out every layer whose name holds a /Conv.",
        )
    if len(found) != len(set(found)):
        return Wrong(
            what,
            "One is counted twice: 'Reformatting CopyNode … to X' only carries data to the layer X.",
            "Leave out layers whose name starts with Reformatting.",
        )
    return Wrong(
        what,
        f"{sorted(wanted - set(found))[0]} is missing. An Add and the ReLU behind it can share a layer.",
        "Look at every layer, whatever its kind.",
    )


# ---------------------------------------------------------------- 2: pairs off


@exercise(
    "placement-remove",
    points=3,
    hints=(
        "A pair is two nodes: Q reads the float tensor, DQ reads Q's result. Who reads DQ's result, and what should they "
        "read instead?",
        "First a dict from Q's output to Q's input. Then, for each DQ whose Q reads one of `tensors`: rename DQ's output to "
        "the float tensor in the inputs of all nodes, and drop both nodes. If DQ's output is an output of the graph, rename "
        "the other way round: its maker then writes that name.",
        "renamed[dq.output[0]] = tensor, or renamed[tensor] = dq.output[0] for an output of the graph; then node.input[:] "
        "= [renamed.get(name, name) for name in node.input], the same for node.output; at last del graph.node[:] and "
        "graph.node.extend(kept).",
    ),
)
def remove(without_pairs: Callable):
    """Tried on a residual block with a pair behind every operator."""
    float_model = block()
    given = quantize(float_model, some_scales(float_model), "outputs")
    everything = standing(strip(Network(given)))
    cases = {
        "the pair between a convolution and its ReLU": (["conv1_out"], {"relu1[0]"}),
        "a pair with two readers": (["relu0_out"], {"conv1[0]", "add[1]"}),
        "the pair before the graph's output": (["logits_QuantizeLinear_Input"], {"output logits"}),
        "three pairs at once": (["conv2_out", "add_out", "conv1.w"], {"add[0]", "relu2[0]", "conv1[1]"}),
    }
    for case, (tensors, leaves) in cases.items():
        before = given.SerializeToString()
        found = without_pairs(given, list(tensors))
        graph_faults(found, given, before, "without_pairs")
        if lonely := alone(found):
            raise Wrong(
                f"For {case}, {lonely[0]} is left without its other half.",
                "A Q alone hands INT8 to whoever reads it; a DQ alone has nothing to read. Both nodes must go.",
                "Remove the Q and the DQ, and turn DQ's readers to the float tensor.",
            )
        if idle := unread(found):
            raise Wrong(
                f"For {case}, {idle[0]} is still in the file, though nobody reads it.",
                "A node costs its place in the file, and a parser may keep it.",
                "Drop the Q and the DQ: del graph.node[:], then graph.node.extend(those that stay).",
                share=0.5,
            )
        stands = standing(strip(Network(found)))
        if stands != everything - leaves:
            left, lost = sorted(stands & leaves), sorted(everything - leaves - stands)
            raise Wrong(
                f"For {case}, "
                + (f"there is still a pair at {left[0]}." if left else f"the pair at {lost[0]} is gone, too."),
                "`tensors` names the float tensors whose pairs go: those that a QuantizeLinear reads."
                if left
                else "Only the pairs of these tensors were to go.",
                f"tensors was {tensors}. Compare with the inputs of the QuantizeLinear nodes.",
            )
        wanted, got = run(pairs_off(given, tensors)), run(found)
        if not np.allclose(wanted, got, atol=1e-5):
            raise Wrong(
                f"For {case}, the answers are off by {np.abs(wanted - got).max():.2g}.",
                "A reader was turned to another tensor than the one that was rounded.",
                "DQ's readers must read what Q read.",
            )
    return f"Right in {len(cases)} cases; what is left stands where it stood, and the graph still computes the same."


@reference("placement-remove")
def _reference_remove():
    return pairs_off


# ---------------------------------------------------------------- 3: a pair in


def _with_pair(model: onnx.ModelProto, name: str, slot: int, scale: float) -> onnx.ModelProto:
    """The lesson's own answer."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    place, node = next((index, node) for index, node in enumerate(graph.node) if node.name == name)
    tensor = node.input[slot]
    rounded = {one.input[0]: one.output[0] for one in graph.node if one.op_type == QUANTISE}
    for one in graph.node:
        if one.op_type == DEQUANTISE and one.input[0] == rounded.get(tensor):
            node.input[slot] = one.output[0]
            return model
    graph.initializer.append(numpy_helper.from_array(np.float32(scale), f"{tensor}_scale"))
    graph.initializer.append(numpy_helper.from_array(np.int8(0), f"{tensor}_zero"))
    constants = [f"{tensor}_scale", f"{tensor}_zero"]
    q = helper.make_node(QUANTISE, [tensor, *constants], [f"{tensor}_q"], f"{tensor}_Q")
    dq = helper.make_node(DEQUANTISE, [f"{tensor}_q", *constants], [f"{tensor}_dq"], f"{tensor}_DQ")
    node.input[slot] = f"{tensor}_dq"
    graph.node.insert(place, q)
    graph.node.insert(place + 1, dq)
    return model


@exercise(
    "placement-add",
    points=3,
    hints=(
        "Which two nodes are new, what do they read, and where in the list must they stand?",
        "helper.make_node('QuantizeLinear', [tensor, scale, zero], …) and a DequantizeLinear with the same scale and zero "
        "point; both constants are initializers, the zero point is np.int8(0). Only the input `slot` of this node changes. "
        "If the tensor already has a pair, read that DQ.",
        "graph.initializer.append(numpy_helper.from_array(np.float32(scale), tensor + '_scale')); the same with np.int8(0) "
        "for the zero point; graph.node.insert(place, q); graph.node.insert(place + 1, dq); node.input[slot] = "
        "dq.output[0].",
    ),
)
def add(with_pair: Callable):
    """Tried on a residual block, with and without pairs."""
    plain = block(1)
    _judge_pair(with_pair, plain, "add", 1, 0.05, {"add[1]"}, "the skip side of an Add that nobody else quantises")
    given = quantize(plain, some_scales(plain), "inputs")
    stands = standing(strip(Network(given)))
    _judge_pair(with_pair, given, "add", 1, 0.023, stands | {"add[1]"}, "a tensor that has a pair already")
    return "A pair where it was asked for, int8 with zero point 0; one that was there is used again."


def _judge_pair(
    with_pair: Callable, given: onnx.ModelProto, name: str, slot: int, scale: float, wanted: set[str], case: str
) -> None:
    before = given.SerializeToString()
    found = with_pair(given, name, slot, scale)
    graph_faults(found, given, before, "with_pair")
    if lonely := alone(found):
        raise Wrong(
            f"For {case}, {lonely[0] or 'a node'} is left without its other half.",
            "TensorRT reads Q and DQ together: Q rounds to INT8, DQ says what the integers are worth.",
            "Make both nodes.",
        )
    stripped = strip(Network(found))
    stands = standing(stripped)
    if stands != wanted:
        extra, missing = sorted(stands - wanted), sorted(wanted - stands)
        raise Wrong(
            f"For {case}, "
            + (f"there is a pair at {extra[0]}, too." if extra else f"there is no pair at {missing[0]}."),
            "Every reader of the tensor was turned to the pair." if extra else "The node still reads the float tensor.",
            f"Change the one input: node.input[{slot}] of {name}.",
        )
    pair = next(
        pairs[-1]
        for edge, pairs in stripped.pairs.items()
        if f"{stripped.net.name(edge.index)}[{edge.slot}]" == f"{name}[{slot}]"
    )
    if pair.dtype != TensorProto.INT8:
        kind = "no zero point, so ONNX takes uint8" if pair.zero_point is None else "a zero point of another type"
        raise Wrong(
            f"For {case}, the pair's integers are not int8.",
            f"It has {kind}; TensorRT quantises to int8, symmetrically.",
            "Give both nodes the zero point np.int8(0) as third input.",
        )
    if len(strip(Network(given)).pairs) == 0 and not np.isclose(float(pair.scale), scale):
        raise Wrong(
            f"For {case}, the scale is {float(pair.scale):.4g}; {scale} was asked for.",
            "The scale is what one step of the integers is worth.",
            "Pass `scale` on as np.float32(scale).",
        )
    tensor = next(node for node in given.graph.node if node.name == name).input[slot]
    if sum(node.op_type == QUANTISE and node.input[0] == tensor for node in found.graph.node) > 1:
        raise Wrong(
            "The skip's tensor now has two pairs.",
            "conv1 reads it through a pair already; a second one rounds the same values again, in a kernel or a copy of "
            "its own.",
            "Look for a QuantizeLinear that reads the tensor; if there is one, let the node read that pair's DQ.",
            share=0.5,
        )
    if not np.allclose(run(found), run(_with_pair(given, name, slot, scale)), atol=1e-5):
        raise Wrong(
            f"For {case}, the answers are not those of this pair.",
            "Perhaps Q and DQ have different scales, or read another tensor.",
            "Give both nodes the same two constants.",
        )


@reference("placement-add")
def _reference_add():
    return _with_pair


# ---------------------------------------------------------------- 4: the best placement


@exercise(
    "placement-best",
    points=4,
    hints=(
        "The figure shows what is missing in each case: where does an Add stay outside, and where does the skip travel "
        "as float?",
        "Each Add wants one input free (from the convolution that it joins) and one through a pair (the skip). Start "
        "from `both` and take pairs off, or start from `inputs` and put pairs in.",
        'best = without_pairs(both, [node.output[0] for node in plain.graph.node if node.name.endswith("conv3/Conv")])',
    ),
)
def best(best: onnx.ModelProto):
    """Built, looked into, and compared with FP16 where there is a time."""
    if not isinstance(best, onnx.ModelProto):
        raise Wrong(f"`best` is {type(best).__name__}.", "A quantised model was asked for.", "best = without_pairs(…)")
    try:
        onnx.checker.check_model(best)
    except Exception as error:
        raise broken(best, str(error)) from None
    stripped = strip(Network(best))
    net = stripped.net
    convs = [index for index, node in enumerate(net.nodes) if node.op_type == "Conv"]
    int8 = {edge.index for edge in stripped.pairs if edge.slot == 0} & {
        edge.index for edge in stripped.pairs if edge.slot == 1
    }
    if missing := [net.name(index) for index in convs if index not in int8]:
        raise Wrong(
            f"{len(missing)} of {len(convs)} convolutions are not in INT8, such as {missing[0]}.",
            "A convolution runs in INT8 only if its input and its weights come through pairs.",
            "Leave the pairs on inputs of convolutions where they are.",
        )
    adds = list(residual_adds(net, set(convs)))
    through = {index: [slot for slot in (0, 1) if (index, slot) in _places(stripped)] for index in adds}
    both = [net.name(index) for index, slots in through.items() if len(slots) == 2]
    none = [net.name(index) for index, slots in through.items() if not slots]
    wrong_side = [
        net.name(index) for index, slots in through.items() if len(slots) == 1 and _free_is_no_conv(net, index, slots)
    ]
    share = sum(len(slots) == 1 and not _free_is_no_conv(net, index, slots) for index, slots in through.items()) / len(
        adds
    )
    measured = trial.trial("yours", best, PLAIN)
    told = f" {_told(measured)}"
    if both:
        raise Wrong(
            f"{len(both)} additions have a pair on both sides, such as {both[0]}.{told}",
            "The pair behind the convolution asks for its result in INT8, so its kernel ends there.",
            "Take the pair off the convolution's side of each Add.",
            share=share,
        )
    if wrong_side:
        raise Wrong(
            f"{len(wrong_side)} additions have the pair on the convolution's side, such as {wrong_side[0]}.{told}",
            "The skip comes in float, and the convolution ends before the addition all the same.",
            "Change sides: the skip through a pair, the convolution's result free.",
            share=share,
        )
    if none:
        raise Wrong(
            f"{len(none)} additions have no pair, such as {none[0]}.{told}",
            "They join their convolutions, but the skip travels as float: twice or four times the bytes, and it is "
            "rounded once more for the next block.",
            "Put a pair on the skip side of each Add.",
            share=share,
        )
    extra = len([1 for edge in stripped.pairs if net.nodes[edge.index].op_type not in ("Conv", "Add")])
    extra += len(stripped.outputs)
    if extra:
        raise Wrong(
            f"Everything at the additions is right, but {extra} more pairs stand elsewhere.{told}",
            "A pair before a ReLU or a pooling rounds once more than needed.",
            "Leave only pairs in front of Conv and Add.",
            share=0.75,
        )
    if measured.source == "measured" and not measured.beats_fp16:
        raise Wrong(
            f"The placement is right, but on this GPU it does not beat FP16.{told}",
            "Another GPU or another TensorRT may gain less from INT8.",
            "Close other programs on the GPU and run the cell again.",
            share=0.75,
        )
    return f"All {len(adds)} additions join their convolutions, and the skip travels as INT8.{told}"


def _places(stripped: Stripped) -> set[tuple[int, int]]:
    return {(edge.index, edge.slot) for edge in stripped.pairs}


def _free_is_no_conv(net: Network, add: int, slots: list[int]) -> bool:
    """Whether the free side of an addition is no convolution's own result, so that nothing can take the Add in."""
    free = net.nodes[add].input[1 - slots[0]]
    maker = net.maker(free)
    return maker is None or maker.op_type != "Conv"


def _told(measured: trial.Trial) -> str:
    """What the build showed, in a sentence."""
    words = []
    if measured.roundings is not None:
        words.append(f"TensorRT-RTX's kernels round {measured.roundings} times")
        words.append(f"and pass {measured.float_gb:.2f} GB of float at the additions")
    text = " ".join(words) + "." if words else ""
    if measured.ratio is not None:
        text += f" {measured.source.capitalize()}: {measured.ratio[0]:.2f} times as fast as FP16."
    return text.strip()


@reference("placement-best")
def _reference_best():
    scales = calibration_from(read_cache(trial.RECORDED / "implicit_b64.calibration"))
    return quantize(PLAIN, scales, "tensorrt")
