"""The judge's side of a plugin's times: the boxes are stand-ins with a clock of their own, what is measured is the judge."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest

from autograder.checks import plugin_gpu, plugin_speed
from autograder.checks.base import Ramp
from autograder.checks.plugin_speed import PluginSpeed
from autograder.milestones.stage3 import MISH
from autograder.rejected import Rejected
from autograder.tasks.base import Seeds

MS = {"plugin": 1.0, "copy": 0.8, "standard": 1.1, "unfused": 3.0, "framework": 4.0, "cpu": 90.0}
FIXED_MS = 5.0


class Clock:
    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class FakeBox:
    """What plugin_gpu_inside does, in NumPy; `answer` computes the outputs."""

    def __init__(self, clock: Clock, ms: dict[str, float], answer):
        self.clock, self.ms, self.answer, self.paused = clock, ms, answer, False

    def ask(self, command: str, arrays=(), *, seconds: float, **head):
        assert not self.paused, command
        if command == "fill":
            rng = np.random.default_rng(head["seed"])
            self.x = rng.normal(0, 4, (head["slots"], head["count"])).astype(np.float16)
            self.y = np.full_like(self.x, np.nan)
        elif command == "go":
            self.clock.now += (FIXED_MS + head["runs"] * self.ms[head["what"]]) / 1e3
            if head["what"] == "plugin":
                self.y = self.answer(self.x, self.y, head["beta"])
        elif command == "sample":
            return {}, [(self.y if head["of"] == "outputs" else self.x)[:, arrays[0]]]
        return {}, []

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def close(self) -> None: ...


def right(x, y, beta):
    return MISH.answers(x, beta=beta).astype(np.float16)


def measured(monkeypatch, against: str, answer=right, **ms: float):
    clock = Clock()
    monkeypatch.setattr(plugin_speed, "time", clock)
    monkeypatch.setattr(plugin_gpu, "library", lambda at: np.zeros(1, np.uint8))
    monkeypatch.setattr(plugin_gpu, "box", lambda at, plugin: FakeBox(clock, MS | ms, answer))
    monkeypatch.setattr(plugin_gpu, "engine", lambda *arguments: [])
    ramp = Ramp(0.4, 0.85) if against == "copy" else Ramp(1.0, 2.0)
    at = SimpleNamespace(
        task=MISH,
        path="m3a",
        limits_s={"run": 1, "build": 1},
        draw=lambda purpose, count: MISH.draw(Seeds("public", "", "t"), purpose, count),
        once=lambda key, make: make(),
        step=lambda text: contextlib.nullcontext(),
    )
    return PluginSpeed(ramp, against, count=5000, runs=50, rounds=10).measure(at)


def test_the_fixed_part_of_a_request_counts_for_nothing(monkeypatch):
    share, words, message, values = measured(monkeypatch, "unfused")
    assert share == 1 and message == "" and "3.00" in words
    assert values["unfused"]["value"] == pytest.approx(3.0)
    assert values["cpu"]["value"] == pytest.approx(90.0)
    assert values["copy"]["value"] == pytest.approx(0.8)


@pytest.mark.parametrize(("ms", "share"), [(0.4, 0), (0.5, 0.222), (0.625, 0.5), (0.85, 1)])
def test_a_share_of_the_copys_speed(monkeypatch, ms, share):
    assert measured(monkeypatch, "copy", copy=ms)[0] == pytest.approx(share, abs=1e-3)


def test_no_faster_than_unfused_is_nothing(monkeypatch):
    assert measured(monkeypatch, "unfused", unfused=0.99)[0] == 0


def test_faster_than_memory_is_not_believed(monkeypatch):
    for against in ("copy", "unfused"):
        share, _, message, _ = measured(monkeypatch, against, plugin=0.5)
        assert share == 0 and "faster than a copy" in message


@pytest.mark.parametrize(
    "answer",
    [
        lambda x, y, beta: y,
        lambda x, y, beta: x,
        lambda x, y, beta: np.zeros_like(x),
        lambda x, y, beta: np.repeat(right(x[:1], y, beta), len(x), 0),
        lambda x, y, beta: np.concatenate([right(x[:-1], y, beta), y[-1:]]),
        lambda x, y, beta: right(x, y, 1.0),
    ],
    ids=["nothing", "copies", "zeros", "one-of-four", "three-of-four", "other-beta"],
)
def test_a_time_without_the_work_does_not_count(monkeypatch, answer):
    with pytest.raises(Rejected, match="timed run is wrong"):
        measured(monkeypatch, "copy", answer)


def test_stale_answers_do_not_count(monkeypatch):
    kept = []

    def stale(x, y, beta):
        kept.append(right(x, y, beta))
        return kept[0]

    with pytest.raises(Rejected, match="timed run is wrong"):
        measured(monkeypatch, "copy", stale)
