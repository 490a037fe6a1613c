"""Who ran while the disk was full runs again at the end, alone, and what comes out then counts. No disk is filled here:
stand-ins take the place of what runs a submission and of what looks at the disk; the processes are real ones.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from autograder.classroom import grade, gradebook
from autograder.classroom.gradebook import Place
from autograder.classroom.student import write_state

STAGE = "stage8_box"
CLASS = ("ada", "eve", "bob", "cy")
"""In the order in which they run, two at once: ada meets eve's full disk, bob and cy begin when it has room again."""


class Shortage:
    """In the place of `_Shortage`: the disk was last full when a stand-in of a student said so."""

    def __init__(self, places):
        self._full = places[0] / "full"

    def start(self) -> None:
        """There is no thread."""

    stop = start

    @property
    def last(self) -> float:
        times = self._full.read_text().split() if self._full.exists() else []
        return max(map(float, times), default=float("-inf"))


def stand_in(root: str, stage: str, student: str, mark: str, fills: dict, log: str, state: str) -> None:
    """In the place of `grade_one`, in its process. `fills`: student -> how many of its runs fill the disk."""
    grading = Path(root) / ".grading"
    run = 1 + happened(grading).count(("begin", student))
    note(grading / "events", f"begin {student}")
    if run <= fills.get(student, 0):
        note(grading / "full", str(time.monotonic()))
    elif run == 1 and student == "ada" and fills:
        deadline = time.monotonic() + 60
        while not (grading / "full").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        Path(log).write_text("OSError: [Errno 28] No space left on device\n")
        note(grading / "events", f"end {student}")
        os._exit(1)
    elif run > 1:
        time.sleep(0.3)  # long enough to be seen beside another one, if it were not alone
    write_state(Path(state), status="executed", fingerprint=mark, seconds=0.0, reason="", notes=[f"run {run}"])
    note(grading / "events", f"end {student}")


def note(path: Path, line: str) -> None:
    with open(path, "ab", buffering=0) as file:  # one write: lines of two processes do not mix
        file.write(f"{line}\n".encode())


def happened(grading: Path) -> list[tuple[str, str]]:
    """("begin" or "end", student), one after the other."""
    path = grading / "events"
    return [tuple(line.split()) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Runs the class; gives the outcomes, what happened, and who was given zero points meanwhile."""
    place = Place(tmp_path, None)
    place.grading.mkdir()
    zeroed = []
    monkeypatch.setattr(grade, "grade_one", stand_in)
    monkeypatch.setattr(grade, "_Shortage", Shortage)
    monkeypatch.setattr(gradebook, "zero", lambda place, stage, student, comment: zeroed.append(student))
    monkeypatch.setattr(gradebook, "write_failed", lambda *_: None)

    def run(**fills: int):
        outcomes = list(grade._execute(place, STAGE, dict.fromkeys(CLASS, "mark"), 2, 60, fills, lambda running: None))
        return outcomes, happened(place.grading), zeroed

    return run


def runs(events: list[tuple[str, str]]) -> dict[str, int]:
    return {student: events.count(("begin", student)) for student in CLASS}


def test_who_met_the_full_disk_runs_again_alone_after_all_others(execute):
    outcomes, events, zeroed = execute(eve=1)
    assert runs(events) == {"ada": 2, "eve": 2, "bob": 1, "cy": 1}
    first, again = events[:-4], events[-4:]
    assert {student for _, student in first} == set(CLASS) and len(first) == 8, "the others are done by then"
    assert [what for what, _ in again] == ["begin", "end", "begin", "end"], "one at a time"
    assert again[0][1] == again[1][1] and again[2][1] == again[3][1]
    assert sorted(outcome.student for outcome in outcomes) == sorted(CLASS), "one outcome each"
    got = {outcome.student: (outcome.status, outcome.notes) for outcome in outcomes}
    assert got["ada"] == ("executed", ["run 2"]), "its first run failed, and does not count"
    assert got["eve"] == ("executed", ["run 2"])
    assert got["bob"] == got["cy"] == ("executed", ["run 1"])
    assert zeroed == []


@pytest.mark.timeout(120)
def test_who_fills_the_disk_each_time_does_not_run_for_ever(execute):
    outcomes, events, _ = execute(eve=9)
    assert runs(events) == {"ada": 2, "eve": 2, "bob": 1, "cy": 1}
    assert sorted((outcome.student, outcome.status) for outcome in outcomes) == [(s, "executed") for s in sorted(CLASS)]


def test_while_there_is_room_each_runs_once(execute):
    outcomes, events, _ = execute()
    assert set(runs(events).values()) == {1}
    assert {tuple(outcome.notes) for outcome in outcomes} == {("run 1",)}


@pytest.mark.parametrize("least_free, full", [(0, False), (1 << 62, True)])
def test_a_full_disk_is_seen_while_it_is(tmp_path, monkeypatch, least_free, full):
    monkeypatch.setattr(grade, "LEAST_FREE", least_free)
    begin = time.monotonic()
    shortage = grade._Shortage([tmp_path])
    shortage.start()
    while shortage.last < begin and time.monotonic() < begin + (20 if full else 0.3):
        time.sleep(0.01)
    shortage.stop()
    shortage.join()
    assert (shortage.last >= begin) == full
