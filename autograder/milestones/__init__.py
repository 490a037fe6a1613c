"""Milestones as data: what is handed in, what is measured, what it is worth and what the learner reads.

A file `stageN.py` in this folder holds a tuple `MILESTONES`; it is found by its name. Adding a milestone
needs no change elsewhere, as long as its checks are of the kinds below (`autograder.checks` measures them).
"""

from __future__ import annotations

import importlib
import math
import pkgutil
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Union

from course.errors import CourseError

LANES = ("cpu", "gpu")


@dataclass(frozen=True)
class Ramp:
    """Which part of the points a measured value earns: none at `zero`, all at `full`, linear between.

    `zero` above `full` means that less is better (an error). `dead_band`, in the unit of the value, is what
    noise may cost: the value is moved in the learner's favour to the end of its confidence interval, but by
    no more than that.
    """

    zero: float
    full: float
    dead_band: float = 0.0

    def share(self, value: float, low: float | None = None, high: float | None = None) -> float:
        """0 to 1; NaN earns 0. `low`, `high`: the interval of `value`; without one it is taken as it is."""
        if math.isnan(value):
            return 0.0
        sign = 1 if self.full > self.zero else -1
        best = high if sign > 0 else low
        room = (
            0.0 if best is None or math.isnan(best) else min(max(0.0, sign * (best - value)), self.dead_band)
        )
        share = (value + sign * room - self.zero) / (self.full - self.zero)
        return min(1.0, max(0.0, share))

    def text(self, unit: str = "", scale: float = 1.0) -> str:
        word = "at least" if self.full > self.zero else "at most"
        way = "up from" if self.full > self.zero else "below"
        return (
            f"all points for {word} {self.full * scale:.4g}{unit}, some {way} {self.zero * scale:.4g}{unit}"
        )


@dataclass(frozen=True)
class DynamicBatch:
    """The graph has one float32 input with an open batch dimension, and runs at several batch sizes.

    sample: shape of one sample. batches: sizes that are tried; one more is drawn between 2 and `largest`.
    max_error: largest relative error of the answers (see `Accuracy`) at any of them.
    """

    sample: tuple[int, ...] = (3, 224, 224)
    batches: tuple[int, ...] = (1, 5)
    largest: int = 12
    max_error: float = 0.1
    runtime: str = "onnxruntime"


@dataclass(frozen=True)
class Accuracy:
    """The engine gives the reference's answers on labelled images that nobody saw before.

    The worst of the three ramps decides.

    agreement: part of the images whose top class is the reference's.
    drop: by how much fewer images it gets right than the reference (0.01 is one point of accuracy).
    error: root mean square of the logits' difference, relative to that of the reference's logits around their
        mean. Another network may agree on the class; it never has the same logits.
    images: how many, in self-check; hidden_images: in grading.
    min_float16: least part of the engine's layers that must put out float16 (TensorRT only); 0 asks nothing.
    """

    precision: str
    agreement: Ramp
    drop: Ramp
    error: Ramp
    images: int = 64
    hidden_images: int = 192
    batch: int = 16
    runtime: str = "auto"
    min_float16: float = 0.0


@dataclass(frozen=True)
class Speed:
    """How many times as fast as the reference in PyTorch eager the engine is; the worst batch size decides.

    Both run in one process, in turns: on a GPU timed by CUDA events, on a CPU by CPU time on one thread each
    (there a crowded machine would otherwise decide). A time counts only if every answer of the timed runs is
    right: relative error (as in `Accuracy`) at most `max_error` and the same class for at least
    `min_agreement` of the images.

    rounds, max_seconds: of timing, per batch size.
    """

    precision: str
    batches: tuple[int, ...]
    ratio: Ramp
    max_error: float = 0.1
    min_agreement: float = 0.9
    rounds: int = 30
    max_seconds: float = 10.0
    warmup_s: float = 0.3
    runtime: str = "auto"


Params = Union[DynamicBatch, Accuracy, Speed]
KINDS = {DynamicBatch: "onnx_dynamic_batch", Accuracy: "accuracy", Speed: "speed"}


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
    """A milestone. `reference`: "module:function", called without arguments, gives the PyTorch module in eval
    mode."""

    id: str
    stage: str
    notebook: str
    grade_id: str
    title: str
    artifacts: tuple[Artifact, ...]
    checks: tuple[Check, ...]
    reference: str = "course.models:resnet50"
    memory_gb: float = 6.0
    """What building and running may take on a CPU; on a GPU machine four times as much."""
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
    names = sorted(
        info.name for info in pkgutil.iter_modules(__path__) if re.fullmatch(r"stage\d+", info.name)
    )
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
