"""A plugin keeps TensorRT's contract: driven as TensorRT drives it, without TensorRT, each call checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from autograder.artifacts.base import Artifact
from autograder.artifacts.cuda_plugin import CudaPlugin
from autograder.checks import plugin_boxes
from autograder.checks.base import Bench, Measure, Outcome, Ramp
from autograder.rejected import Rejected
from autograder.tasks.base import Task
from autograder.tasks.operator import Operator
from course.errors import CourseError
from course.native.plugin import Contract, examine_compiled

SHOWN = 3


@dataclass(frozen=True)
class PluginContract(Measure):
    """The examination of `course.native.plugin`, with shapes of rank 1 to 5, attributes and values that are drawn.

    findings: ramp for the number of different ones. None of the points count if the outputs are wrong or if the examination broke off.
    What the learner's code could forge is memory and streams, which are watched in its own process; values, shapes and plans
    are judged out here.
    """

    findings: Ramp = Ramp(zero=4, full=0)
    seconds: float = 20.0
    judges: ClassVar[type[Artifact]] = CudaPlugin
    tasks: ClassVar[tuple[type[Task], ...]] = (Operator,)

    def wanted(self) -> str:
        return "no finding of the plugin's examination, for shapes of rank 1 to 5 in FP32 and FP16 (some points for up to 3)"

    def measure(self, at: Bench) -> Outcome:
        built, task = plugin_boxes.whole(at), plugin_boxes.operator(at)
        drawn = at.draw("plugin contract", 8)
        rng = drawn.random()
        shapes = [(int(rng.integers(3, 8)), 2 * int(rng.integers(2, 6)) + 1)]
        shapes += [(int(rng.integers(1, 40)),)]
        shapes += [tuple(int(side) for side in rng.integers(1, 6, rank)) for rank in (3, 4, 5)]
        contract = Contract(
            task.node,
            lambda x, **attributes: task.answers(x, **attributes),
            shapes=[(shape,) for shape in shapes],
            version=task.version,
            attributes={name: float(value) for name, value in drawn.attributes.items()},
            values=lambda shape, random: random.normal(0, 4, shape),
        )
        try:
            with at.step("driving the plugin as TensorRT does"):
                report = examine_compiled(
                    built.folder, built.sources, contract, headers=built.headers, seconds=self.seconds, wrap=built.wrap
                )
        except CourseError as error:
            raise Rejected(error.what, error.cause, error.next_step) from error
        count = len(
            {(finding.kind, finding.method) for finding in report.findings}
        )  # one mistake may show in several lines
        values = {
            "findings": [finding.kind for finding in report.findings],
            "shapes": shapes,
            "headers": report.headers,
        }
        measured = f"{count} finding{'' if count == 1 else 's'}; {len(report.combinations)} combinations of types and formats run"
        said = [" ".join(str(finding).split())[:500] for finding in report.findings[:SHOWN]]
        ended = "" if report.finished else "It ended there, so not everything was looked at."
        message = " ".join([*(f"{number}. {text}" for number, text in enumerate(said, 1)), ended]).strip()
        computed = report.finished and not report.kinds & WRONG
        return self.findings.share(count) if computed else 0.0, measured, message, values


WRONG = {
    "not-registered",
    "wrong-name",
    "wrong-version",
    "wrong-namespace",
    "no-plugin",
    "not-dynamic",
    "format-missing",
    "wrong-output",
    "half-ignored",
    "stale-shape",
    "shared-state",
    "deserialize-loses",
    "clone-loses",
    "kernel",
    "exception",
    "crash",
    "assert",
    "timeout",
}
"""Findings of a plugin that TensorRT would not find, or that computes something else, or ends the process."""
