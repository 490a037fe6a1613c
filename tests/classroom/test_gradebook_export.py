"""Exports, held against what Canvas and Gradescope publish about their formats."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys

import pytest
from nbgrader.api import Gradebook
from traitlets.config import Config

from autograder.classroom.canvas import canvas_csv
from autograder.classroom.export import gradescope, main, plain_csv, run_autograder
from autograder.classroom.gradebook import Place
from autograder.classroom.late import PerDay
from autograder.classroom.marks import rows
from autograder.classroom.untrusted import student_id
from autograder.measuring.report import CheckResult, Report
from course.errors import CourseError

STAGE = "stage1_converter"
pytestmark = pytest.mark.filterwarnings("ignore:Object of type")  # nbgrader's own, when it adds a submission


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    """Four students: a late one, one who waits for a person, one without a submission, and one with a spiteful name."""
    root = tmp_path_factory.mktemp("export")
    url = f"sqlite:///{root}/.grading/gradebook.db?timeout=120"
    (root / ".grading").mkdir()
    (root / "nbgrader_config.py").write_text(
        "from autograder.classroom.late import PerDay\nc = get_config()\nc.AssignLatePenalties.plugin_class = PerDay\n"
        f"c.CourseDirectory.db_url = {url!r}\nc.CourseDirectory.course_id = 'trt-course'\n"
    )
    before, os.environ["PATH"] = os.environ["PATH"], f"{sys.prefix}/bin:{os.environ['PATH']}"  # nbgrader calls alembic
    try:
        with Gradebook(url, "trt-course") as book:
            book.add_assignment(STAGE, duedate="2030-01-01 12:00 UTC")
            book.add_notebook("01_export", STAGE)
            book.add_grade_cell("fold-test", "01_export", STAGE, max_score=4, cell_type="code")
            book.add_grade_cell("m-box", "01_export", STAGE, max_score=20, cell_type="code")
            book.add_solution_cell("fold-test", "01_export", STAGE)
            people = {
                "ada": ("Ada", "Lovelace", "71"),
                "li": ("黎", "李, jr.", "72"),
                "none": ("No", "Work", "73"),
                "evil": ('=HYPERLINK("http://x")', "@SUM", "74"),
            }
            for student, (first, last, lms) in people.items():
                book.add_student(student, first_name=first, last_name=last, lms_user_id=lms)
                if student != "none":
                    when = "2030-01-01 20:00 UTC" if student == "ada" else "2030-01-01 11:00 UTC"
                    book.add_submission(STAGE, student, timestamp=when)
                    for name, score in (("fold-test", 4.0), ("m-box", 7.5)):
                        grade = book.find_grade(name, "01_export", STAGE, student)
                        grade.auto_score, grade.needs_manual_grade = score, False
            book.find_grade("m-box", "01_export", STAGE, "li").needs_manual_grade = True
            book.find_comment("fold-test", "01_export", STAGE, "li").auto_comment = "Well done."
            book.db.commit()
    finally:
        os.environ["PATH"] = before
    config = Config()
    config.CourseDirectory.db_url, config.CourseDirectory.course_id = url, "trt-course"
    config.AssignLatePenalties.plugin_class = PerDay
    return Place(root, config)


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def check_canvas(table: list[list[str]]) -> None:
    """The rules of Canvas's gradebook import."""
    header, points, *students = table
    assert header[:5] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    assert len(set(header)) == len(header) > 5
    assert points[0] == "    Points Possible" and points[1:5] == [""] * 4
    assert all(float(value) > 0 for value in points[5:])
    for line in students:
        assert len(line) == len(header) and line[0]
        assert line[1] or line[2] or line[3], "Canvas finds nobody by name"
        assert all(value == "" or float(value) >= 0 for value in line[5:])


def test_canvas(place):
    table = read(canvas_csv(place, [STAGE]).text)
    check_canvas(table)
    by_login = {line[3]: line for line in table[2:]}
    assert by_login["ada"] == ["Lovelace, Ada", "71", "", "ada", "", "10.35"]  # 11.5 less 1.15 for lateness
    assert by_login["li"][0] == "李, jr., 黎" and by_login["none"][5] == ""
    assert table[1][5] == "24"


def test_canvas_with_a_roster_speaks_of_its_own_students_and_columns(place):
    roster = (
        "\ufeffStudent,ID,SIS User ID,SIS Login ID,Section,stage1_converter (991)\n    Points Possible,,,,,24\n"
        '"Lovelace, Augusta Ada",5551,S-1,ada,Section 7,\n"Other, One",5552,S-2,other,Section 7,\n'
    )
    table = read(canvas_csv(place, [STAGE], roster).text)
    check_canvas(table)
    assert table[0][5] == "stage1_converter (991)"
    assert table[2:] == [["Lovelace, Augusta Ada", "5551", "S-1", "ada", "Section 7", "10.35"]]
    with pytest.raises(CourseError, match="no gradebook export"):
        canvas_csv(place, [STAGE], "name,points\n")


