"""Two kinds of artifact and a kind of check of one's own, declared here and nowhere else, graded through nbgrader."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from autograder.artifacts import file
from autograder.artifacts.base import Artifact, Taken
from autograder.checks.base import Bench, Measure, Outcome, Problem
from autograder.measuring import measure
from autograder.milestones import Check, Milestone
from autograder.sandbox import bwrap
from autograder.tasks.base import Task
from course.errors import CourseError
from tests.classroom import box


@dataclass(frozen=True)
class Poems(Artifact):
    """A folder of texts, written by hand."""

    built: ClassVar[bool] = False

    def take(self, workdir: Path, to: Path) -> Taken:
        return file.take_folder(workdir, self.path, to, self.max_mb)


@dataclass(frozen=True)
class Numbers(Artifact):
    """A file of numbers, which the notebook writes."""

    built: ClassVar[bool] = True

    def take(self, workdir: Path, to: Path) -> Taken:
        return file.take(workdir, self.path, to, self.max_mb, refuse=lambda name, data: None)


@dataclass(frozen=True)
class Lines(Measure):
    """How many lines the texts have. Counting bytes needs no box; what is parsed is parsed in one (`at.box`)."""

    wanted_lines: int
    judges: ClassVar[type[Artifact]] = Poems

    def problems(self, task: Task) -> Iterator[Problem]:
        yield from super().problems(task)
        if self.wanted_lines < 1:
            yield f"wanted_lines={self.wanted_lines}.", "It must be above 0."

    def wanted(self) -> str:
        return f"{self.wanted_lines} lines"

    def measure(self, at: Bench) -> Outcome:
        count = sum(path.read_bytes().count(b"\n") for path in sorted(at.taken[at.path].path.rglob("*.txt")))
        return min(1.0, count / self.wanted_lines), f"{count} lines", "Too few lines.", {"lines": count}


@dataclass(frozen=True)
class Size(Measure):
    """How large the file of numbers is."""

    judges: ClassVar[type[Artifact]] = Numbers

    def wanted(self) -> str:
        return "36 bytes"

    def measure(self, at: Bench) -> Outcome:
        size = at.taken[at.path].bytes
        return float(size == 36), f"{size} bytes", "The notebook did not write nine numbers.", {}


def check(id: str, points: float, kind: Measure) -> Check:
    return Check(id, id.title(), points, {"cpu": kind, "gpu": kind}, on_fail="", hints=("a", "b", "c"))


MILESTONE = Milestone(
    id="box.open",
    stage=box.STAGE,
    notebook=box.NOTEBOOK,
    grade_id="m-box",
    title="Open",
    artifacts=(Numbers("artifacts/answer.bin"), Poems("poems")),
    checks=(check("size", 8, Size()), check("lines", 12, Lines(4))),
)
STALE = {"artifacts/answer.bin": b"x" * 36}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    if bwrap.available():
        pytest.skip(f"no sandbox: {bwrap.available()}")
    root = box.make_course(tmp_path_factory.mktemp("open") / "course", __name__)
    box.hand_in(root, "full", box.solved(root), {"poems/a.txt": "one\ntwo\n", "poems/deep/b.txt": "three\nfour\n"})
    box.hand_in(root, "half", box.solved(root), {"poems/a.txt": "one\ntwo\n"})
    box.hand_in(root, "stale", box.blank(root), {**STALE, "poems/a.txt": "1\n2\n3\n4\n5\n"})
    box.hand_in(root, "none", box.blank(root), STALE)
    box.hand_in(root, "one-of-two", box.solved(root))
    command = (sys.executable, str(Path(__file__)))
    return root, box.run(root, milestones=[MILESTONE], measure_command=command)


@pytest.mark.parametrize("student, points", [("full", 20), ("half", 14), ("stale", 12), ("none", 0), ("one-of-two", 8)])
def test_each_gets_its_points_and_what_was_written_by_hand_outlives_the_notebook(graded, student, points):
    root, outcomes = graded
    assert (outcomes[student].status, box.scores(root, student)["m-box"]) == ("measured", points), outcomes[student]


def test_one_refused_artifact_takes_its_own_checks_only_and_says_why(tmp_path):
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "answer.bin").write_bytes(bytes(36))
    (tmp_path / "poems").mkdir()
    (tmp_path / "poems" / "a.txt").symlink_to("/etc/passwd")
    report = measure.measure(MILESTONE, tmp_path, lane="cpu")
    assert [result.points for result in report.checks] == [8, 0]
    assert "poems/a.txt is a link" in report.checks[1].message and report.status == "measured"
    assert set(report.artifacts) == {"artifacts/answer.bin"}


def test_both_refused_is_a_rejected_submission(tmp_path):
    report = measure.measure(MILESTONE, tmp_path, lane="cpu")
    assert (report.status, report.points) == ("rejected", 0) and "is missing" in report.reason


@pytest.mark.parametrize(
    "kind, artifacts, says",
    [
        (Lines(0), MILESTONE.artifacts, "wanted_lines=0"),
        (Lines(1), MILESTONE.artifacts[:1], "judges no artifact"),
        (Lines(1), (Poems("a/../b"),), "no plain path"),
        (Lines(1), (Poems("a"), Numbers("a")), "one path"),
    ],
)
def test_its_declaration_is_checked_like_every_other(kind, artifacts, says):
    with pytest.raises(CourseError, match=says):
        Milestone("a", "s", "n", "g", "t", artifacts, (check("c", 1, kind),))


if __name__ == "__main__":
    sys.exit(measure.main(sys.argv[1:], [MILESTONE]))
