"""The process that holds an artifact: inspects it, builds its engine, runs it, times it beside the reference.

`autograder.sandbox.process` starts it, in bubblewrap where there is one, and talks to it through two pipes. It is ours;
the artifact in it is data, and so is a peer: another model, of the judge's, that the artifact may be timed against. It
knows no labels, no points, no secret. Whatever a library prints goes to the log, never into the pipes.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from autograder.artifacts import onnx_guard
from autograder.rejected import Rejected
from autograder.sandbox import messages
from autograder.sandbox.serve import limit, serve
from course.bench.clocks import CpuTime, one_torch_thread

MOST_KEPT, MOST_KEPT_BYTES = 4096, 192_000_000
"""Answers of timed calls that are kept; of more calls a random choice."""
MOST_ANSWER_BYTES, MOST_TIMED_BYTES = 60_000_000, 96_000_000
"""Of one run, asked for or timed. The detector's raw output has 9.5 MB for 8 images of 416 px, and 76 MB for 64."""


def main(read_fd: int, write_fd: int, memory_bytes: int, cpu_seconds: int, model_path: str) -> None:
    """Answer requests until the pipe closes."""
    limit(memory_bytes, cpu_seconds)
    state = State(Path(model_path).read_bytes())
    commands = {
        "inspect": state.inspect,
        "peer": state.peer,
        "build": state.build,
        "heavy_layers": state.heavy_layers,
        "run": state.run,
        "time": state.time,
    }
    serve(commands, read_fd, write_fd, memory_bytes, "Look for a tensor that is far larger than the network needs.")


