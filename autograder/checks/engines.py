"""What the checks of an ONNX file share: the box that holds it, and the engines that were built from it there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from autograder.artifacts.base import Artifact
from autograder.artifacts.onnx import Onnx
from autograder.checks.base import Bench, Measure
from autograder.rejected import Rejected

MOST_FIXED = 64


@dataclass(frozen=True)
class ShapeRange:
    """What a check feeds, from `low` to `high`: (batch,) where the file says the rest, else whole shapes.

    anywhere: any shape between may come, so it gets a profile of its own; the others share one, whose usual shape is the
    largest.
    """

    low: tuple[int, ...]
    high: tuple[int, ...]
    anywhere: bool = False


class OnnxMeasure(Measure):
    """A check of an ONNX file. `Engines.of(at).facts` says what is in it."""

    judges: ClassVar[type[Artifact]] = Onnx

    def open(self, at: Bench) -> None:
        Engines.of(at)


class EngineMeasure(OnnxMeasure):
    """A check that needs an engine: `precision` and `runtime` say which ("auto" is TensorRT on a GPU, else ONNX Runtime),
    `feeds` for which shapes.
    """

    precision: str
    runtime: str

    def feeds(self) -> Iterator[ShapeRange]:
        """What it feeds to the engine."""
        yield from ()


class Engines:
    """The file that is judged. facts: of `onnx_guard`. built: what was built already, by key."""

    def __init__(self, at: Bench):
        self.at, self.path, self.artifact = at, at.path, at.artifact
        self.built: dict[str, dict] = {}
        self.box = at.box(sees=(at.task.package,))
        self.facts, _ = self.box.ask(
            "inspect",
            seconds=120,
            name=self.path,
            max_nodes=self.artifact.max_nodes,
            max_elements=self.artifact.max_elements,
            allow_ops=list(self.artifact.allow_ops),
        )

    @staticmethod
    def of(at: Bench) -> Engines:
        """Those of the judged file; its box starts once.

        Raises:
            Rejected: the file is refused.
        """
        return at.once(("engines", at.path), lambda: Engines(at))

    def engine(self, precision: str, runtime: str, timed: bool = False) -> str:
        """Key of an engine; built once, for all shapes that this milestone needs of it. On a CPU the timed one is
        another, on one thread.
        """
        runtime = self.runtime(runtime)
        alone = timed and runtime != "tensorrt"
        key = f"{precision}/{runtime}{' alone' if alone else ''}"
        if key not in self.built:
            words = " on one thread, to be timed" if alone else ""
            with self.at.step(f"building the {precision.upper()} engine{words}"):
                self.built[key], _ = self.box.ask(
                    "build",
                    key=key,
                    precision=precision,
                    runtime=runtime,
                    largest=self.largest(precision, runtime),
                    ranges=self.ranges(precision, runtime),
                    alone=alone,
                    level=self.artifact.optimization_level,
                    seconds=self.at.limits_s["build"],
                )
        return key

    def run(self, key: str, x: np.ndarray) -> list[np.ndarray]:
        """The engine's outputs."""
        return self.box.ask("run", [x], key=key, seconds=self.at.limits_s["run"])[1]

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
        return {"cpu": "onnxruntime", "gpu": "tensorrt"}[self.at.lane] if name == "auto" else name

    def largest(self, precision: str, runtime: str) -> int:
        """The largest batch that any check of this milestone needs of this engine: so one engine serves them
        all.
        """
        return max([1, *(need.high[0] for need in self._needs(precision, runtime) if len(need.high) == 1)])

    def ranges(self, precision: str, runtime: str) -> list[tuple[tuple[int, ...], ...]]:
        """Smallest, usual and largest shape of each optimisation profile that an engine with open sides needs: one for
        the shapes that are judged, with the largest of them as the usual one, and one where any shape may come.

        From level 1 on a profile for each size of image would be tuned better, but each takes long to build (level 0
        tunes nothing, and uses no timing cache): at level 0 an H100 took
        69 s with one profile (docs/results/h100/m1b/raw_1.log) and 109 s with two (h100/stage1/08_yolo.html).
        """
        needs = [need for need in self._needs(precision, runtime) if len(need.high) > 1]
        judged = [need for need in needs if not need.anywhere]
        ranges = [(need.low, need.high, need.high) for need in needs if need.anywhere]
        if judged:
            low = tuple(map(min, zip(*(need.low for need in judged))))
            high = tuple(map(max, zip(*(need.high for need in judged))))
            ranges.insert(0, (low, high, high))
        return ranges

    def _needs(self, precision: str, runtime: str) -> Iterator[ShapeRange]:
        """What the checks of this file say that use this engine."""
        for path, measure in self.at.measures:
            if not isinstance(measure, EngineMeasure):
                continue  # it looks at the file only
            if path == self.path and (measure.precision, self.runtime(measure.runtime)) == (precision, runtime):
                yield from measure.feeds()


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
