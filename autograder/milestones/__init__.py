"""Milestones as data: what is handed in, what is measured, how many points it gives and what the learner reads.

A file `stageN.py` in this folder holds a tuple `MILESTONES`; it is found by its name. Adding a milestone needs no
change elsewhere, as long as its checks are of the kinds below (`autograder.checks` measures them).
"""

from __future__ import annotations

import importlib
import math
import pkgutil
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Union

from course.errors import CourseError

LANES = ("cpu", "gpu")
_ID = re.compile(r"[a-z0-9][a-z0-9.\-]{0,63}")


@dataclass(frozen=True)
class Ramp:
    """Which part of the points a measured value earns: none at `zero`, all at `full`, linear between.

    `zero` above `full` means that less is better (an error). `dead_band`, in the unit of the value, is what noise may
    cost: the value is moved in the learner's favour to the end of its confidence interval, but by no more than that.
    """

    zero: float
    full: float
    dead_band: float = 0.0

    def share(self, value: float, low: float | None = None, high: float | None = None) -> float:
        """0 to 1. `low`, `high`: the interval of `value`; without one the value is taken as it is. NaN earns 0."""
        if math.isnan(value):
            return 0.0
        sign = 1 if self.full > self.zero else -1
        best = high if sign > 0 else low
        room = 0.0 if best is None or math.isnan(best) else min(max(0.0, sign * (best - value)), self.dead_band)
        share = (value + sign * room - self.zero) / (self.full - self.zero)
        return min(1.0, max(0.0, share))

    def text(self, unit: str = "", scale: float = 1.0) -> str:
        word = "at least" if self.full > self.zero else "at most"
        way = "up from" if self.full > self.zero else "below"
        return (f"all points for {word} {self.full * scale:.4g}{unit}, some {way} {self.zero * scale:.4g}{unit}")


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
    error: root mean square of the logits' difference, relative to that of the reference's logits around their mean.
        Another network may agree on the class; it never has the same logits.
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

    Both run in one process, in turns: on a GPU timed by CUDA events, on a CPU by CPU time on one thread each (there a
    crowded machine would otherwise decide). A time counts only if every answer of the timed runs is right: relative error
    (as in `Accuracy`) at most `max_error` and the same class for at least `min_agreement` of the images.

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
    on_fail: one sentence for a check that lost points. hints: three steps, each more direct than the one before.
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
    """A milestone. `reference`: "module:function", called without arguments, gives the PyTorch module in eval mode."""

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
        validate(self)

    @property
    def points(self) -> float:
        return sum(check.points for check in self.checks)


def validate(milestone: Milestone) -> None:
    """Raises:
    CourseError: the declaration is wrong; names the milestone, the place and what it must be.
    """
    name = f"Milestone {milestone.id!r}"

    def require(good: bool, cause: str, fix: str) -> None:
        if not good:
            raise CourseError(f"{name} is declared wrongly.", cause, fix)

    require(bool(_ID.fullmatch(milestone.id)), "Its id is not usable.",
            "Use 1 to 64 lower-case letters, digits, '.' or '-'.")
    require(bool(milestone.artifacts), "It has no artifact.", "Name at least one file that is handed in.")
    for artifact in milestone.artifacts:
        parts = artifact.path.split("/")
        require(all(part not in ("", ".", "..") for part in parts), f"The artifact {artifact.path!r} is no plain path.",
                "Give a path below the notebook's folder, such as artifacts/model.onnx.")
        require(artifact.kind == "onnx" and artifact.max_mb > 0, f"The artifact {artifact.path!r} cannot be opened.",
                'Its kind must be "onnx" and max_mb above 0.')
    require(bool(milestone.checks), "It has no check.", "Declare at least one.")
    seen: set[str] = set()
    for check in milestone.checks:
        place = f"Check {check.id!r}"
        require(bool(_ID.fullmatch(check.id)), f"{place}: its id is not usable.",
                "Use 1 to 64 lower-case letters, digits, '.' or '-'.")
        require(check.id not in seen, f"{place} is declared twice.", "Give each check its own id.")
        require(set(check.needs) <= seen, f"{place} needs {sorted(set(check.needs) - seen)}, not declared before it.",
                "Put the checks in the order in which they are measured.")
        seen.add(check.id)
        require(math.isfinite(check.points) and check.points > 0, f"{place} gives {check.points} points.",
                "Points must be above 0.")
        require(len(check.hints) == 3, f"{place} has {len(check.hints)} hints.",
                "Write three, each more direct than the one before.")
        require(bool(check.lanes) and set(check.lanes) <= set(LANES), f"{place} has the lanes {sorted(check.lanes)}.",
                f"Known lanes: {', '.join(LANES)}.")
        kinds = {type(params) for params in check.lanes.values()}
        require(len(kinds) == 1 and kinds <= set(KINDS), f"{place} is of {len(kinds)} kinds.",
                f"Use one of {', '.join(kind.__name__ for kind in KINDS)} for all its lanes.")
        for lane, params in check.lanes.items():
            _validate_params(params, f"{place}, lane {lane}", require)


def _validate_params(params: Params, place: str, require) -> None:
    for entry in fields(params):
        value = getattr(params, entry.name)
        if isinstance(value, Ramp):
            numbers = (value.zero, value.full, value.dead_band)
            require(all(map(math.isfinite, numbers)) and value.zero != value.full and value.dead_band >= 0,
                    f"{place}: {entry.name}={value} is no ramp.",
                    "zero and full must differ, dead_band must be 0 or more, all of them finite.")
            require(value.dead_band <= abs(value.full - value.zero), f"{place}: the dead band of {entry.name} is too wide.",
                    "It must not exceed the ramp, or noise alone would earn all points.")
        elif entry.name == "batches":
            require(bool(value) and all(isinstance(n, int) and n > 0 for n in value),
                    f"{place}: batches={value}.", "Give whole numbers above 0.")


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
                raise CourseError(f"Milestone {milestone.id!r} is declared wrongly.",
                                  f"Another one has the same {what}, {key(milestone)}.", "Change one of the two.")
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
        raise CourseError(f"There is no milestone {milestone_id!r}.", f"Known: {', '.join(known) or 'none'}.",
                          "Use one of these.")
    return known[milestone_id]


def for_notebook(stage: str, notebook: str) -> tuple[Milestone, ...]:
    """The milestones graded in one notebook (name without ending)."""
    return tuple(m for m in all_milestones() if (m.stage, m.notebook) == (stage, notebook))


def main(argv: list[str] | None = None) -> int:
    """`python -m autograder milestones`: a table of all milestones and their checks."""
    for milestone in all_milestones():
        print(f"{milestone.id}  {milestone.title}  ({milestone.points:g} points)")
        print(f"    {milestone.stage}/{milestone.notebook}.ipynb, cell {milestone.grade_id}; "
              f"hands in {', '.join(artifact.path for artifact in milestone.artifacts)}")
        for check in milestone.checks:
            print(f"    {check.points:4g}  {check.id:15} {check.title}  [{', '.join(check.lanes)}]")
    return 0
