"""The process that holds an artifact: inspects it, builds its engine, runs it, times it beside the reference.

`autograder.runner` starts it, in the sandbox where there is one, and talks to it through two pipes
(`autograder.wire`). It is ours; the artifact in it is data. It knows no labels, no points, no secret.
Whatever a library prints goes to the log, never into the pipes.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from autograder import onnx_guard, wire
from autograder.snapshot import Rejected
from course.errors import CourseError

MOST_KEPT = 4096
"""Answers of timed calls that are kept; of more calls a random choice."""


def main(read_fd: int, write_fd: int, model_path: str, memory_bytes: int, cpu_seconds: int) -> None:
    """Answer requests until the pipe closes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 30, 2 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    state = State(Path(model_path).read_bytes())
    commands = {"inspect": state.inspect, "build": state.build, "run": state.run, "time": state.time}
    wire.send(write_fd, {"ready": True, "pid": os.getpid()})
    while True:
        try:
            head, arrays = wire.receive(read_fd)
        except wire.WireError:
            return
        try:
            answer, results = commands[head.pop("command")](*arrays, **head)
        except MemoryError:
            answer, results = {"refused": _out_of_memory(memory_bytes)}, []
        except CourseError as error:
            grown = "bad_alloc" in error.cause or "Failed to allocate memory" in error.cause
            answer = {
                "refused": _out_of_memory(memory_bytes)
                if grown
                else [error.what, error.cause, error.next_step]
            }
            results = []
        except Exception:
            answer, results = {"bug": traceback.format_exc()}, []
        wire.send(write_fd, answer, results)


