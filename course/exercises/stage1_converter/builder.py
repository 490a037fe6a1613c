"""Checks of lesson 05, what the builder does."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from course import bench
from course.engine import BuildConfig, Profile, available_runtimes, build, network_layers
from course.engine.base import Engine
from course.engine.container import Header
from course.engine.types import Layer, TensorInfo
from course.exercises import Wrong, exercise, reference
from course.profiling.steps import Step, Tensor, most_live
from course.text import number

MOST_KEPT = 20
"""ResNet-50 has 20 convolutions whose result goes into an addition: two in each of the 4 blocks that change size."""


@exercise(
    "fusion-hidden",
    points=3,
    hints=(
        "Fusion pays because a tensor need not be written to memory. When is that so? Think of who reads it.",
        "Make a dict from ONNX node to the number of its layer (each layer has onnx_nodes), and one from tensor to the "
        "nodes "
        "that read it.",
        "A tensor is hidden if it has readers, and the node that makes it and all nodes that read it are in one layer.",
    ),
)
def fusion_hidden(hidden: Callable):
    """`hidden(nodes, layers)` is tried on small graphs that are made here."""
    one = _graph([("a", "Conv", "x", "t"), ("b", "Relu", "t", "y")])
    _expect(hidden, one, [("a", "b")], {"t"}, "a Conv and a Relu in one layer")
    _expect(
        hidden,
        one,
        [("a",), ("b",)],
        set(),
        "a Conv and a Relu in two layers",
        "A tensor between two layers is written to memory by one and read by the other.",
    )
    fork = _graph([("a", "Conv", "x", "t"), ("b", "Relu", "t", "r"), ("c", "Conv", "t", "y")])
    _expect(
        hidden,
        fork,
        [("a", "b"), ("c",)],
        set(),
        "a tensor with two readers, one of them in another layer",
        "One reader outside is enough: the tensor must be in memory for it.",
    )
    block = _graph(
        [
            ("a", "Conv", "x", "t"),
            ("b", "Add", "t,x", "s"),
            ("c", "Relu", "s", "u"),
            ("d", "Conv", "u", "v"),
            ("e", "Relu", "v", "y"),
        ]
    )
    _expect(
        hidden,
        block,
        [("a", "b", "c"), ("d", "e")],
        {"t", "s", "v"},
        "a residual block in two layers",
        "Within a layer every tensor is hidden, also one between the second and the third node; u goes from layer "
        "to layer.",
    )
    return "Right on four graphs: a tensor is hidden if its maker and all its readers are in one layer."


def _graph(rows: Sequence[tuple[str, str, str, str]]) -> list[Layer]:
    def tensors(names: str) -> tuple[TensorInfo, ...]:
        return tuple(TensorInfo(name, "float32", (1, 8, 4, 4)) for name in names.split(","))

    return [Layer(name, kind, tensors(inputs), tensors(outputs), (name,)) for name, kind, inputs, outputs in rows]


def _expect(
    hidden: Callable, nodes: list[Layer], groups: list[tuple[str, ...]], wanted: set[str], case: str, cause: str = ""
) -> None:
    layers = [Layer("+".join(group), "fused", onnx_nodes=tuple(group)) for group in groups]
    result = hidden(nodes, layers)
    if result is None or isinstance(result, (int, float)):
        raise Wrong(
            f"hidden() returned {result!r}.",
            'It must return the names of the tensors, such as {"t"}.',
            "End the function with return and a set or list of names.",
        )
    names = {getattr(item, "name", item) for item in result}
    if names == wanted:
        return
    extra, missing = sorted(names - wanted), sorted(wanted - names)
    found = f"too many: {', '.join(extra)}" if extra else f"missing: {', '.join(missing)}"
    nodes_text = ", ".join(f"{n.kind}({', '.join(t.name for t in n.inputs)}) -> {n.outputs[0].name}" for n in nodes)
    if "y" in extra:
        cause = "y is the network's output: it has no reader at all, and must be written all the same."
    raise Wrong(
        f"For {case}, hidden() gives {sorted(names)}; {found}.",
        cause or "A tensor that only one layer makes and reads is never written to memory.",
        f"The graph was {nodes_text}, the layers {', '.join('+'.join(g) for g in groups)}. Go through it by hand.",
    )


@exercise(
    "fusion-break",
    points=3,
    hints=(
        "Which tensor lies between a convolution and the addition? Look at the inputs of the Add nodes.",
        "An Add has two inputs. In 4 of the 16 blocks both come from a convolution: conv3 and downsample.",
        "Make a dict from tensor to the node that makes it. Keep each input of an Add whose maker is a Conv: 20 names.",
    ),
)
def fusion_break(nodes: tuple[Layer, ...], broken: Engine):
    kinds = {node.name: node.kind for node in nodes}
    made = {tensor.name for node in nodes for tensor in node.outputs}
    used = {tensor.name for node in nodes for tensor in node.inputs}
    kept = [spec.name for spec in broken.outputs if spec.name in made & used]
    together = [layer for layer in broken.layers() if {"Conv", "Add"} <= {kinds.get(name) for name in layer.onnx_nodes}]
    if not kept:
        raise Wrong(
            "Not written yet: the engine returns nothing but its usual output.",
            "No inner tensor was kept, so nothing is broken.",
            "Put names of tensors into `keep`, such as the first output of a Conv node.",
        )
    if len(kept) > MOST_KEPT:
        raise Wrong(
            f"{len(kept)} tensors are kept.",
            f"{MOST_KEPT} are enough to part every addition from its "
            "convolutions; more would break other fusions as well, and blur what we measure.",
            "Keep only tensors that go from a Conv into an Add.",
        )
    if together:
        one = ", ".join(together[0].onnx_nodes)
        after = {tensor.name for node in nodes if node.kind == "Add" for tensor in node.inputs}
        useless = [name for name in kept if name not in after]
        cause = (
            f"{len(useless)} of your tensors do not go into an addition, such as {useless[0]}."
            if useless
            else "Where a block has two convolutions before its addition, the builder fuses the other "
            "one when you keep the first."
        )
        raise Wrong(
            f"In {len(together)} layers an addition is still fused with a convolution, such as {one}.",
            cause,
            "Keep every tensor that goes from a Conv into an Add.",
            share=0.5 if not useless and len(together) <= 4 else 0.0,
        )
    return (
        f"No addition shares a layer with a convolution any more: {len(broken.layers())} layers, {len(kept)} kept "
        "tensors."
    )


@exercise(
    "memory-lifetimes",
    points=2,
    hints=(
        "When must a tensor exist for the first time, and when for the last?",
        "Go through the steps with enumerate. A tensor's first step is the one that has it in `writes`.",
        "On each read, overwrite the last step with the present number; a tensor that nobody reads ends where it began.",
    ),
)
def memory_lifetimes(lifetimes: Callable[..., list[Tensor]]):
    steps = [Step("a", (), ("t",)), Step("b", ("t",), ("u",)), Step("c", ("u",), ("v",)), Step("d", ("t", "v"), ("w",))]
    sizes = {"t": 400, "u": 100, "v": 300, "w": 200}
    wanted = {"t": (400, 0, 3), "u": (100, 1, 2), "v": (300, 2, 3), "w": (200, 3, 3)}
    result = {tensor.name: (tensor.size, tensor.first, tensor.last) for tensor in lifetimes(steps, sizes)}
    for name, right in wanted.items():
        if name not in result:
            raise Wrong(
                f"lifetimes() has no tensor {name!r}.",
                "Every tensor in some step's `writes` has a lifetime, also one that no step reads.",
                "Make a Tensor for each of them.",
            )
        if result[name] != right:
            cause = (
                "It is read in steps 1 and 3: it must live until the last reader."
                if name == "t"
                else f"It is written in step {right[1]} and last read in step {right[2]}; steps are inclusive."
            )
            size, first, last = result[name]
            raise Wrong(
                f"Tensor {name!r} has size {size}, steps {first} to {last}.",
                cause,
                f"It should be {right[0]} bytes, steps {right[1]} to {right[2]}.",
            )
    if len(result) != len(wanted):
        raise Wrong(
            f"lifetimes() gives {len(result)} tensors for 4.",
            f"They are {', '.join(result)}.",
            "Only tensors that a step writes need a place.",
        )
    return "Right: written in its first step, alive until its last reader is done."


@exercise(
    "memory-plan",
    points=4,
    hints=(
        "Two tensors may lie at the same address if they are never alive in the same step. Which one do you place first?",
        "Take the tensors from the largest to the smallest. For each, look only at the placed ones that are alive at the "
        "same "
        "time.",
        "Sort those by address and walk up: start at 0, and whenever the gap to the next one is too small, go on at its "
        "end.",
    ),
)
def memory_plan(plan: Callable[..., Mapping[str, int]], tensors: list[Tensor]):
    """`plan(tensors)` returns name -> address; tried on ResNet-50 and on 20 random sets."""
    rng = np.random.default_rng()
    ratios = []
    for case in range(20):
        drawn = []
        for index in range(int(rng.integers(4, 25))):
            first = int(rng.integers(0, 20))
            drawn.append(Tensor(f"t{index}", int(rng.integers(1, 50)) * 256, first, first + int(rng.integers(0, 6))))
        ratios.append(_peak(plan, drawn, f"random set {case + 1} of 20") / most_live(drawn))
    peak, bound, total = _peak(plan, tensors, "ResNet-50"), most_live(tensors), sum(t.size for t in tensors)
    if peak > 0.9 * total:
        raise Wrong(
            f"Your plan for ResNet-50 needs {number(peak / 1e6)} MB, all tensors together have "
            f"{number(total / 1e6)} MB.",
            "Hardly any memory is used twice.",
            "Let tensors that are never alive in the same step share addresses.",
        )
    # On average, since the worst of 20 is a matter of luck. Of 200 draws a pool of buffers needed 1.09 to 1.31 times what is
    # alive, a stack that is emptied when nothing lives 1.51 to 2.35.
    usual = float(np.mean(ratios))
    if peak > 1.5 * bound or usual > 1.5:
        raise Wrong(
            f"Your plan for ResNet-50 needs {number(peak / 1e6)} MB; {number(bound / 1e6)} MB are alive at once.",
            f"It leaves gaps unused: on random sets it needs {usual:.2f} times what is alive at once, on average.",
            "Place each tensor at the lowest address where it fits, large ones first.",
            share=0.5,
        )
    return (
        f"No two living tensors overlap. ResNet-50: {number(peak / 1e6)} MB, {peak / bound:.2f} times what is "
        f"alive at "
        f"once, instead of {number(total / 1e6)} MB."
    )


def _peak(plan: Callable[..., Mapping[str, int]], tensors: list[Tensor], case: str) -> int:
    """Highest address in use.

    Raises: Wrong: two tensors overlap, or one has no place.
    """
    places = plan(list(tensors))
    if not hasattr(places, "get"):
        raise Wrong(
            f"plan() returned {type(places).__name__}.",
            "It must return a dict from name to address in bytes.",
            'Return something like {"conv1": 0, "relu1": 4096}.',
        )
    for tensor in tensors:
        address = places.get(tensor.name)
        if address is None or address < 0:
            raise Wrong(
                f"In {case}, tensor {tensor.name!r} has address {address}.",
                "Every tensor needs one, from 0 up.",
                "Put every tensor's name into the dict.",
            )
    for index, one in enumerate(tensors):
        for other in tensors[index + 1 :]:
            a, b = places[one.name], places[other.name]
            if one.first <= other.last and other.first <= one.last and a < b + other.size and b < a + one.size:
                step = max(one.first, other.first)
                raise Wrong(
                    f"In {case}, {one.name!r} and {other.name!r} overlap in step {step}.",
                    f"{one.name!r} has bytes {a} to {a + one.size - 1} in steps {one.first} to {one.last}, "
                    f"{other.name!r} has bytes {b} to {b + other.size - 1} in steps {other.first} to "
                    f"{other.last}. "
                    "A step reads its inputs while it writes its outputs.",
                    "Steps are inclusive: compare with <=, and addresses with sizes.",
                )
    return max(places[tensor.name] + tensor.size for tensor in tensors)


@exercise(
    "autotune",
    points=4,
    hints=(
        "What must the function know before it measures anything?",
        "Read the file with json if it is there. If the key is in it, return that answer and call no candidate.",
        "Else time each candidate with bench.measure(...).p50, take min(times, key=times.get), put it into the dict, write "
        "it.",
    ),
)
def autotune(autotune):
    """`autotune(key, candidates, cache)` is tried with candidates of known speed that count their calls."""
    calls: dict[str, int] = {}

    def candidate(name: str, ms: float):
        def run():
            calls[name] = calls.get(name, 0) + 1
            time.sleep(ms / 1000)

        return run

    def ask(key, speeds, cache):
        calls.clear()
        return autotune(key, {name: candidate(name, ms) for name, ms in speeds.items()}, cache)

    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache.json"
        slow_first = {"a": 8.0, "b": 1.0, "c": 4.0}
        won = ask("shape 1", slow_first, cache)
        if won != "b":
            raise Wrong(
                f"Of candidates that take 8, 1 and 4 ms autotune() chooses {won!r}.",
                "'b' is the fastest.",
                "Return the name with the smallest time: min(times, key=times.get).",
            )
        if set(calls) != set(slow_first):
            raise Wrong(
                f"Only {', '.join(calls) or 'none'} of the candidates a, b, c ran.",
                "Without measuring all of them nobody knows which is the fastest.",
                "Time every candidate.",
            )
        again = ask("shape 1", slow_first, cache)
        if calls:
            raise Wrong(
                f"Asked for the same shape again, autotune() ran candidates {sum(calls.values())} times.",
                "That is a cache miss where there should be a hit: TensorRT's timing cache saves that time.",
                "Look into the file first, and write the winner into it.",
            )
        if again != "b":
            raise Wrong(
                f"The cached answer is {again!r}, the measured one was 'b'.",
                "The cache must hold the winner.",
                "Store the name that you return.",
            )
        other = ask("shape 2", {"a": 1.0, "b": 8.0, "c": 4.0}, cache)
        if other != "a":
            raise Wrong(
                f"For another shape, where 'a' is the fastest, autotune() gives {other!r}.",
                "It answers from the first shape's entry." if not calls else "It chose a slower one.",
                "Keep one entry per key.",
            )
        if ask("shape 1", slow_first, cache) != "b" or calls:
            raise Wrong(
                "After a second shape the first one is not in the cache any more.",
                "The file was overwritten with the second entry alone.",
                "Read the dict, add an entry, write the whole dict.",
            )
        moved = Path(shutil.copy(cache, Path(folder) / "moved.json")) if cache.is_file() else None
        if moved is None:
            raise Wrong(
                "There is no cache file.",
                f"autotune() wrote nothing to the path that it got, {cache.name}.",
                "Write the dict with json to `cache`, so that the next process finds it.",
            )
        ask("shape 1", slow_first, moved)
        if calls:
            raise Wrong(
                "A copy of the cache file gives no hit.",
                "The answers are kept in the program, not in the file.",
                "Read the file on every call.",
            )
        ask("shape 1", slow_first, Path(folder) / "new.json")
        if not calls:
            raise Wrong(
                "With a new, empty cache autotune() measures nothing.",
                "It remembers answers outside the file; a timing cache must be tied to its file.",
                "Keep the entries in the file only.",
            )
    return "It measures once per shape, then answers from the file, also from a copy of it."


@exercise(
    "engine-travels",
    points=2,
    hints=(
        "Three things must agree. Which of the header's fields tell them?",
        "Compare runtime_version, compute_capability and onnx_sha256. What about the name of the GPU?",
        "Words whose two sides differ: runtime_version and version, compute_capability and capability, onnx_sha256 and "
        "sha256. Another GPU model of one capability may count or not.",
    ),
)
def engine_travels(reasons):
    here, careful = {"version": "10.16.1", "capability": "9.0", "sha256": "a" * 64}, False
    cases = (
        ({}, set()),
        ({"gpu": "NVIDIA H200"}, None),  # not recommended and may fail: both answers are right
        ({"runtime_version": "10.16.0"}, {"version"}),
        ({"compute_capability": "8.9"}, {"architecture"}),
        ({"onnx_sha256": "b" * 64}, {"model"}),
        ({"runtime_version": "8.6.1", "compute_capability": "7.5", "gpu": "T4"}, {"version", "architecture"}),
    )
    causes = {
        "version": "An engine holds kernels and a format of one exact TensorRT version, patch number included.",
        "architecture": "Its kernels are machine code for one architecture.",
        "model": "The engine was built from another ONNX file: it would give another network's answers.",
    }
    for changes, wanted in cases:
        header = Header(
            "tensorrt",
            **{
                "runtime_version": "10.16.1",
                "precision": "fp16",
                "inputs": (),
                "outputs": (),
                "profiles": (),
                "onnx_sha256": "a" * 64,
                "build_seconds": 20.0,
                "gpu": "NVIDIA H100",
                "compute_capability": "9.0",
                **changes,
            },
        )
        found = set(reasons(header, **here))
        if wanted is None and found <= {"architecture"}:
            careful = bool(found)
            continue
        wanted = wanted or set()
        if found == wanted:
            continue
        text = ", ".join(f"{name} {value[:12]}" for name, value in changes.items()) or "no difference"
        if extra := found - wanted:
            cause = f"{sorted(extra)[0]!r} is the same on both sides."
        else:
            cause = causes[sorted(wanted - found)[0]]
        raise Wrong(f"For {text} reasons() gives {sorted(found)}.", cause, f"It should give {sorted(wanted)}.")
    way = "You refuse it, the careful choice" if careful else "You allow it; TensorRT warns, and it may be slow or fail"
    return (
        "Right for six headers: exact version, architecture and network must agree. Another GPU model of the same compute "
        f"capability is not recommended and may fail. {way}."
    )


# ------------------------------------------------------------------ the course's own answers


def hidden_tensors(nodes: Sequence[Layer], layers: Sequence[Layer]) -> set[str]:
    """The course's answer: tensors between ONNX nodes that share a layer."""
    home = {name: number for number, layer in enumerate(layers) for name in layer.onnx_nodes}
    readers: dict[str, list[str]] = {}
    for node in nodes:
        for tensor in node.inputs:
            readers.setdefault(tensor.name, []).append(node.name)
    return {
        tensor.name
        for node in nodes
        for tensor in node.outputs
        if {home.get(reader, reader) for reader in readers.get(tensor.name, ())} == {home.get(node.name)}
    }


