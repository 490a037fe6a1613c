"""A class through nbgrader: scores, lateness, crashes, and runs that were ended."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook

from autograder.classroom.feedback import main as feedback_command
from autograder.classroom.guard import only_one
from autograder.classroom.preprocessors import drop_links
from autograder.sandbox import bwrap
from course.errors import CourseError
from course.paths import ROOT
from tests.classroom import box  # noqa: E402

DUE, ON_TIME, LATE = "2030-01-01 12:00:00 UTC", "2030-01-01 11:00:00 UTC", "2030-01-03 10:00:00 UTC"


def book(root: Path) -> Gradebook:
    return Gradebook(f"sqlite:///{root}/.grading/gradebook.db?timeout=120", "trt-course")


def with_artifact(root: Path, code: str) -> nbformat.NotebookNode:
    notebook = box.solved(root)
    box.cell(notebook, "build").source = box.BUILD + f"\nPath('artifacts/answer.bin').write_bytes({code})"
    return notebook


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> tuple[Path, dict]:
    """A class of six, graded once. Tests may only read it, or change what they alone look at."""
    if bwrap.available():
        pytest.skip(f"no sandbox: {bwrap.available()}")
    root = box.make_course(tmp_path_factory.mktemp("flow") / "course")
    box.run(root)  # nobody handed in: makes the gradebook
    with book(root) as gradebook:
        gradebook.update_or_create_assignment(box.STAGE, duedate=DUE)
    full = box.solved(root)
    box.cell(full, "why").source = "The product is associative."
    box.hand_in(root, "full", full, time=ON_TIME)
    box.hand_in(root, "late", box.solved(root), {"submission_secret.txt": "of nbgrader submit"}, time=LATE)
    box.hand_in(root, "blank", box.blank(root), time=ON_TIME)
    boast = "\nimport autograder\nautograder.selfcheck = lambda *a: 20.0"  # counts for nothing, measured or not
    half = with_artifact(root, "b'\\x00\\x00\\x80\\x40'")
    box.cell(half, "build").source += boast
    box.hand_in(root, "half", half)
    box.hand_in(root, "breaks-grader", with_artifact(root, "b'break the grader'"))
    box.hand_in(root, "own-helper", box.solved(root), {"helper.py": "LIMIT = 99\n"})
    return root, box.run(root)


def test_points_arrive_as_floats_and_a_blank_release_earns_none(graded):
    root, outcomes = graded
    assert {outcome.status for outcome in outcomes.values()} == {"measured"}
    assert box.scores(root, "full") == {"fold-test": 4.0, "partial-test": 2.0, "m-box": 20.0, "why": None}
    assert box.scores(root, "half")["m-box"] == 7.5
    assert set(box.scores(root, "blank").values()) == {0.0}


def test_an_answer_in_words_waits_for_a_person(graded):
    with book(graded[0]) as gradebook:
        assert gradebook.find_grade("why", box.NOTEBOOK, box.STAGE, "full").needs_manual_grade


def test_the_late_penalty_counts_the_measured_points(graded):
    with book(graded[0]) as gradebook:
        submission = gradebook.find_submission(box.STAGE, "late")
        assert (submission.score, submission.late_submission_penalty) == (26.0, 5.2)  # two started days: 20 %
        assert not gradebook.find_submission(box.STAGE, "full").late_submission_penalty


def test_a_measurement_that_breaks_gives_no_points_and_asks_for_a_person(graded):
    root, outcomes = graded
    assert box.scores(root, "breaks-grader")["m-box"] == 0.0
    with book(root) as gradebook:
        assert gradebook.find_grade("m-box", box.NOTEBOOK, box.STAGE, "breaks-grader").needs_manual_grade
    assert "without a report" in outcomes["breaks-grader"].notes[0]


def test_helper_files_are_the_instructors(graded):
    folder = graded[0] / ".grading" / "autograded" / "own-helper" / box.STAGE
    assert "LIMIT = 3" in (folder / "helper.py").read_text()


def test_feedback_shows_the_measured_score(graded):
    root, _ = graded
    subprocess.run(
        [sys.executable, "-m", "nbgrader", "generate_feedback", box.STAGE, "--student", "half"],
        cwd=root,
        check=True,
        capture_output=True,
        timeout=120,
        env={**os.environ, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"},
    )
    page = (root / ".grading" / "feedback" / "half" / box.STAGE / f"{box.NOTEBOOK}.html").read_text()
    assert "The box: 7.5 of 20 points" in page


def test_feedback_is_released_to_those_of_the_exchange_and_the_others_are_named(graded, tmp_path, capsys):
    """Here: two of three submissions were put into .grading/submitted by hand; nbgrader's own command ends at the first."""
    root, _ = graded
    exchange = tmp_path / "exchange"
    exchange.mkdir(mode=0o777)
    config = root / "nbgrader_config.py"
    before = config.read_text()
    config.write_text(before + f"c.Exchange.root = {str(exchange)!r}\n")
    students = [word for name in ("blank", "half", "late") for word in ("--student", name)]
    try:
        assert feedback_command([box.STAGE, "--release", *students, "--root", str(root)]) == 1
        told = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
        assert told["late"].endswith("; released"), told
        assert "submission_secret.txt is missing" in told["blank"] and ".grading/feedback/blank" in told["blank"]
        assert "timestamp.txt and submission_secret.txt are missing" in told["half"]
        assert len(list((exchange / "trt-course" / "feedback").glob("*.html"))) == 1
        assert feedback_command([box.STAGE, "--release", "--student", "late", "--root", str(root)]) == 0
    finally:
        config.write_text(before)


