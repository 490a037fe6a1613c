"""Milestones as data: what is handed in, what is measured, what it is worth and what the learner reads.

A file `stageN.py` in this folder holds a tuple `MILESTONES`; it is found by its name. Adding a milestone
needs no change elsewhere, as long as its checks are of the kinds in `kinds` (`autograder.checks` measures them).
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from autograder.milestones.kinds import (
    KINDS,
    TASKS,
    Accuracy,
    Detection,
    DynamicBatch,
    DynamicShape,
    Params,
    Ramp,
    Speed,
)
from course.errors import CourseError

__all__ = [
    "KINDS",
    "LANES",
    "TASKS",
    "Accuracy",
    "Artifact",
    "Check",
    "Detection",
    "DynamicBatch",
    "DynamicShape",
    "Milestone",
    "Params",
    "Ramp",
    "Speed",
    "all_milestones",
    "check_unique",
    "for_notebook",
    "get",
]

LANES = ("cpu", "gpu")


@dataclass(frozen=True)
class Check:
    """One line of the score-board.

    lanes: "cpu" or "gpu" -> what is measured there. A lane that is left out stays open on such a machine.
    on_fail: one sentence for a check that lost points. hints: three steps, each more direct than the one
        before.
    needs: checks that must have earned points first; what gives wrong answers is not timed.
    """

    id: str
    title: str
    points: float
    lanes: Mapping[str, Params]
    on_fail: str
    hints: tuple[str, ...]
    needs: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return KINDS[type(next(iter(self.lanes.values())))]


@dataclass(frozen=True)
class Artifact:
    """A file that is handed in. `max_mb` 10^6 bytes; `max_elements` numbers in all its tensors together.

    allow_ops: control flow (If, Loop, Scan ...) that this milestone needs; none is accepted otherwise.
    """

    path: str
    kind: str = "onnx"
    max_mb: float = 128
    max_nodes: int = 5_000
    max_elements: int = 64_000_000
    allow_ops: tuple[str, ...] = ()


@dataclass(frozen=True)
class Milestone:
    """A milestone.

    reference: "module:function"; called without arguments it gives the PyTorch module in eval mode, and of a
        detector with decode=False the one with raw output.
    task: "classifier" (image -> logits) or "detector" (scene -> boxes and scores, or raw output).
    """

    id: str
    stage: str
    notebook: str
    grade_id: str
    title: str
    artifacts: tuple[Artifact, ...]
    checks: tuple[Check, ...]
    reference: str = "course.models:resnet50"
    task: str = "classifier"
    memory_gb: float = 6.0
    """What building and running may take on a CPU; on a GPU machine four times as much."""
    optimization_level: int = 2
    """TensorRT's, of every engine that is built for this milestone: 0 (quick build) to 5 (long search)."""
    limits_s: Mapping[str, float] = field(default_factory=lambda: {"build": 600.0, "run": 300.0})

    def __post_init__(self) -> None:
        from autograder.milestones.rules import validate

        validate(self)

    @property
    def points(self) -> float:
        return sum(check.points for check in self.checks)


def check_unique(milestones: Iterable[Milestone]) -> tuple[Milestone, ...]:
    """The milestones, if no two share an id or a grade cell.

    Raises:
        CourseError: two do.
    """
    milestones = tuple(milestones)
    for what, key in (("id", lambda m: m.id), ("grade cell", lambda m: (m.stage, m.notebook, m.grade_id))):
        seen = set()
        for milestone in milestones:
            if key(milestone) in seen:
                raise CourseError(
                    f"Milestone {milestone.id!r} is declared wrongly.",
                    f"Another one has the same {what}, {key(milestone)}.",
                    "Change one of the two.",
                )
            seen.add(key(milestone))
    return milestones


def all_milestones() -> tuple[Milestone, ...]:
    """Every milestone, stage by stage."""
    names = sorted(info.name for info in pkgutil.iter_modules(__path__) if re.fullmatch(r"stage\d+", info.name))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return check_unique(milestone for module in modules for milestone in module.MILESTONES)


def get(milestone_id: str) -> Milestone:
    """Raises:
    CourseError: there is no such milestone; lists those there are.
    """
    known = {milestone.id: milestone for milestone in all_milestones()}
    if milestone_id not in known:
        raise CourseError(
            f"There is no milestone {milestone_id!r}.",
            f"Known: {', '.join(known) or 'none'}.",
            "Use one of these.",
        )
    return known[milestone_id]


def for_notebook(stage: str, notebook: str) -> tuple[Milestone, ...]:
    """The milestones graded in one notebook (name without ending)."""
    return tuple(m for m in all_milestones() if (m.stage, m.notebook) == (stage, notebook))


def main(argv: list[str] | None = None) -> int:
    """`python -m autograder milestones`: a table of all milestones and their checks."""
    for milestone in all_milestones():
        print(f"{milestone.id}  {milestone.title}  ({milestone.points:g} points)")
        print(
            f"    {milestone.stage}/{milestone.notebook}.ipynb, cell {milestone.grade_id}; "
            f"hands in {', '.join(artifact.path for artifact in milestone.artifacts)}"
        )
        for check in milestone.checks:
            print(f"    {check.points:4g}  {check.id:15} {check.title}  [{', '.join(check.lanes)}]")
    return 0
