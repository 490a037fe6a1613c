"""What a placement does, as numbers: the kernels that a builder makes of it, and its time beside FP16's.

    rows = [trial("default", naive, "resnet50.onnx"), trial("mine", edited, "resnet50.onnx")]
    print(table(rows))

With TensorRT on a GPU the engine is built and timed here. On a CPU TensorRT-RTX builds it, and where the pairs stand as
in one of the placements that were timed on an H200 (docs/results/h200/int8), those numbers are quoted as recorded.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from course import bench
from course.engine import BuildConfig, Engine, Layer, Profile, available_runtimes, build, graph
from course.errors import MissingFileError
from course.paths import RESULTS
from course.quantize.network import Edge, Network
from course.quantize.pairs import Stripped, strip
from course.quantize.placement import plan
from course.text import text_table

RECORDED = RESULTS / "h200" / "int8"
VARIANTS = {"outputs": "Q/DQ default", "both": "Q/DQ both sides", "inputs": "Q/DQ inputs", "tensorrt": "Q/DQ good"}
"""Placement -> its name in the recorded results."""
LEVEL = 1
"""Builder level of the recorded engines."""
_BETWEEN = re.compile(r" \+ |, |[()]")
"""What stands between the ONNX nodes in a layer's name."""


@dataclass(frozen=True)
class Trial:
    """One model.

    pairs: on activations. placement: whose pairs these are, "" for none of `course.quantize.PLACEMENTS`.
    kernels: that TensorRT-RTX makes; roundings: activations that they round to INT8; float_gb: 10^9 bytes of float32
        that its kernels with a residual addition read and write at this batch. None where it did not build.
    layers: of TensorRT's engine; outside: residual additions that are in no convolution's layer; ms: median time;
        ratio: times as fast as FP16, with its 95 % interval. None where it did not run.
    source: "measured", "recorded" or "".
    """

    name: str
    pairs: int
    placement: str = ""
    kernels: int | None = None
    roundings: int | None = None
    float_gb: float | None = None
    layers: int | None = None
    outside: int | None = None
    ms: float | None = None
    ratio: tuple[float, float, float] | None = None
    source: str = ""

    @property
    def beats_fp16(self) -> bool | None:
        """Whether it is faster than FP16, the interval says so; None where it is not known."""
        return None if self.ratio is None else self.ratio[1] > 1


def trial(name: str, model, plain, batch: int = 64) -> Trial:
    """Build a quantised model, and time it or find its time.

    Args:
        model: with Q/DQ pairs: ONNX file, bytes or ModelProto. plain: the float32 model that it comes from.

    Raises:
        MissingFileError, ParseError, BuildError: a model cannot be read, parsed or built.
    """
    read = graph.read(model)
    stripped = strip(Network(read.proto))
    roundings = _roundings(stripped)
    known = placement_of(stripped)
    found = {"name": name, "pairs": len(roundings), "placement": known}
    runtimes = available_runtimes()
    if runtimes["tensorrt"] is None:
        return Trial(**found, **_measured(read.data, graph.read(plain).data, stripped, batch), source="measured")
    if runtimes["rtx"] is None:
        found |= _of_rtx(read.data, roundings, frozenset(_additions(stripped)), batch)
    return Trial(**found, **_quoted(known, stripped, batch))


def placement_of(model) -> str:
    """The placement of `course.quantize` that the pairs of a model stand in; "" for none.

    model: as for `trial`, or its `Stripped` form.
    """
    stripped = model if isinstance(model, Stripped) else strip(Network(graph.read(model).proto))
    for name in VARIANTS:
        wanted = plan(stripped.net, name)
        if set(stripped.pairs) == {*wanted.weights, *wanted.activations} and set(stripped.outputs) == {*wanted.outputs}:
            return name
    return ""


def recorded_layers(variant: str, batch: int = 64) -> list[dict]:
    """Layers of an engine of TensorRT 8.6.0 on an H200, as its inspector listed them.

    Args:
        variant: "FP32", "TF32", "FP16", "INT8 implicit" or one of VARIANTS' values. batch: 64, for some also 1.

    Returns: rows with "name", "kind", "precision", "inputs", "outputs" (lists of name, dtype, format) and "tactic".

    Raises:
        MissingFileError: there is no such list.
    """
    path = RECORDED / f"layers_{variant.replace(' ', '_').replace('/', '')}_b{batch}.json"
    return json.loads(_text(path))


def recorded(batch: int = 64) -> dict[str, dict]:
    """Variant -> what was measured on an H200 with TensorRT 8.6.0: "p50_ms", "times_fp16", "top1", "layers" and more.

    Raises:
        MissingFileError: the results are not there.
    """
    return json.loads(_text(RECORDED / "summary.json"))["results"].get(f"b{batch}", {})