class State:
    """The artifact, and what was built from it."""

    def __init__(self, data: bytes):
        self.data = data
        self.peer_data = b""
        self.engines: dict[str, object] = {}
        self.references: dict[str, Callable] = {}

    def inspect(self, *, name: str, max_nodes: int, max_elements: int, allow_ops: list[str]):
        facts = onnx_guard.inspect(
            self.data, name, max_nodes=max_nodes, max_elements=max_elements, allow_ops=tuple(allow_ops)
        )
        return vars(facts), []

    def peer(self, data: np.ndarray):
        """The judge's own model, as the bytes of its ONNX file: `build(peer=True)` takes it."""
        self.peer_data = data.tobytes()
        return {}, []

    def build(
        self,
        *,
        key: str,
        precision: str,
        runtime: str,
        largest: int,
        alone: bool,
        ranges: Sequence[Sequence[Sequence[int]]] = (),
        level: int = 2,
        peer: bool = False,
    ):
        """Build an engine for batches of 1 to `largest`, or with one profile for each of `ranges`: smallest,
        usual and largest shape. `alone`: to run on one thread where it runs on a CPU. `level`: TensorRT's
        optimisation level. `peer`: of the judge's model.
        """
        from course import engine

        data = self.peer_data if peer else self.data
        profiles = self._profiles(data, largest, ranges)
        tuning = {"optimization_level": level} if runtime == "tensorrt" else {}
        threads = 1 if alone and runtime == "onnxruntime" else None
        built = engine.build(data, engine.BuildConfig(precision, profiles, runtime=runtime, threads=threads, **tuning))
        self.engines[key] = built
        # ONNX Runtime's CPU kernels compute in float32 whatever the weights are: no part to report
        part = _float16_part(built) if runtime == "tensorrt" and precision == "fp16" else -1.0
        return {
            "runtime": built.runtime,
            "version": built.runtime_version,
            "device": built.device,
            "seconds": built.build_seconds,
            "float16": part,
        }, []

    def heavy_layers(self, *, runtime: str, largest: int, level: int = 2):
        """Answers: `int8_layers_inside.heavy_layers` of the artifact, from an INT8 engine of this runtime, for batches of
        `largest` only: of an open batch, TensorRT 8.6's inspector does not tell what a kernel reads.
        """
        from autograder.artifacts import int8_layers_inside
        from course import engine

        tuning = {"optimization_level": level} if runtime == "tensorrt" else {}

        def build(data: bytes):
            profiles = (engine.Profile.batch(data, largest, largest, largest),) if self._profiles(data, 1, ()) else ()
            return engine.build(data, engine.BuildConfig("int8", profiles, runtime=runtime, **tuning))

        return int8_layers_inside.heavy_layers(self.data, build), []

    def run(self, x: np.ndarray, *, key: str):
        """Answers: the engine's outputs, in its order."""
        answers = self.engines[key].run({self._input(key): x}, profile=self._profile(key, np.shape(x)))
        return {}, _numbers(answers)

    def time(
        self,
        x: np.ndarray,
        *,
        key: str,
        rounds: int,
        max_seconds: float,
        warmup_s: float,
        reference: str = "",
        options: Mapping[str, object] = MappingProxyType({}),
        against: str = "",
    ):
        """Time an engine in turns with the reference, or with another engine (its key is `against`), on x,
        [slots, batch, ...], a slot per call: on a GPU by CUDA events, on a CPU by CPU time on one thread each.

        Answers: milliseconds of the engine and of the other side, float64 [rounds] each; the slots of the
        answers that were kept, of timed and warm-up calls, int64 [calls]; then for each output of the engine
        these answers, [calls, batch, ...]. `options`: keywords for the reference's function.
        """
        import torch

        from course import bench

        built, name, profile = self.engines[key], self._input(key), self._profile(key, np.shape(x)[1:])
        cuda = built.device.startswith("cuda")
        slots = [torch.from_numpy(part.copy()).to("cuda" if cuda else "cpu") for part in x]
        feeds = [{name: slot} for slot in slots]
        model = None if against else self._reference(reference, options, cuda)
        kept, calls, turn = [], 0, 0
        chance = random.Random(os.urandom(16))
        first = built.run({name: x[0]}, profile=profile)
        size = sum(part.nbytes for part in _numbers(first, MOST_TIMED_BYTES))
        most = min(MOST_KEPT, MOST_KEPT_BYTES // max(1, size))

        def ours() -> None:
            nonlocal calls
            slot = calls % len(slots)
            answer = built.run(feeds[slot], profile=profile)
            calls += 1
            if len(kept) < most:
                kept.append((slot, answer))
            elif (place := chance.randrange(calls)) < most:
                kept[place] = (slot, answer)

        def eager() -> None:
            nonlocal turn
            turn += 1
            with torch.inference_mode():
                model(slots[turn % len(slots)])

        def other_engine() -> None:
            nonlocal turn
            turn += 1
            other.run(their_feeds[turn % len(slots)], profile=their_profile)

        if against:
            other, their_name = self.engines[against], self._input(against)
            their_feeds = [{their_name: slot} for slot in slots]
            their_profile = self._profile(against, np.shape(x)[1:])

        with contextlib.nullcontext() if cuda else one_torch_thread():
            found = bench.compare(
                ours,
                other_engine if against else eager,
                labels=("engine", against or "PyTorch eager"),
                items=(np.shape(x)[1],) * 2,
                device="cuda" if cuda else "cpu",
                clock=None if cuda else CpuTime(),
                rounds=rounds,
                max_seconds=max_seconds,
                warmup_s=warmup_s,
            )
        if any(tuple(answer[part].shape) != first[part].shape for _, answer in kept for part in first):
            raise Rejected(
                "The output changes its shape from image to image.",
                "All batches of the timing had one size.",
                "Export the network only.",
            )
        answers = [np.stack([answer[part].float().cpu().numpy() for _, answer in kept]) for part in first]
        return (
            {"device": found.a.device_name, "calls": [found.a.calls, found.b.calls]},
            [found.a.milliseconds, found.b.milliseconds, np.array([slot for slot, _ in kept]), *answers],
        )

    def _profiles(self, data: bytes, largest: int, ranges: Sequence[Sequence[Sequence[int]]]) -> tuple:
        """Where the file fixes a dimension, its number takes the place of the wanted one."""
        from course import engine
        from course.engine import graph

        shapes = graph.inputs(graph.read(data).proto)
        if not any(-1 in shape for shape in shapes.values()):
            return ()
        if not ranges:
            return (engine.Profile.batch(data, 1, largest, largest),)
        if len(shapes) != 1 or any(len(shape) != 4 for shape in shapes.values()):
            raise Rejected(
                "The model does not have one input [batch, 3, height, width].",
                f"Its inputs are {shapes}.",
                "Export it with one.",
            )
        ((name, dims),) = shapes.items()
        fitted = [
            tuple(tuple(size if dim == -1 else dim for size, dim in zip(shape, dims)) for shape in entry)
            for entry in ranges
        ]
        return tuple(engine.Profile({name: entry}) for entry in dict.fromkeys(fitted))

    def _profile(self, key: str, shape: Sequence[int]) -> int:
        """The first profile that takes this shape; 0, whose error says what is wrong, if none does."""
        for index, profile in enumerate(self.engines[key].profiles):
            low, _, high = next(iter(profile.shapes.values()))
            if all(least <= size <= most for least, size, most in zip(low, shape, high)):
                return index
        return 0

    def _input(self, key: str) -> str:
        names = [spec.name for spec in self.engines[key].inputs]
        if len(names) != 1:
            raise Rejected("The model does not have one input.", f"Its inputs are {names}.", "Export it with one.")
        return names[0]

    def _reference(self, where: str, options: Mapping[str, object], cuda: bool) -> Callable:
        key = f"{where} {sorted(options.items())}"
        if key not in self.references:
            self.references[key] = _load(where, **options).to("cuda" if cuda else "cpu")
        return self.references[key]


def _load(where: str, **options):
    """The PyTorch module that "module:function" makes, in eval mode."""
    module, function = where.split(":")
    return getattr(importlib.import_module(module), function)(**options).eval()


def _numbers(answers: Mapping[str, np.ndarray], most: int = MOST_ANSWER_BYTES) -> list[np.ndarray]:
    """The outputs as arrays that can be sent.

    Raises:
        Rejected: one holds no numbers, or they have more than `most` bytes.
    """
    arrays = [np.asarray(answer) for answer in answers.values()]
    for array in arrays:
        if array.dtype.name not in messages.DTYPES:
            raise Rejected(
                "The model's output holds no numbers.",
                f"Its dtype is {array.dtype}.",
                "Export the network only.",
            )
    if (size := sum(array.nbytes for array in arrays)) > most:
        raise Rejected(
            "The model's answer is too large.",
            f"It has {size / 1e6:,.0f} MB for one batch; at most {most / 1e6:.0f} MB are taken.",
            "Export the network only.",
        )
    return arrays


def _float16_part(built) -> float:
    """Part of the layers with a known precision that work in float16. Layers that only move data do not count,
    nor do those that compute shapes and indices, in integers.

    Raises:
        RuntimeError: no layer's precision is known. Then a person must look: neither all points nor none would be
            honest.
    """
    kinds = [
        layer.precision
        for layer in built.layers()
        if layer.precision
        and not layer.precision.startswith(("int32", "int64", "bool"))
        and layer.kind not in ("Reformat", "NoOp", "Constant")
    ]
    if not kinds:
        raise RuntimeError("TensorRT's inspector names the precision of no layer, so FP16 cannot be checked.")
    return sum(kind == "float16" for kind in kinds) / len(kinds)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]), sys.argv[5])