def test_a_second_run_grades_only_what_changed(graded):
    root, _ = graded
    with book(root) as gradebook:
        gradebook.find_grade("why", box.NOTEBOOK, box.STAGE, "full").manual_score = 4.0
        gradebook.db.commit()
    folder = root / ".grading" / "submitted" / "own-helper" / box.STAGE
    (folder / f"{box.NOTEBOOK}.ipynb").write_text("{broken")
    outcomes = box.run(root)
    assert [name for name, outcome in outcomes.items() if not outcome.skipped] == ["own-helper"]
    assert set(box.scores(root, "own-helper").values()) == {0.0}
    assert "no valid JSON" in outcomes["own-helper"].notes[0]
    with book(root) as gradebook:
        assert gradebook.find_grade("why", box.NOTEBOOK, box.STAGE, "full").manual_score == 4.0


def test_a_grader_that_is_killed_loses_nothing(graded, tmp_path):
    root, _ = graded
    script = tmp_path / "grader.py"
    script.write_text(
        f"import sys\nsys.path[:0] = [{str(ROOT)!r}]\n"
        "from pathlib import Path\nfrom tests.classroom import box\n"
        f"if __name__ == '__main__':\n    box.run(Path({str(root)!r}), force=True)\n"
    )
    before = {name: box.scores(root, name) for name in ("full", "late", "half")}
    logs = root / ".grading" / "logs" / box.STAGE
    shutil.rmtree(logs)
    grader = subprocess.Popen([sys.executable, str(script)])
    deadline = time.monotonic() + 60
    while not list(logs.glob("*.log")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)  # workers are inside nbgrader now
    grader.send_signal(signal.SIGKILL)
    grader.wait()
    kept = [path for path in (root / ".grading/state" / box.STAGE).glob("*.json") if ".feedback." not in path.name]
    states = [json.loads(path.read_text())["status"] for path in kept]
    assert len(states) < 6 or "executed" in states, "the kill came too late to test anything"
    outcomes = box.run(root)
    assert {outcome.status for outcome in outcomes.values()} == {"measured"}
    assert {name: box.scores(root, name) for name in before} == before