def table(trials: Sequence[Trial]) -> str:
    """The trials under each other; columns that none of them has are left out."""
    columns = {
        "pairs": lambda one: one.pairs,
        "RTX: kernels": lambda one: one.kernels,
        "roundings": lambda one: one.roundings,
        "float at Adds, GB": lambda one: one.float_gb,
        "TensorRT: layers": lambda one: one.layers,
        "Adds outside": lambda one: one.outside,
        "ms": lambda one: one.ms,
        "x FP16": lambda one: (
            None if one.ratio is None else f"{one.ratio[0]:.2f} ({one.ratio[1]:.2f}-{one.ratio[2]:.2f})"
        ),
        "": lambda one: one.source,
    }
    kept = {head: value for head, value in columns.items() if any(value(one) not in (None, "") for one in trials)}
    return text_table(("", *kept), [(one.name, *(value(one) for value in kept.values())) for one in trials])


def _roundings(stripped: Stripped) -> frozenset[str]:
    """Names of the QuantizeLinear nodes on activations."""
    pairs = [pair for standing in (*stripped.pairs.values(), *stripped.outputs.values()) for pair in standing]
    weights = {pair.q for edge, standing in stripped.pairs.items() for pair in standing if _constant(stripped, edge)}
    return frozenset(pair.q for pair in pairs if pair.q) - weights


def _constant(stripped: Stripped, edge: Edge) -> bool:
    return stripped.net.is_constant(stripped.net.tensor(edge))


def _additions(stripped: Stripped) -> list[str]:
    """Names of the additions of two activations."""
    net = stripped.net
    return [
        net.name(index)
        for index, node in enumerate(net.nodes)
        if node.op_type == "Add" and all(net.is_activation(tensor) for tensor in node.input)
    ]


@functools.lru_cache(maxsize=16)
def _of_rtx(data: bytes, roundings: frozenset[str], additions: frozenset[str], batch: int) -> dict:
    """TensorRT-RTX's kernels. Its count does not tell placements apart; what they round and pass on does."""
    with build(data, BuildConfig(runtime="rtx", profiles=(Profile.batch(data, batch, batch, batch),))) as engine:
        kernels = engine.layers()
    passed = [
        tensor
        for kernel in kernels
        if additions & set(kernel.onnx_nodes)
        for tensor in (*kernel.inputs, *kernel.outputs)
        if tensor.dtype == "float32"
    ]
    return {
        "kernels": len(kernels),
        "roundings": sum(len(roundings & set(kernel.onnx_nodes)) for kernel in kernels),
        "float_gb": sum(4 * math.prod(tensor.shape or ()) for tensor in passed) / 1e9,
    }


def _quoted(placement: str, stripped: Stripped, batch: int) -> dict:
    try:
        row = recorded(batch).get(VARIANTS.get(placement, ""))
        listed = recorded_layers(VARIANTS[placement], batch) if row else []
    except MissingFileError:
        return {}
    if row is None:
        return {}
    nodes = [set(_BETWEEN.split(layer["name"])) for layer in listed]
    return {
        "layers": row["layers"],
        "outside": _outside(nodes, stripped),
        "ms": row["p50_ms"],
        "ratio": tuple(row["times_fp16"]),
        "source": "recorded",
    }


def _outside(layers: Sequence[set[str]], stripped: Stripped) -> int:
    """Of layers, given as sets of ONNX nodes: how many additions are in one without a convolution."""
    additions = set(_additions(stripped))
    convolutions = {stripped.net.name(i) for i, node in enumerate(stripped.net.nodes) if node.op_type == "Conv"}
    return len({node for nodes in layers if not nodes & convolutions for node in nodes & additions})


def _measured(data: bytes, plain: bytes, stripped: Stripped, batch: int) -> dict:
    """Build on the GPU and time in turns with FP16, both as CUDA graphs."""
    import torch

    engine, first = _engine(data, "int8", batch), _engine(plain, "fp16", batch)
    (spec,) = engine.inputs
    x = torch.rand((batch, *spec.shape[1:]), device="cuda")
    with torch.cuda.stream(torch.cuda.Stream()):
        runs = [one.capture({spec.name: x}).replay for one in (engine, first)]
        found = bench.compare(*runs, labels=("INT8", "FP16"), device="cuda", items=(batch, batch), rounds=100)
    layers: tuple[Layer, ...] = engine.layers()
    return {
        "layers": len(layers),
        "outside": _outside([set(layer.onnx_nodes) for layer in layers], stripped),
        "ms": found.a.p50,
        "ratio": (found.ratio, found.low, found.high),
    }


@functools.lru_cache(maxsize=8)
def _engine(data: bytes, precision: str, batch: int) -> Engine:
    profile = Profile.batch(data, batch, batch, batch)
    cache = Path("artifacts") / "timing.cache"
    return build(data, BuildConfig(precision, (profile,), optimization_level=LEVEL, timing_cache=cache))


def _text(path: Path) -> str:
    if not path.is_file():
        raise MissingFileError(
            f"{path} is not there.",
            "The recorded results lie in docs/results of the course's repository.",
            "Work in a clone of the repository.",
        )
    return path.read_text()
