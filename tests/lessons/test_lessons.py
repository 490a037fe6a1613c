"""Every lesson runs; each exercise gives nothing for the released cell, all for the solution, and names what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from course import exercises
from course.paths import ROOT
from tests.lessons import record

LESSONS = sorted((ROOT / "solutions").glob("stage*/[0-9][0-9]_*.py"))
FEWEST_WRONG = 3
SECONDS = 560  # for one lesson, on a machine that others use too; on two quiet cores it takes about one minute


def name(lesson: Path) -> str:
    return f"{lesson.parent.name}/{lesson.stem}"


def is_milestone(lesson: Path) -> bool:
    """Its notebook runs here too, but is not measured: tests/measuring has the grader's tests."""
    return "selfcheck(" in lesson.read_text()


TAUGHT = [lesson for lesson in LESSONS if not is_milestone(lesson)]


@pytest.fixture(
    scope="module", params=[pytest.param(x, marks=pytest.mark.xdist_group(name(x)), id=name(x)) for x in LESSONS]
)
def report(request, tmp_path_factory) -> dict:
    """The lesson, run once in a fresh process in a copy of its stage folder, as a learner has it.

    What it was told last time is asserted again, not run, while nothing that it used has changed; --all always runs.
    """
    lesson: Path = request.param
    if not request.config.getoption("--all") and (known := record.read(lesson)):
        return {**known, "lesson": lesson}
    folder = tmp_path_factory.mktemp("lesson") / lesson.parent.name
    shutil.copytree(ROOT / lesson.parent.name, folder)
    for path in lesson.parent.rglob("*"):  # helper files with their solutions
        if path.is_file() and path not in LESSONS and "__pycache__" not in path.parts:
            target = folder / path.relative_to(lesson.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    wrong = ROOT / "tests" / "lessons" / "wrong" / f"{lesson.parent.name}" / f"{lesson.stem}.py"
    out = folder / "report.json"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COURSE_CACHE": os.environ.get("COURSE_CACHE", "")}
    if not environment["COURSE_CACHE"]:
        del environment["COURSE_CACHE"]
    if is_milestone(lesson):
        environment["NBGRADER_EXECUTION"] = (
            "autograde"  # as when a class is graded: selfcheck leaves measuring for later
        )
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/lessons/run_lesson.py"), str(lesson), str(wrong), str(out)],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(out.read_text())
    record.write(lesson, found)
    return {**found, "lesson": lesson}


@pytest.mark.timeout(SECONDS + 30)
def test_a_lesson_and_its_exercises(report):
    """One test a lesson, so that its one run is shared; every finding is listed."""
    faults = []

    def require(good: bool, fault: str) -> None:
        if not good:
            faults.append(fault)

    known = exercises.declared()
    for cell in report["cells"]:
        require(not cell["problem"], f"cell fails: {cell['source']}\n{cell['problem']}")
        require(
            "Traceback" not in cell["printed"] + cell["stderr"], f"traceback in: {cell['source']}\n{cell['printed']}"
        )
        if "check" not in cell:
            continue
        id, points = cell["check"], known[cell["check"]].points
        require(cell["follows_its_solution"], f"{id}: its check does not follow its solution cell")
        require(
            cell["grade_id"] == f"{id}-test" and cell["max"] == points,
            f"{id}: the test cell has grade_id {cell['grade_id']} and {cell['max']} points; {id}-test and {points} expected",
        )
        require(cell["result"] == points, f"{id}: the solution gets {cell['result']} of {points}:\n{cell['printed']}")
        require(not cell["stderr"], f"{id}: stderr, which nbgrader scores 0: {cell['stderr']}")
    for entry in report["exercises"]:
        id, tries = entry["id"], entry["tries"]
        require(entry["grade_id"] == id, f"{id}: its solution cell has grade_id {entry['grade_id']}")
        wrong = [one for one in tries if one["kind"] == "wrong"]
        require(len(wrong) >= FEWEST_WRONG, f"{id}: only {len(wrong)} wrong answers")
        for one in tries:
            label = f"{id}, {one['kind']} {one['words']!r}"
            require(one["problem"] is None, f"{label}: the check raised\n{one['problem']}")
            require(not one["stderr"], f"{label}: stderr {one['stderr']}")
            require("Next step:" in one["message"], f"{label}: no next step in\n{one['message']}")
            if one["kind"] == "released":
                require(one["points"] == 0, f"{label}: {one['points']} points\n{one['message']}")
            else:
                require(
                    one["points"] is not None and one["points"] < known[id].points,
                    f"{label}: {one['points']} points\n{one['message']}",
                )
                require(one["words"] in one["message"], f"{label} is not said in\n{one['message']}({one['raised']})")
    require(not report["unused"], f"wrong answers to exercises that are not there: {report['unused']}")
    require(bool(report["exercises"]) or is_milestone(report["lesson"]), "no exercise")
    assert not faults, "\n\n".join(faults)


def test_every_exercise_is_in_one_lesson_and_every_check_is_known():
    sources = {lesson: lesson.read_text() for lesson in LESSONS}
    for id in exercises.declared():
        places = [name(lesson) for lesson, text in sources.items() if f'check("{id}")' in text]
        assert len(places) == 1, f"{id} stands in {places or 'no lesson'}"


@pytest.mark.parametrize("lesson", TAUGHT, ids=name)
def test_a_lesson_has_the_promised_form(lesson):
    text = lesson.read_text()
    first = text.split("# %%")[1]
    assert "Time" in first and "GPU" in first, "the first cell says the time, and what a GPU adds"
    assert text.count("prediction(") >= 2, "a prediction is asked for before the measurements"
    assert "ummary" in text.split("# %% [markdown]")[-1], "the last cell is a summary"