def test_a_crash_gives_zeros_and_a_comment_never_the_old_score(graded):
    root, _ = graded
    before = box.scores(root, "late")
    outcome = box.run(root, students=["late"], force=True, limit_s=0.2)["late"]
    assert outcome.status == "failed" and "longer than" in outcome.reason
    assert before["m-box"] == 20.0 and set(box.scores(root, "late").values()) == {0.0}
    with book(root) as gradebook:
        assert "Grading failed" in gradebook.find_comment("fold", box.NOTEBOOK, box.STAGE, "late").auto_comment
        assert not gradebook.find_submission(box.STAGE, "late").late_submission_penalty
    shown = root / ".grading/autograded/late" / box.STAGE / f"{box.NOTEBOOK}.ipynb"
    assert "Grading failed" in shown.read_text()
    assert box.run(root, students=["late"])["late"].status == "measured", "a failed one is tried again"
    assert box.scores(root, "late") == before


def test_nbgraders_own_command_takes_the_same_steps(graded):
    root, _ = graded
    (root / ".grading/state" / box.STAGE / "half.json").unlink()
    subprocess.run(
        [sys.executable, "-m", "nbgrader", "autograde", box.STAGE, "--student", "half", "--force"],
        cwd=root,
        check=True,
        capture_output=True,
        timeout=120,
    )
    assert (box.scores(root, "half")["fold-test"], box.scores(root, "half")["m-box"]) == (4.0, 0.0)
    box.run(root, students=["half"], execute=False, force=True)
    assert box.scores(root, "half")["m-box"] == 7.5


def test_running_and_measuring_can_be_done_apart(graded):
    root, _ = graded
    box.run(root, students=["half"], force=True, measure=False)
    assert (box.scores(root, "half")["fold-test"], box.scores(root, "half")["m-box"]) == (4.0, 0.0)
    assert box.run(root, students=["half"], execute=False)["half"].status == "measured"
    assert box.scores(root, "half")["m-box"] == 7.5


def test_without_a_sandbox_nothing_is_run(tmp_path, monkeypatch):
    root = box.make_course(tmp_path / "course")
    monkeypatch.setattr(bwrap, "available", lambda: "bwrap is not installed")
    with pytest.raises(bwrap.NoSandboxError):
        box.run(root)


def test_two_graders_of_one_stage_do_not_meet(tmp_path):
    with only_one(tmp_path / "lock", "the grader of stage1"):
        with pytest.raises(CourseError, match="at work already"):
            with only_one(tmp_path / "lock", "the grader of stage1"):
                pass


def test_links_are_removed_before_nbgrader_copies(tmp_path):
    (tmp_path / "secret").write_text("marks")
    (tmp_path / "anna").mkdir()
    (tmp_path / "anna" / "data.txt").symlink_to(tmp_path / "secret")
    drop_links("stage", "anna", [str(tmp_path / "anna" / "x.ipynb")])
    assert list((tmp_path / "anna").iterdir()) == [] and (tmp_path / "secret").exists()


def _write(url: str, name: str, rounds: int) -> None:
    for number in range(rounds):
        with Gradebook(url, "trt-course") as gradebook:
            gradebook.update_or_create_student(f"{name}-{number}")
            submission = gradebook.update_or_create_submission("stage", f"{name}-{number}")
            for notebook in submission.notebooks:
                for grade in notebook.grades:
                    grade.auto_score = 1.0
            gradebook.db.commit()


def test_parallel_writers_lose_no_write(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{sys.prefix}/bin:{os.environ['PATH']}")  # nbgrader calls alembic
    url = f"sqlite:///{tmp_path}/gradebook.db?timeout=120"
    with Gradebook(url, "trt-course") as gradebook:
        gradebook.add_assignment("stage")
        gradebook.add_notebook("lesson", "stage")
        gradebook.add_grade_cell("test", "lesson", "stage", max_score=1, cell_type="code")
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(url, f"w{n}", 3)) for n in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    with Gradebook(url, "trt-course") as gradebook:
        assert sum(s.score for s in gradebook.assignment_submissions("stage")) == 24.0
