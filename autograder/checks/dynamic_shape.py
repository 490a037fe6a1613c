"""Batch, height and width of a detector's file are open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from autograder.checks.base import Bench, Outcome
from autograder.checks.detection import why_wrong_detector
from autograder.checks.engines import EngineMeasure, Engines, ShapeRange
from autograder.rejected import Rejected
from autograder.tasks import detector_answers
from autograder.tasks.base import Task
from autograder.tasks.detector import Detector

AXES = ("batch size", "channels", "height", "width")


@dataclass(frozen=True)
class DynamicShape(EngineMeasure):
    """The graph of a detector has one float32 input [batch, 3, height, width], open but for the channels, and
    runs at several shapes.

    shapes: (batch, height, width) that are tried, in px. One more is drawn: a batch from 2 to `largest`, a
        height and another width, multiples of `step` from `lowest` to `highest` px.
    max_error: largest relative error of the answers (see `Detection`) at any of them.
    """

    shapes: tuple[tuple[int, int, int], ...] = ((1, 320, 320), (2, 416, 416))
    largest: int = 5
    lowest: int = 192
    highest: int = 416
    step: int = 32
    max_error: float = 0.1
    runtime: str = "onnxruntime"
    precision: ClassVar[str] = "fp32"
    tasks: ClassVar[tuple[type[Task], ...]] = (Detector,)

    def wanted(self) -> str:
        return "one float32 input [batch, 3, height, width], right for every batch, height and width that 32 divides"

    def feeds(self) -> Iterator[ShapeRange]:
        sides = [self.lowest, self.highest, *(n for shape in self.shapes for n in shape[1:])]
        most = max(self.largest, *(shape[0] for shape in self.shapes))
        low, high = min(sides), max(sides)
        yield ShapeRange((1, 3, low, low), (most, 3, high, high), anywhere=True)

    def measure(self, at: Bench) -> Outcome:
        """Right at every shape, or no points: a file that works at some is not open."""
        engines = Engines.of(at)
        shown = ", ".join(f"{name} {dtype} {list(shape)}" for name, (dtype, shape) in engines.facts["inputs"].items())
        measured = f"input {shown or 'none'}"
        if problem := _interface(engines.facts):
            return 0.0, measured, problem, {}
        detector_answers.form_of(engines.facts)
        shapes = [*self.shapes, self._hidden_shape(at)]
        key = engines.engine("fp32", self.runtime)
        words = ["x".join(map(str, shape)) for shape in shapes]
        at.say(f"trying batch x height x width {', '.join(words)}")
        good, problem = [], ""
        for (batch, height, width), word in zip(shapes, words):
            x = at.draw("dynamic shape", batch, (height, width)).x
            try:
                answer = detector_answers.read(engines.run(key, x), batch, (height, width))
            except Rejected as error:
                problem = f"Shape {word}: {error.what} {error.cause}"
                continue
            wanted = at.task.answers(x)
            if detector_answers.error_of(answer, wanted).worst <= self.max_error:
                good.append(word)
            else:
                problem = f"Shape {word}: {why_wrong_detector(at, engines, answer, wanted, x)}"
        measured += f"; right at {', '.join(good) or 'none'} of {', '.join(words)}"
        return float(len(good) == len(shapes)), measured, problem, {"shapes": shapes, "good": good}

    def _hidden_shape(self, at: Bench) -> tuple[int, int, int]:
        """A shape from the images' own seed, never square: others for each student, the same for the same one."""
        side = self.lowest
        digest = int(at.draw("shape", 1, (side, side)).x.sum() * 1e6)
        rng = np.random.default_rng(abs(digest))
        sides = range(self.lowest, self.highest + 1, self.step)
        height, width = rng.choice(sides, 2, replace=False).tolist()
        return int(rng.integers(2, self.largest + 1)), height, width


def _interface(facts: Mapping) -> str:
    """What is wrong with the declared input; "" if nothing is."""
    inputs = list(facts["inputs"].values())
    if len(inputs) != 1:
        return f"The network has one input, the file {len(inputs)}."
    ((dtype, shape),) = inputs
    if dtype != "float32" or len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
        return "The input must be float32 [batch, 3, height, width]."
    fixed = [axis for axis in (0, 2, 3) if isinstance(shape[axis], int) and shape[axis] > 0]
    if fixed:
        numbers = " and ".join(f"the {AXES[axis]} the fixed number {shape[axis]}" for axis in fixed)
        return f"In the file {'is' if len(fixed) == 1 else 'are'} {numbers}; each must be a name."
    return ""
