"""What the checks of one measurement share: the engines that were built, the inputs, the reference's answers."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autograder.milestones import Accuracy, DynamicBatch, DynamicShape, Milestone, Params, Speed
from autograder.rejected import Rejected
from autograder.sandbox.process import Runner

MOST_FIXED = 64
TELL_EVERY_S = 10.0
"""So often a long step says that it still runs."""
Outcome = tuple[float, str, str, dict]
"""Of a check: the part of the points, the measurement in words, what to say about lost points, the numbers."""


@dataclass
class Context:
    """What the checks of one measurement share.

    draw(purpose, count) -> `inputs.Drawn`; for a detector draw(purpose, count, size) -> `inputs.DrawnScenes`.
    answers(x) -> the reference's: logits, float32 [N, classes], or (boxes, scores); computed here, never in the
    artifact's process. weights() -> how many the reference has. facts: of `onnx_guard`. engines: what was built
    already.
    """

    milestone: Milestone
    lane: str
    mode: str
    runner: Runner
    facts: dict
    draw: Callable
    answers: Callable[[np.ndarray], Any]
    weights: Callable[[], int]
    say: Callable[[str], None]
    engines: dict[str, dict] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.draw = functools.lru_cache(maxsize=2)(self.draw)  # a detector's scenes of two sizes serve two checks

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Say what begins, and every ten seconds that it still goes on."""
        self.say(text)
        done = threading.Event()

        def tell() -> None:
            seconds = TELL_EVERY_S
            while not done.wait(TELL_EVERY_S):
                self.say(f"  still {text} ({seconds:.0f} s)")
                seconds += TELL_EVERY_S

        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        try:
            yield
        finally:
            done.set()
            teller.join()

    def engine(self, precision: str, runtime: str, timed: bool = False) -> str:
        """Key of an engine; built once, for all shapes that this milestone needs of it. On a CPU the timed one is
        another, on one thread.
        """
        runtime = self.runtime(runtime)
        alone = timed and runtime == "onnxruntime"
        key = f"{precision}/{runtime}{' alone' if alone else ''}"
        if key not in self.engines:
            words = " on one thread, to be timed" if alone else ""
            with self.step(f"building the {precision.upper()} engine{words}"):
                self.engines[key], _ = self.runner.ask(
                    "build",
                    key=key,
                    precision=precision,
                    runtime=runtime,
                    largest=self.largest(precision, runtime),
                    ranges=self.ranges(precision, runtime),
                    alone=alone,
                    level=self.milestone.optimization_level,
                    seconds=self.milestone.limits_s["build"],
                )
        return key

    def run(self, key: str, x: np.ndarray) -> list[np.ndarray]:
        """The engine's outputs."""
        return self.runner.ask("run", [x], key=key, seconds=self.milestone.limits_s["run"])[1]

    def run_all(self, key: str, x: np.ndarray, batch: int) -> list[np.ndarray]:
        """The outputs for all images; a model with a fixed batch size gets batches of that size, the last one filled
        up.
        """
        ((_, shape),) = self.facts["inputs"].values()
        fixed = shape[0] if shape and isinstance(shape[0], int) and shape[0] > 0 else 0
        if fixed > MOST_FIXED:
            raise Rejected(
                f"The batch size is fixed at {fixed}.",
                f"At most {MOST_FIXED} images are run at once.",
                "Export with an open batch size.",
            )
        batch, parts = fixed or batch, []
        for start in range(0, len(x), batch):
            part = x[start : start + batch]
            outputs = self.run(key, np.resize(part, (batch, *x.shape[1:])) if fixed else part)
            parts.append([array[: len(part)] if array.ndim else array[None] for array in outputs])
        for arrays in zip(*parts):
            if len(shapes := {array.shape[1:] for array in arrays}) > 1:
                raise Rejected(
                    "The output changes its shape.",
                    f"{sorted(shapes)[:3]} for batches of one size.",
                    "Export again.",
                )
        return [np.concatenate(arrays) for arrays in zip(*parts)]

    def runtime(self, name: str) -> str:
        return {"cpu": "onnxruntime", "gpu": "tensorrt"}[self.lane] if name == "auto" else name

    def largest(self, precision: str, runtime: str) -> int:
        """The largest batch that any check of this milestone needs of this engine: so one engine serves them
        all.
        """
        sizes = [1]
        for params in self._users(precision, runtime):
            if isinstance(params, DynamicBatch):
                sizes += [*params.batches, params.largest]
            elif isinstance(params, Accuracy):
                sizes.append(params.batch)
            elif isinstance(params, Speed):
                sizes += params.batches
        return max(sizes)

    def ranges(self, precision: str, runtime: str) -> list[tuple[tuple[int, ...], ...]]:
        """Smallest, usual and largest shape of each optimisation profile that a detector's engine needs: one for the
        shapes that are judged, tuned for the largest of them, and a wide one where any shape may come.

        A profile for each size of image would be tuned better, but each takes long to build: at level 0 an H100 took
        69 s with one profile (docs/results/h100/m1b/raw_1.log) and 109 s with two (h100/stage1/08_yolo.html).
        """
        counts, sides, wide = set(), set(), []
        for params in self._users(precision, runtime):
            if isinstance(params, DynamicShape):
                any_side = [params.lowest, params.highest, *(n for shape in params.shapes for n in shape[1:])]
                most_at_once = max(params.largest, *(shape[0] for shape in params.shapes))
                most = (most_at_once, 3, max(any_side), max(any_side))
                wide.append(((1, 3, min(any_side), min(any_side)), most, most))
            elif sizes := getattr(params, "sizes", ()):
                sides.update(sizes)
                counts.update(params.batches if isinstance(params, Speed) else (params.batch,))
        if not sides:
            return wide
        most = (max(counts), 3, max(sides), max(sides))
        return [((min(counts), 3, min(sides), min(sides)), most, most), *wide]

    def _users(self, precision: str, runtime: str) -> Iterator[Params]:
        """What the checks of this lane say that use this engine."""
        for check in self.milestone.checks:
            params = check.lanes.get(self.lane)
            if params is None:
                continue
            wanted = getattr(params, "precision", "fp32")
            if (wanted, self.runtime(params.runtime)) == (precision, runtime):
                yield params


def engine_words(built: dict) -> str:
    """Such as "TensorRT 8.6.0 on the GPU"."""
    name = {"onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT"}.get(built["runtime"], built["runtime"])
    return f"{name} {built['version']} on {'the CPU' if built['device'] == 'cpu' else 'the GPU'}"


def float16_share(built: dict, least: float) -> tuple[dict[str, float], str, str]:
    """Of an FP16 engine: a share of the points where too few layers are in FP16, words for the measurement, and a
    message. All empty where the runtime does not choose precisions.
    """
    if built["float16"] < 0:
        return {}, "", ""
    words = f"; {100 * built['float16']:.0f} % of the layers in FP16"
    if built["float16"] >= least:
        return {}, words, ""
    return {"float16": built["float16"] / least}, words, "Too many layers stay in FP32."
