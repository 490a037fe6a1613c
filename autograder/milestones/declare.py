"""What a milestone is: what is handed in, what is measured, what it is worth and what the learner reads.

A declaration is checked when it is made, so a mistake stops the import.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from autograder.artifacts.base import Artifact
from autograder.checks.base import Measure, Problem
from autograder.tasks.base import Task
from autograder.tasks.classifier import Classifier
from course.errors import CourseError

LANES = ("cpu", "gpu")
GPU_TIMES = 3
_ID = re.compile(r"[a-z0-9][a-z0-9.\-]{0,63}")


@dataclass(frozen=True)
class Check:
    """One line of the score-board.

    lanes: "cpu" or "gpu" -> what is measured there. A lane that is left out stays open on such a machine.
    on_fail: one sentence for a check that lost points. hints: three steps, each more direct than the one
        before.
    needs: checks that must have earned points first; what gives wrong answers is not timed.
    artifact: path of the one that is judged; the first of the kind's own if left out.
    """

    id: str
    title: str
    points: float
    lanes: Mapping[str, Measure]
    on_fail: str
    hints: tuple[str, ...]
    needs: tuple[str, ...] = ()
    artifact: str = ""

    def judged(self, artifacts: Sequence[Artifact]) -> Artifact | None:
        """The artifact that it looks at; None if there is none of its kind."""
        kinds = {measure.judges for measure in self.lanes.values()}
        return next(
            (one for one in artifacts if isinstance(one, tuple(kinds)) and self.artifact in ("", one.path)), None
        )

    def problems(self, task: Task, artifacts: Sequence[Artifact], before: set[str]) -> Iterator[Problem]:
        """What is wrong with this declaration; `before` holds the ids of the checks above it."""
        place = f"Check {self.id!r}"
        if not _ID.fullmatch(self.id):
            yield f"{place}: its id is not usable.", "Use 1 to 64 lower-case letters, digits, '.' or '-'."
        if self.id in before:
            yield f"{place} is declared twice.", "Give each check its own id."
        if missing := set(self.needs) - before:
            yield (
                f"{place} needs {sorted(missing)}, not declared before it.",
                "Put the checks in the order in which they are measured.",
            )
        if not (math.isfinite(self.points) and self.points > 0):
            yield f"{place} gives {self.points} points.", "Points must be above 0."
        if len(self.hints) != 3:
            yield f"{place} has {len(self.hints)} hints.", "Write three, each more direct than the one before."
        if not self.lanes or not set(self.lanes) <= set(LANES):
            yield f"{place} has the lanes {sorted(self.lanes)}.", f"Known lanes: {', '.join(LANES)}."
        if len(kinds := {type(measure) for measure in self.lanes.values()}) != 1:
            yield f"{place} is of {len(kinds)} kinds.", "Use one kind for all its lanes."
        if self.judged(artifacts) is None:
            yield f"{place} judges no artifact of this milestone.", "Name one that its kind can judge."
        for lane, measure in self.lanes.items():
            if not isinstance(task, measure.tasks):
                yield (
                    f"{place} is of a kind that cannot judge a {task.name}.",
                    f"It judges {' or '.join(kind.name for kind in measure.tasks)}.",
                )
            else:
                for what, wanted in measure.problems(task):
                    yield f"{place}, lane {lane}: {what}", wanted


@dataclass(frozen=True)
class Milestone:
    """A milestone.

    task: what is right. artifacts: what is handed in.
    memory_gb: what a box may take on a CPU; on a GPU machine four times as much.
    limits_s: seconds; "build" and "run" of one engine, "all" of everything that is asked of what was handed in,
        together, on a CPU; on a GPU machine, where builds search, GPU_TIMES as long.
    """

    id: str
    stage: str
    notebook: str
    grade_id: str
    title: str
    artifacts: tuple[Artifact, ...]
    checks: tuple[Check, ...]
    task: Task = field(default_factory=Classifier)
    memory_gb: float = 6.0
    limits_s: Mapping[str, float] = field(default_factory=lambda: {"build": 600.0, "run": 300.0, "all": 900.0})

    def __post_init__(self) -> None:
        for what, wanted in self._problems():
            raise CourseError(f"Milestone {self.id!r} is declared wrongly.", what, wanted)

    def _problems(self) -> Iterator[Problem]:
        if not _ID.fullmatch(self.id):
            yield "Its id is not usable.", "Use 1 to 64 lower-case letters, digits, '.' or '-'."
        if not self.artifacts:
            yield "It has no artifact.", "Name at least one file that is handed in."
        for artifact in self.artifacts:
            yield from artifact.problems()
        if len({artifact.path for artifact in self.artifacts}) < len(self.artifacts):
            yield "Two artifacts have one path.", "Give each its own."
        if not isinstance(self.task, Task):
            yield f"Its task is {self.task!r}.", "Give a Task, such as Classifier()."
        if not self.checks:
            yield "It has no check.", "Declare at least one."
        if missing := {"build", "run", "all"} - set(self.limits_s):
            yield f"limits_s lacks {sorted(missing)}.", "Give all three."
        seen: set[str] = set()
        for check in self.checks:
            yield from check.problems(self.task, self.artifacts, seen)
            seen.add(check.id)

    @property
    def points(self) -> float:
        return sum(check.points for check in self.checks)

    def seconds(self, lane: str) -> float:
        """What the boxes of one submission may take together."""
        return self.limits_s["all"] * (GPU_TIMES if lane == "gpu" else 1)
