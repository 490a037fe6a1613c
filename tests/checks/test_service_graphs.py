"""What CUDA graphs earn: the gain of one client, if launches of graphs were seen; with services of numbers only."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest

from autograder.checks import service_box, service_naive
from autograder.checks.base import OpenHere, Ramp
from autograder.checks.launch_counts import Launches
from autograder.checks.service_graphs import ServiceGraphs, median_of
from autograder.milestones.stage4 import SERVICE
from autograder.rejected import Rejected
from course.serving.loop import RECORD

CHECK = ServiceGraphs(Ramp(zero=1.0, full=1.2), pairs=5, counted=10)


class Timed:
    """A service that takes so many ms for each request, give or take a tenth."""

    def __init__(self, milliseconds: float):
        self.milliseconds, self.seen = milliseconds, []

    def one_by_one(self, files):
        self.seen += files
        return [{} for _ in files]

    def closed(self, files, clients, seconds, **options):
        self.seen += files
        records = np.zeros(40, RECORD)
        records["status"] = 200
        records["done"] = self.milliseconds / 1e3 * np.random.default_rng(0).uniform(0.9, 1.1, len(records))
        return SimpleNamespace(records=records, failed=0)


@pytest.fixture
def judged(monkeypatch):
    def measure(service_ms, plain_ms=2.0, before_ms=2.0, launches=Launches(10, 20, 2), wrong=0):
        service, plain, drawn = Timed(service_ms), Timed(plain_ms), []

        def draw(purpose, count):
            drawn.append(purpose)
            return SimpleNamespace(files=[f"{purpose} {n}" for n in range(count)], pixels=np.zeros(count))

        monkeypatch.setattr(service_box, "judged", lambda at: service)
        monkeypatch.setattr(service_box, "only", lambda at, one: contextlib.nullcontext())
        monkeypatch.setattr(service_box, "wrong_answers", lambda *_: (wrong, 8, "another network" if wrong else ""))
        monkeypatch.setattr(service_naive, "plain", lambda at: plain)
        monkeypatch.setattr(service_naive, "plain_alone", lambda at: before_ms)
        monkeypatch.setattr(ServiceGraphs, "_launches", lambda self, at: launches)
        at = SimpleNamespace(path="m4a", step=lambda text: contextlib.nullcontext(), draw=draw)
        share, measured, message, values = CHECK.measure(at)
        assert len(service.seen) == len(set(service.seen)), "a file was sent twice"
        return share, f"{measured} {message}", values

    return measure


@pytest.mark.parametrize("service_ms, share", [(1.5, 1.0), (2 / 1.1, 0.5), (2.0, 0.0), (3.0, 0.0)])
def test_the_gain_of_one_client_earns_the_points(judged, service_ms, share):
    got, _, values = judged(service_ms)
    assert got == pytest.approx(share, abs=0.01)
    assert values["ratio"] == pytest.approx(2.0 / service_ms) and len(values["samples_ms"]["without"]) == CHECK.pairs


@pytest.mark.parametrize(
    "launches, says",
    [
        (Launches(0, 600, 2), "does not replay a graph"),
        (Launches(9, 0, 2), "does not replay"),
        (Launches(10, 600, 2), "not in the graph"),
    ],
)
def test_a_fast_service_without_graphs_earns_nothing(judged, launches, says):
    got, words, _ = judged(1.0, launches=launches)
    assert got == 0 and says in words


def test_wrong_answers_earn_nothing(judged):
    got, words, _ = judged(1.0, wrong=3)
    assert got == 0 and "3 of 8 answers were wrong" in words


def test_a_process_that_could_not_be_counted_is_said(judged):
    got, words, _ = judged(1.0, launches=Launches(0, 0, 1, ("CUPTI gave error 39",)))
    assert got == 0 and "CUPTI gave error 39" in words


def test_work_left_on_the_gpu_is_no_gain(judged):
    """It would slow the other service down while its own processes stand still."""
    with pytest.raises(Rejected, match="not free while your service stands still"):
        judged(2.0, plain_ms=3.0)


def test_launches_that_nobody_counted_leave_the_check_open(monkeypatch, tmp_path):
    """A machine without CUPTI costs no learner points."""
    at = SimpleNamespace(
        boxes=contextlib.ExitStack(),
        draw=lambda purpose, count: SimpleNamespace(files=[b""] * count),
        path="m4a",
        step=lambda text: contextlib.nullcontext(),
    )
    watched = SimpleNamespace(one_by_one=lambda files: [], box=SimpleNamespace(home=tmp_path, close=lambda: None))
    monkeypatch.setattr(service_box, "repository", lambda at: tmp_path)
    monkeypatch.setattr(service_box, "start", lambda *_, **__: watched)
    monkeypatch.setattr(service_box, "only", lambda at, one: contextlib.nullcontext())
    monkeypatch.setattr("autograder.checks.launch_counts.cupti", lambda: tmp_path / "libcupti.so")
    with pytest.raises(OpenHere, match="did not load the library"):
        CHECK._launches(at)


def test_on_a_cpu_it_stays_open_and_the_rest_does_not():
    open_here = [check.id for check in SERVICE.checks if "cpu" not in check.lanes]
    assert open_here == ["graphs"] and sum(check.points for check in SERVICE.checks if "cpu" in check.lanes) == 20
    assert all("gpu" in check.lanes for check in SERVICE.checks)


def test_the_median_of_pairs_keeps_its_interval():
    """Pairs that scatter as on the H200: a gain of a tenth is seen, and so is that there is none."""
    scatter = np.random.default_rng(1).normal(0, 0.1, 24)
    for gain in (1.1, 1.0):
        ratio, low, high = median_of(gain + scatter)
        assert low < ratio < high and low < gain < high and high - low < 0.15
    assert median_of([float("nan")] * 3) == (0, 0, 0)