@reference("fusion-hidden")
def _hidden():
    return hidden_tensors


@reference("fusion-break")
def _broken() -> Engine:
    path, gpu = "artifacts/resnet50.onnx", available_runtimes()["tensorrt"] is None
    nodes = network_layers(path, "onnxruntime")
    maker = {tensor.name: node for node in nodes for tensor in node.outputs}
    summands = [tensor.name for node in nodes if node.kind == "Add" for tensor in node.inputs]
    batch = 8 if gpu else 1  # as the lesson builds its other engines
    return build(
        path,
        BuildConfig(
            "tf32" if gpu else "fp32",
            profiles=Profile.batch(path, batch, batch, batch),
            optimization_level=1,
            timing_cache="artifacts/timing.cache",
            keep_outputs=[name for name in summands if maker[name].kind == "Conv"],
        ),
    )


@reference("memory-lifetimes")
def _lifetimes():
    def lifetimes(steps, sizes):
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for index, step in enumerate(steps):
            for name in step.writes:
                first[name] = last[name] = index
            for name in step.reads:
                last[name] = index
        return [Tensor(name, sizes[name], first[name], last[name]) for name in first]

    return lifetimes


@reference("memory-plan")
def _plan():
    def plan(tensors: Sequence[Tensor]):
        places: dict[str, int] = {}
        placed: list[Tensor] = []
        for tensor in sorted(tensors, key=lambda tensor: -tensor.size):
            address = 0
            for other in sorted(placed, key=lambda other: places[other.name]):
                if other.first <= tensor.last and tensor.first <= other.last:
                    if address + tensor.size <= places[other.name]:
                        break
                    address = max(address, places[other.name] + other.size)
            places[tensor.name] = address
            placed.append(tensor)
        return places

    return plan


@reference("autotune")
def _autotune():
    def autotune(key, candidates, cache):
        known = json.loads(Path(cache).read_text()) if Path(cache).is_file() else {}
        if key not in known:
            times = {
                name: bench.measure(function, warmup_s=0.02, min_samples=10, max_seconds=0.4).p50
                for name, function in candidates.items()
            }
            known[key] = min(times, key=times.get)
            Path(cache).write_text(json.dumps(known))
        return known[key]

    return autotune
