"""The ladder of rates: where it ends for what a service bears, and that a stumble makes nobody look good."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from autograder.checks import service_box, service_naive
from autograder.checks.base import Ramp
from autograder.checks.service_goodput import ServiceGoodput
from course.serving import arrivals

MOST = 10.0


@pytest.fixture
def judged(monkeypatch):
    """measure() on services that bear so many requests/s; `stumbles`: at its first climb the naive one bears hardly any."""

    def measure(naive: float, service: float, stumbles: bool = False, **changes):
        limits = {
            "the naive service": 0.6 * MOST if stumbles else naive,
            "the naive service again": naive,
            "m4a": service,
        }

        def bears(self, at, one, rate, deadline, name, rates):
            rates.append(rate)
            return (rate if rate <= limits[name.rpartition(" ")[0]] else None), changes.get("why", "")

        at = SimpleNamespace(path="m4a", step=lambda text: contextlib.nullcontext())
        monkeypatch.setattr(ServiceGoodput, "_bears", bears)
        monkeypatch.setattr(service_box, "judged", lambda at: None)
        monkeypatch.setattr(service_naive, "service", lambda at: None)
        monkeypatch.setattr(service_naive, "capacity", lambda at: (MOST, 50.0))
        share, _, message, values = ServiceGoodput(Ramp(zero=1.1, full=1.5)).measure(at)
        return share, message, values

    return measure


@pytest.mark.parametrize("bears, rung", [(20.1, 20.0), (14.5, 14.0), (13.9, 12.0), (8.6, 8.5), (200.0, 120.0)])
def test_it_ends_at_the_last_rung_that_is_borne(judged, bears, rung):
    _, _, values = judged(naive=8.6, service=bears)
    assert values["service"] == pytest.approx(rung) and values["naive"] == pytest.approx(8.5)


def test_what_bears_nothing_gets_nothing(judged):
    share, _, values = judged(naive=8.6, service=1.0)
    assert (share, values["service"]) == (0, 0)


def test_a_stumble_at_the_naive_service_helps_nobody(judged):
    """A copy of the naive service had 0.8 of the points when the machine was busy at the wrong moment."""
    share, _, values = judged(naive=10.1, service=10.1, stumbles=True)
    assert values["ratio"] == pytest.approx(1) and share == 0


def test_a_wrong_answer_ends_it(judged):
    share, message, _ = judged(naive=8.6, service=20.0, why="another image's logits")
    assert share == 0 and "another image's logits" in message


@dataclass
class Queue:
    """A service that answers one request after the other, `rate` a second, and what its traffic came to."""

    rate: float

    def open(self, files, rate, seconds, seed=0, **options):
        due = arrivals.poisson(rate, seconds, seed)
        done, free = [], 0.0
        for at in due:
            free = max(free, at) + 1 / self.rate
            done.append(free)
        waits = 1e3 * (np.array(done) - due)
        return SimpleNamespace(
            goodput=lambda most_ms: (waits <= most_ms).sum() / seconds, sent=len(due), failed=0, p99=0.0, doubt=""
        )


@pytest.mark.parametrize("alone_ms", [10, 125, 400])
def test_a_slow_machine_does_not_let_a_queue_pass_for_speed(monkeypatch, alone_ms):
    """At 125 ms an image and 3 s of a rate a service took a fifth more than it can do and was late with nothing; at 400 ms twice as much."""
    most = 1e3 / alone_ms
    naive, twice = Queue(most), Queue(2 * most)
    monkeypatch.setattr(service_box, "judged", lambda at: twice)
    monkeypatch.setattr(service_box, "only", lambda at, one: contextlib.nullcontext())
    monkeypatch.setattr(service_box, "wrong_answers", lambda *what: ("", 0, ""))
    monkeypatch.setattr(service_naive, "service", lambda at: naive)
    monkeypatch.setattr(service_naive, "capacity", lambda at: (most, alone_ms))
    at = SimpleNamespace(
        path="m4a",
        step=lambda text: contextlib.nullcontext(),
        draw=lambda purpose, count: SimpleNamespace(files=[], pixels=[]),
    )
    for seconds in (3.0, 4.0):
        share, _, _, values = ServiceGoodput(Ramp(zero=1.1, full=1.5), seconds=seconds).measure(at)
        assert values["naive"] <= 1.25 * most and values["ratio"] >= 1.6 and share == 1, values
