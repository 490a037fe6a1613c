"""The batch size of a classifier's file is open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from autograder.checks.base import Bench, Outcome, Problem
from autograder.checks.engines import EngineMeasure, Engines, ShapeRange
from autograder.checks.rules import batch_problems
from autograder.rejected import Rejected
from autograder.tasks import classifier
from autograder.tasks.base import Task
from autograder.tasks.classifier import Classifier


@dataclass(frozen=True)
class DynamicBatch(EngineMeasure):
    """The graph has one float32 input with an open batch dimension, and runs at several batch sizes.

    sample: shape of one sample. batches: sizes that are tried; one more is drawn from `hidden`, which lies above the batches
    of all other checks: a file that is right up to some size must not get through.
    max_error: largest relative error of the answers (see `classifier.error_of`) at any of them.
    """

    sample: tuple[int, ...] = (3, 224, 224)
    batches: tuple[int, ...] = (1, 5)
    hidden: tuple[int, int] = (17, 24)
    max_error: float = 0.1
    runtime: str = "onnxruntime"
    precision: ClassVar[str] = "fp32"
    tasks: ClassVar[tuple[type[Task], ...]] = (Classifier,)

    def problems(self, task: Task) -> Iterator[Problem]:
        yield from super().problems(task)
        yield from batch_problems(self.batches)

    def wanted(self) -> str:
        return f"one float32 input [batch, {', '.join(map(str, self.sample))}], right at every batch size"

    def feeds(self) -> Iterator[ShapeRange]:
        yield ShapeRange((1,), (max(*self.batches, *self.hidden),))

    def measure(self, at: Bench) -> Outcome:
        engines = Engines.of(at)
        shown = ", ".join(
            f"{name[:80]} {dtype} {list(shape)}" for name, (dtype, shape) in engines.facts["inputs"].items()
        )
        inputs = list(engines.facts["inputs"].values())
        if len(inputs) != 1 or len(engines.facts["outputs"]) != 1:
            return (
                0.0,
                f"inputs {shown or 'none'}; {len(engines.facts['outputs'])} outputs",
                "The network has one input and one output.",
                {},
            )
        ((dtype, shape),) = inputs
        if dtype != "float32" or tuple(shape[1:]) != self.sample:
            return (
                0.0,
                f"input {shown}",
                f"The input must be float32 [batch, {', '.join(map(str, self.sample))}].",
                {},
            )
        if isinstance(shape[0], int) and shape[0] > 0:
            return (
                0.0,
                f"input {shown}",
                f"The batch dimension is the fixed number {shape[0]}; it must be a name.",
                {},
            )
        sizes = sorted({*self.batches, self._hidden_size(at)})
        key = engines.engine("fp32", self.runtime)
        good = []
        at.say(f"trying batch sizes {', '.join(map(str, sizes))}")
        problem = ""
        images = at.draw("dynamic batch", max(sizes)).x
        wanted = at.task.answers(images)
        for size in sizes:
            try:
                answer = classifier.only_output(engines.run(key, images[:size]))
            except Rejected as error:
                problem = f"Batch {size}: {error.what} {error.cause}"
                continue
            error = classifier.error_of(answer, wanted[:size])
            if error <= self.max_error:
                good.append(size)
            else:
                problem = f"Batch {size}: " + classifier.why_wrong(answer, wanted[:size], error)
        share = 1.0 if len(good) == len(sizes) else 0.0
        measured = f"{shown}; right at batch {', '.join(map(str, good)) or 'none'} of {', '.join(map(str, sizes))}"
        return share, measured, problem, {"sizes": sizes, "good": good}

    def _hidden_size(self, at: Bench) -> int:
        """A batch size from the images' own seed: others for each student, the same for the same one."""
        digest = int(at.draw("batch size", 1).x.sum() * 1e6)
        low, high = self.hidden
        return low + abs(digest) % (high - low + 1)