class CpuTime:
    """A clock for `course.bench`: CPU time of the calling thread. With one thread (`one_thread`) it is the
    time of a quiet machine, also while other programs share the cores.

    Not the process's CPU time: under a limit on CPU seconds, which we set, Linux counts that in whole ticks
    of 1 to 10 ms.
    """

    def sample(self, fn: Callable[[], object], calls: int) -> float:
        begin = time.thread_time_ns()
        for _ in range(calls):
            fn()
        return (time.thread_time_ns() - begin) / 1e6 / calls


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Engines that are built in here run on one thread of ONNX Runtime, and PyTorch on one of its own.

    On shared cores two threads wait for each other, PyTorch's far more than ONNX Runtime's: with 8 busy
    programs on 2 cores the ratio of ResNet-50 went from about 1.7 to 7.
    """
    import onnxruntime
    import torch

    make, threads = onnxruntime.SessionOptions, torch.get_num_threads()

    def options():
        made = make()
        made.intra_op_num_threads = 1
        return made

    onnxruntime.SessionOptions = options  # the course's engine makes its options itself, with all cores
    torch.set_num_threads(1)
    try:
        yield
    finally:
        onnxruntime.SessionOptions = make
        torch.set_num_threads(threads)


def _out_of_memory(limit: int) -> list[str]:
    return [
        "The model needs too much memory.",
        f"The limit is {limit / 2**30:.1f} GB.",
        "Look for a tensor that is far larger than the network needs.",
    ]


class State:
    """The artifact, and what was built from it."""

    def __init__(self, data: bytes):
        self.data = data
        self.engines: dict[str, object] = {}
        self.references: dict[str, Callable] = {}

    def inspect(self, *, name: str, max_nodes: int, max_elements: int, allow_ops: list[str]):
        facts = onnx_guard.inspect(
            self.data, name, max_nodes=max_nodes, max_elements=max_elements, allow_ops=tuple(allow_ops)
        )
        return vars(facts), []

    def build(self, *, key: str, precision: str, runtime: str, largest: int, alone: bool):
        """Build an engine for batches of 1 to `largest`; `alone`: to run on one thread where it runs on a
        CPU.
        """
        from course import engine

        open_axis = any(-1 in shape for shape in self._shapes().values())
        profiles = (engine.Profile.batch(self.data, 1, largest, largest),) if open_axis else ()
        tuning = {"optimization_level": 2} if runtime == "tensorrt" else {}
        with one_thread() if alone and runtime == "onnxruntime" else contextlib.nullcontext():
            built = engine.build(
                self.data, engine.BuildConfig(precision, profiles, runtime=runtime, **tuning)
            )
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

    def run(self, x: np.ndarray, *, key: str):
        return {}, [_only(self.engines[key].run({self._input(key): x}))]

    def time(
        self, x: np.ndarray, *, key: str, reference: str, rounds: int, max_seconds: float, warmup_s: float
    ):
        """Time engine and reference in turns on x, [slots, batch, ...], a slot per call: on a GPU by CUDA
        events, on a CPU by CPU time on one thread each.

        Answers: milliseconds of the engine and of the reference, float64 [rounds] each; the engine's answers
        in timed and warm-up calls, [calls, batch, classes], and the slot of each, int64 [calls].
        """
        import torch

        from course import bench

        built, name = self.engines[key], self._input(key)
        cuda = built.device.startswith("cuda")
        slots = [torch.from_numpy(part.copy()).to("cuda" if cuda else "cpu") for part in x]
        feeds = [{name: slot} for slot in slots]
        model = self._reference(reference, cuda)
        kept, calls, turn = [], 0, 0
        chance = random.Random(os.urandom(16))

        def ours() -> None:
            nonlocal calls
            slot = calls % len(slots)
            answer = next(iter(built.run(feeds[slot]).values()))
            calls += 1
            if len(kept) < MOST_KEPT:
                kept.append((slot, answer))
            elif (place := chance.randrange(calls)) < MOST_KEPT:
                kept[place] = (slot, answer)

        def theirs() -> None:
            nonlocal turn
            turn += 1
            with torch.inference_mode():
                model(slots[turn % len(slots)])

        with contextlib.nullcontext() if cuda else one_thread():
            found = bench.compare(
                ours,
                theirs,
                labels=("engine", "PyTorch eager"),
                items=(x.shape[1],) * 2,
                device="cuda" if cuda else "cpu",
                clock=None if cuda else CpuTime(),
                rounds=rounds,
                max_seconds=max_seconds,
                warmup_s=warmup_s,
            )
        answers = np.stack([answer.float().cpu().numpy() for _, answer in kept])
        return (
            {"device": found.a.device_name, "calls": [found.a.calls, found.b.calls]},
            [found.a.milliseconds, found.b.milliseconds, answers, np.array([slot for slot, _ in kept])],
        )

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        from course.engine import graph

        return graph.inputs(graph.read(self.data).proto)

    def _input(self, key: str) -> str:
        names = [spec.name for spec in self.engines[key].inputs]
        if len(names) != 1:
            raise Rejected(
                "The model does not have one input.", f"Its inputs are {names}.", "Export it with one."
            )
        return names[0]

    def _reference(self, where: str, cuda: bool) -> Callable:
        if where not in self.references:
            self.references[where] = load_reference(where).to("cuda" if cuda else "cpu")
        return self.references[where]


def load_reference(where: str):
    """The PyTorch module that "module:function" makes."""
    module, function = where.split(":")
    return getattr(importlib.import_module(module), function)().eval()


def _only(answers: dict[str, np.ndarray]) -> np.ndarray:
    if len(answers) != 1:
        raise Rejected(
            "The model does not have one output.", f"Its outputs are {list(answers)}.", "Export it with one."
        )
    answer = np.asarray(next(iter(answers.values())))
    if answer.dtype.name not in wire.DTYPES:
        raise Rejected(
            "The model's output holds no numbers.",
            f"Its dtype is {answer.dtype}.",
            "Export the network only.",
        )
    return answer


def _float16_part(built) -> float:
    """Part of the layers with a known precision that work in float16; layers that only move data do not count.

    Raises:
        RuntimeError: no layer's precision is known. Then a person must look: neither all points nor none would be
            honest.
    """
    kinds = [
        layer.precision
        for layer in built.layers()
        if layer.precision and layer.kind not in ("Reformat", "NoOp", "Constant")
    ]
    if not kinds:
        raise RuntimeError("TensorRT's inspector names the precision of no layer, so FP16 cannot be checked.")
    return sum(kind == "float16" for kind in kinds) / len(kinds)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
