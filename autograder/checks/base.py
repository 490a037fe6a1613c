"""A kind of check is one class in a module of this folder: its parameters, its words, its rules, its measurement.

A milestone declares which it wants (`autograder.milestones`), `autograder.measuring` calls `measure` with a `Bench`.
"""

from __future__ import annotations

import contextlib
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from autograder.artifacts.base import HARNESS, Artifact, Taken
from autograder.sandbox.process import Box, Budget
from autograder.tasks.base import Task
from course.paths import ROOT

TELL_EVERY_S = 10.0
"""So often a long step says that it still runs."""
Outcome = tuple[float, str, str, dict]
"""Of a check: the part of the points, the measurement in words, what to say about lost points, the numbers."""
Problem = tuple[str, str]
"""Of a declaration: what is wrong, and what it must be like."""
CPU_S = 7200


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
        room = 0.0 if best is None or math.isnan(best) else min(max(0.0, sign * (best - value)), self.dead_band)
        share = (value + sign * room - self.zero) / (self.full - self.zero)
        return min(1.0, max(0.0, share))

    def text(self, unit: str = "", scale: float = 1.0) -> str:
        word = "at least" if self.full > self.zero else "at most"
        way = "up from" if self.full > self.zero else "below"
        return f"all points for {word} {self.full * scale:.4g}{unit}, some {way} {self.zero * scale:.4g}{unit}"

    def problems(self, place: str) -> Iterator[Problem]:
        numbers = (self.zero, self.full, self.dead_band)
        if not all(map(math.isfinite, numbers)) or self.zero == self.full or self.dead_band < 0:
            yield (
                f"{place}={self} is no ramp.",
                "zero and full must differ, dead_band must be 0 or more, all of them finite.",
            )
        elif self.dead_band > abs(self.full - self.zero):
            yield (
                f"{place} has too wide a dead band.",
                "It must not exceed the ramp, or noise alone would earn all points.",
            )


class OpenHere(Exception):
    """This machine lacks what a check needs: the check stays open, and nobody loses points by it. Its text says what, and
    how to get it.
    """


class Measure(ABC):
    """A kind of check. Subclasses are frozen dataclasses: their fields are the parameters.

    judges: the kind of artifact that it looks at. tasks: the kinds of task that it can judge.
    """

    judges: ClassVar[type[Artifact]]
    tasks: ClassVar[tuple[type[Task], ...]] = (Task,)

    def problems(self, task: Task) -> Iterator[Problem]:
        """What is wrong with these parameters for this task."""
        for entry in fields(self):
            value = getattr(self, entry.name)
            for ramp in value.values() if isinstance(value, Mapping) else (value,):
                if isinstance(ramp, Ramp):
                    yield from ramp.problems(entry.name)

    @abstractmethod
    def wanted(self) -> str:
        """What earns the points, in words."""

    def open(self, at: Bench) -> None:
        """What must work before any check of this artifact counts.

        Raises:
            Rejected: it does not; no check of the artifact gives points.
        """

    @abstractmethod
    def measure(self, at: Bench) -> Outcome:
        """Measure.

        Raises:
            Rejected: what was handed in cannot be measured; the check gives no points.
            OpenHere: this machine cannot measure it.
        """


@dataclass
class Bench:
    """What the checks of one measurement share, and which of them is at work: `check` (its id), `path` (the artifact
    that it judges).

    draw(purpose, count, size) -> labelled inputs of the task. taken: every artifact that could be taken. measures: all
    checks of this lane, each with the path of its artifact. limits_s: "build" and "run". memory_gb: of a box. budget: time that
    the boxes of what was handed in may take together.
    """

    task: Task
    lane: str
    mode: str
    taken: Mapping[str, Taken]
    artifacts: Mapping[str, Artifact]
    measures: Sequence[tuple[str, Measure]]
    limits_s: Mapping[str, float]
    memory_gb: float
    draw: Callable[..., Any]
    say: Callable[[str], None]
    boxes: contextlib.ExitStack
    check: str = ""
    path: str = ""
    notes: dict[str, None] = field(default_factory=dict)
    shared: dict[object, object] = field(default_factory=dict)
    budget: Budget | None = None

    @property
    def artifact(self) -> Artifact:
        """The declaration of the artifact that is judged."""
        return self.artifacts[self.path]

    def box(self, path: str = "", *arguments: str, sees: Sequence[str | Path] = (), inside: str = "", **limits) -> Box:
        """A new box with one of the artifacts; it ends with the measurement, if not before.

        Args:
            path: of the artifact, as declared; the judged one if left out.
            arguments: for our module in it, after the path of the artifact's copy.
            sees: what it may read besides the artifact and its harness; "course" is the course.
            inside: our module in it, if not the one of the artifact's kind.
            limits: memory_gb, cpu_s, gpu of `Box`, over those of the milestone and the lane.
        """
        artifact, taken = self.artifacts[path or self.path], self.taken[path or self.path]
        if not (inside or artifact.inside):
            raise TypeError(f"{type(artifact).__name__} has no `inside`: no module of ours opens it in a box")
        gpu = self.lane == "gpu"
        options = {"memory_gb": self.memory_gb * (4 if gpu else 1), "cpu_s": CPU_S, "gpu": gpu, **limits}
        box = Box(
            inside or artifact.inside,
            str(taken.path),
            *arguments,
            sees=(*(ROOT / name for name in artifact.harness), taken.path.parent, *(ROOT / name for name in sees)),
            words=artifact.words,
            confined=artifact.confined and self.mode == "hidden",
            budget=self.budget,
            **options,
        )
        if box.why_open and self.mode == "hidden":
            self.notes[
                f"The {artifact.words.thing} ran in a process of its own, but in no sandbox: {box.why_open}."
            ] = None
        return self.boxes.enter_context(box)

    def bare_box(self, inside: str, *, sees: Sequence[str | Path], confined: bool, **limits) -> Box:
        """A box that gets nothing but what it is sent.

        confined: it will run code that somebody handed in, so in mode hidden it must be bubblewrap's.
        """
        artifact, gpu = self.artifact, self.lane == "gpu"
        options = {"memory_gb": self.memory_gb * (4 if gpu else 1), "cpu_s": CPU_S, "gpu": gpu, **limits}
        harness = (*HARNESS, *sees)
        box = Box(
            inside,
            sees=tuple(ROOT / name for name in harness),
            words=artifact.words,
            confined=confined and self.mode == "hidden",
            **options,
        )
        return self.boxes.enter_context(box)

    def peer(self, source: Path, *, sees: Sequence[str | Path] = (), **limits) -> Box:
        """A box like the judged artifact's, with a file or folder of ours in it: what it is timed against."""
        artifact, gpu = self.artifact, self.lane == "gpu"
        options = {"memory_gb": self.memory_gb * (4 if gpu else 1), "cpu_s": CPU_S, "gpu": gpu, **limits}
        sees = (*(ROOT / name for name in artifact.harness), source, *sees)
        return self.boxes.enter_context(Box(artifact.inside, str(source), sees=sees, words=artifact.words, **options))

    def once(self, key: object, make: Callable[[], Any]) -> Any:
        """What `make` gave for this key, made once for all checks; an exception is raised again."""
        if key not in self.shared:
            try:
                self.shared[key] = (make(), None)
            except Exception as error:
                self.shared[key] = (None, error)
        made, error = self.shared[key]
        if error is not None:
            raise error
        return made

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
