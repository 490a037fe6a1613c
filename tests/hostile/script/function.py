"""A small check of a learner's function, right and fast: what the hostile scripts are tried on.

`smooth(x)`: float32 [n] -> the mean of each value and its two neighbours, edges repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from autograder.artifacts.base import Artifact
from autograder.artifacts.script import Script
from autograder.checks.base import Bench, Measure, Outcome, Ramp
from autograder.checks.race import Racer, race
from autograder.milestones import Check, Milestone
from autograder.tasks.base import Seeds
from autograder.tasks.classifier import Classifier

SIZE = 60_000
SECONDS = 10.0
PEER = Path(__file__).with_name("peer.py")


def smooth(x: np.ndarray) -> np.ndarray:
    padded = np.pad(x.astype(np.float64), 1, mode="edge")
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3


class Inputs:
    """Fresh ones each time: no two calls see the same."""

    def __init__(self, at: Bench):
        self.rng = np.random.default_rng(Seeds(at.mode, "ada", "script", b"k" * 32)(at.check))

    def __call__(self, count: int) -> list[np.ndarray]:
        return [self.rng.standard_normal(SIZE).astype(np.float32) for _ in range(count)]


def ask(box, inputs: list[np.ndarray]) -> list[np.ndarray]:
    most = (1 << 20) + 2 * sum(
        x.nbytes for x in inputs
    )  # float64, too; a quick machine makes more calls than Box.ask expects by itself
    head = {"function": "smooth", "groups": [1] * len(inputs)}
    return box.ask("call", inputs, seconds=SECONDS, most_answer=most, **head)[1]


def why_wrong(inputs: list[np.ndarray], answers: list[np.ndarray]) -> str:
    if len(answers) != len(inputs):
        return f"{len(answers)} answers to {len(inputs)} inputs."
    for x, answer in zip(inputs, answers):
        if answer.shape != x.shape or not np.abs(answer - smooth(x)).max() < 1e-5:  # NaN is wrong, too
            return "An answer is wrong."
    return ""


@dataclass(frozen=True)
class Right(Measure):
    judges: ClassVar[type[Artifact]] = Script

    def wanted(self) -> str:
        return "smooth(x) is right"

    def measure(self, at: Bench) -> Outcome:
        inputs = Inputs(at)(4)
        problem = why_wrong(inputs, ask(at.box(), inputs))
        return float(not problem), "four inputs", problem, {}


@dataclass(frozen=True)
class Fast(Measure):
    ratio: Ramp
    judges: ClassVar[type[Artifact]] = Script

    def wanted(self) -> str:
        return f"times as fast as the given one: {self.ratio.text()}"

    def measure(self, at: Bench) -> Outcome:
        ours, peer = at.box(), at.peer(PEER)
        found, problem = race(
            Racer(ours, lambda x: ask(ours, x)),
            Racer(peer, lambda x: ask(peer, x)),
            Inputs(at),
            why_wrong,
            lost=self.ratio.zero - self.ratio.dead_band,  # eight rounds may be a little too low by chance
            won=self.ratio.full,
        )
        if problem:
            return 0.0, "no time counts", problem, {}
        share = self.ratio.share(found.value, found.low, found.high)
        return share, f"{found.value:.2f} times ({found.low:.2f} to {found.high:.2f})", "", {"ratio": found.value}


def _check(id: str, kind: Measure, **more) -> Check:
    return Check(id, id, 4, {"cpu": kind}, on_fail="", hints=("a", "b", "c"), **more)


MILESTONE = Milestone(
    id="test.script",
    stage="s",
    notebook="n",
    grade_id="g",
    title="Script",
    task=Classifier(),
    artifacts=(Script("smooth.py"),),
    checks=(_check("right", Right()), _check("fast", Fast(Ramp(1.0, 2.0, 0.1)), needs=("right",))),
    memory_gb=1.0,
)