def test_a_learner_is_found_by_any_of_canvas_ids_and_the_others_are_named(place):
    roster = (
        "Student,ID,SIS User ID,SIS Login ID,Section,stage1_converter (991)\n    Points Possible,,,,,24\n"
        '"Lovelace, Ada",71,S-1,alovelace@uni.edu,Section 7,\n"Li",5553,li,li.li@uni.edu,Section 7,\n'
        '"Other, One",5552,S-2,other,Section 7,\n"Student, Test",9,,abc,Section 7,\n'
    )
    made = canvas_csv(place, [STAGE], roster)
    points = {line[0]: line[5] for line in read(made.text)[2:]}
    assert points["Lovelace, Ada"] == "10.35" and points["Li"] == "11.5" and len(points) == 2
    assert made.only_in_canvas == ("Other, One",)
    assert "Other, One" in made.unmatched() and "li" not in made.only_here and "none" not in made.only_here
    nobody = canvas_csv(place, [STAGE], roster.replace("71,S-1", "72,S-1"))
    assert "ada" in nobody.only_here and "--lms-user-id" in nobody.unmatched()


def test_no_cell_is_a_formula(place):
    for text in (canvas_csv(place, [STAGE]).text, plain_csv(place, STAGE)):
        assert not [cell for line in read(text) for cell in line if cell[:1] in ("=", "+", "@")]


def test_csv_has_every_cell_and_the_total(place):
    table = read(plain_csv(place, STAGE))
    lines = {(line[0], line[5]): dict(zip(table[0], line)) for line in table[1:]}
    assert lines["ada", "m-box"]["score"] == "7.5" and lines["ada", "m-box"]["max_score"] == "20"
    assert (lines["ada", "total"]["score"], lines["ada", "total"]["late_penalty"]) == ("10.35", "1.15")
    assert lines["li", "m-box"]["needs_manual"] == "true" and lines["none", "total"]["score"] == ""


def test_lateness_costs_a_share_of_marks_by_hand_too(place):
    """A person marks after the last measurement: the penalty is 10 % of what is there when the marks are read."""

    def mark(points: float | None) -> None:
        with place.gradebook() as book:
            book.find_grade("fold-test", "01_export", STAGE, "ada").manual_score = points
            book.db.commit()

    mark(1.5)  # instead of 4
    try:
        found = {row.student: row for row in rows(place, STAGE)}
        assert (found["ada"].score, found["ada"].penalty) == (8.1, 0.9)
        assert (found["li"].score, found["li"].penalty) == (11.5, 0.0)
        with place.gradebook() as book:  # formgrader's own list shows the same
            assert book.find_submission(STAGE, "ada").late_submission_penalty == 0.9
        mark(0.0)
        assert [line[5] for line in read(canvas_csv(place, [STAGE]).text) if line[3] == "ada"] == ["6.75"]
    finally:
        mark(None)
    assert next(row for row in rows(place, STAGE) if row.student == "ada").penalty == 1.15


def check_gradescope(result: dict) -> None:
    """The rules of Gradescope's "Autograder Specifications"."""
    shown = {"hidden", "after_due_date", "after_published", "visible"}
    formats = {"text", "html", "simple_format", "md", "ansi"}
    assert set(result) <= {
        "score",
        "execution_time",
        "output",
        "output_format",
        "test_output_format",
        "test_name_format",
        "visibility",
        "stdout_visibility",
        "extra_data",
        "tests",
        "leaderboard",
    }
    assert "score" in result or result["tests"]
    assert isinstance(result["score"], (int, float)) and result["score"] >= 0
    assert result.get("visibility", "visible") in shown and result.get("stdout_visibility", "hidden") in shown
    assert result.get("output_format", "text") in formats
    for test in result.get("tests", ()):
        assert set(test) <= {
            "score",
            "max_score",
            "status",
            "name",
            "name_format",
            "number",
            "output",
            "output_format",
            "tags",
            "visibility",
            "extra_data",
        }
        assert test.get("status", "passed") in {"passed", "failed"} and test["visibility"] in shown
        assert 0 <= test["score"] <= test["max_score"] and isinstance(test["name"], str)


def test_gradescope(place):
    results = {row.student: gradescope(row) for row in rows(place, STAGE)}
    for result in results.values():
        check_gradescope(json.loads(json.dumps(result)))
    assert results["ada"]["score"] == 10.35 and "1.15" in results["ada"]["output"]
    li = {test["name"]: test for test in results["li"]["tests"]}
    assert "status" not in li["01_export: m-box"] and "person" in li["01_export: m-box"]["output"]
    assert "Well done." in li["01_export: fold-test"]["output"]


def test_the_command_writes_files(place, tmp_path, capsys):
    root = ["--root", str(place.root)]
    assert main(["canvas", STAGE, "--to", str(tmp_path / "c.csv"), *root]) == 0
    check_canvas(read((tmp_path / "c.csv").read_text()))
    assert main(["gradescope", STAGE, "--to", str(tmp_path / "g"), "--student", "ada", *root]) == 0
    assert [path.parent.name for path in tmp_path.glob("g/*/*/results.json")] == ["ada"]
    with pytest.raises(CourseError, match="no stage 'stage7'"):
        main(["csv", "stage7", *root])


def test_who_is_not_graded_to_the_end_is_named(place, tmp_path, capsys):
    states = {"ada": {"status": "measured"}, "li": {"status": "executed"}, "evil": {}, "gone": {"status": "failed"}}
    states["Zoë, 1"] = {"status": "measured"}  # its id is another word than its folder
    for student, state in states.items():
        (place.grading / "submitted" / student / STAGE).mkdir(parents=True)
        if state:
            path = place.grading / "state" / STAGE / f"{student_id(student)}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(state))
    try:
        assert main(["csv", STAGE, "--to", str(tmp_path / "g.csv"), "--root", str(place.root)]) == 1
        told = capsys.readouterr().err.splitlines()
        assert [line.split(": ")[1] for line in told] == ["evil in stage1_converter", "li in stage1_converter"]
        assert "has not come to its end" in told[0] and "not measured" in told[1]
        one = ["gradescope", STAGE, "--student", "ada", "--to", str(tmp_path), "--root", str(place.root)]
        assert main(one) == 0 and capsys.readouterr().err == ""
        assert (tmp_path / "g.csv").is_file()
    finally:
        shutil.rmtree(place.grading / "submitted")
        shutil.rmtree(place.grading / "state")


def test_points_that_no_machine_here_could_measure_are_named(place, tmp_path, capsys):
    """As a CPU leaves them: 4 of milestone 1's 20 are for a speed on a GPU."""
    checks = (
        CheckResult("fp32", "Answers", "passed", 7.5, 7.5, "", ""),
        CheckResult("fast", "Speed", "open", 0.0, 4.0, "not measured", ""),
    )
    report = Report("s1.m1", "ResNet-50", "measured", "cpu", "hidden", "ada", checks, 1.0)
    folder = place.grading / "reports" / STAGE / "ada"
    folder.mkdir(parents=True)
    (folder / "s1.m1.json").write_text(report.to_json())
    (folder / "s1.m1b.json").write_text(dataclasses.replace(report, milestone="s1.m1b", checks=checks[:1]).to_json())
    (folder / "broken.json").write_text("{")
    root = ["--root", str(place.root)]
    try:
        assert main(["csv", STAGE, "--to", str(tmp_path / "g.csv"), *root]) == 1
        told = capsys.readouterr().err
        assert "Open: ada in stage1_converter: 4 points of s1.m1 could not be measured" in told
        assert "--measure-only --force" in told and "s1.m1b" not in told
        table = read((tmp_path / "g.csv").read_text())
        lines = {line[0]: dict(zip(table[0], line)) for line in table[1:] if line[5] == "total"}
        assert lines["ada"]["open_points"] == "4" and lines["li"]["open_points"] == "0"
        assert all(len(line) == len(table[0]) for line in table)
        assert main(["canvas", STAGE, "--to", str(tmp_path / "c.csv"), *root]) == 1
        assert "Open: ada" in capsys.readouterr().err
        result = gradescope(next(row for row in rows(place, STAGE) if row.student == "ada"))
        check_gradescope(json.loads(json.dumps(result)))
        assert "4 points of s1.m1 are open" in result["output"] and "1.15" in result["output"]
        one = ["gradescope", STAGE, "--student", "li", "--to", str(tmp_path), *root]
        assert main(one) == 0 and "Open" not in capsys.readouterr().err
    finally:
        shutil.rmtree(place.grading / "reports")


@pytest.mark.parametrize("works", [True, False])
def test_run_autograder_always_leaves_a_result(tmp_path, works):
    """In a folder laid out as Gradescope does; a stand-in for Python says what it was asked, and exports a score."""
    main(["run_autograder", STAGE, "--to", str(tmp_path / "source")])
    (tmp_path / "submission").mkdir()
    (tmp_path / "submission" / "01_export.ipynb").write_text("{}")
    (tmp_path / "submission" / "link").symlink_to("/etc/passwd")
    python = tmp_path / "source" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"""#!/usr/bin/env bash
echo "$@" >> {tmp_path}/asked
[ "$3" = grade ] && exit 1
{"true" if works else "exit 1"}
mkdir -p "$9/{STAGE}/student" && echo '{{"score": 7}}' > "$9/{STAGE}/student/results.json"
""")
    python.chmod(0o755)
    subprocess.run(
        [tmp_path / "source" / "run_autograder"],
        env={**os.environ, "AUTOGRADER_BASE": str(tmp_path)},
        check=False,
        capture_output=True,
        timeout=60,
    )
    result = json.loads((tmp_path / "results" / "results.json").read_text())
    check_gradescope(result)
    assert result["score"] == (7 if works else 0)
    work = tmp_path / "source" / ".grading" / "submitted" / "student" / STAGE
    assert (work / "01_export.ipynb").is_file() and (work / "link").is_symlink()
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[0] == f"-m autograder grade {STAGE} --student student --force"


def test_grading_without_a_sandbox_is_written_out():
    assert "unprotected" not in run_autograder(STAGE)["run_autograder"]
    assert "--i-accept-running-student-code-unprotected" in run_autograder(STAGE, unprotected=True)["run_autograder"]
    for text in run_autograder(STAGE).values():
        assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
