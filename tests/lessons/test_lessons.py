"""Every lesson runs; each exercise gives nothing for the released cell, all for the solution, and names what is wrong."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from autograder.authoring.notebook import read_lesson
from course import exercises
from course.paths import ROOT
from tests.lessons import forks, record
from tests.triton import environment_or_skip

LESSONS = sorted((ROOT / "solutions").glob("stage*/[0-9][0-9]_*.py"))
FEWEST_WRONG = 3
USES_TRITON = "with_triton("
SECONDS = 560  # for one lesson, on a machine that others use too; on two quiet cores it takes about one minute


def name(lesson: Path) -> str:
    return f"{lesson.parent.name}/{lesson.stem}"


def is_milestone(lesson: Path) -> bool:
    """Its notebook runs here too, but is not measured: tests/measuring has the grader's tests."""
    return "selfcheck(" in lesson.read_text()


NEWER = [lesson for lesson in LESSONS if not lesson.parent.name.startswith("stage1")]
"""Those that follow the newer pattern: short, and whole without an answer."""
TAUGHT = [lesson for lesson in LESSONS if not is_milestone(lesson)]


def params(lessons: list[Path]) -> list:
    """Each lesson on its own worker, solved and untouched."""
    return [pytest.param(lesson, marks=pytest.mark.xdist_group(name(lesson)), id=name(lesson)) for lesson in lessons]


def run(request, lesson: Path, folder: Path, untouched: bool = False) -> dict:
    """What a run in a fresh process reports, in `folder`, a copy of its stage folder as a learner has it.

    What it was told last time is asserted again, not run, while nothing that it used has changed; --all always runs.
    """
    if not request.config.getoption("--all") and (known := record.read(lesson, untouched)):
        return {**known, "lesson": lesson}
    if USES_TRITON in lesson.read_text():
        environment_or_skip()
    shutil.copytree(ROOT / lesson.parent.name, folder)
    for path in () if untouched else lesson.parent.rglob("*"):  # helper files with their solutions
        if path.is_file() and path not in LESSONS and "__pycache__" not in path.parts:
            target = folder / path.relative_to(lesson.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    wrong = ROOT / "tests" / "lessons" / "wrong" / lesson.parent.name / f"{lesson.stem}.py"
    out = folder / "report.json"
    # As when a class is graded: selfcheck leaves measuring for later.
    variables = {"NBGRADER_EXECUTION": "autograde"} if is_milestone(lesson) else {}
    status, printed = forks.run([lesson, "-" if untouched else wrong, out], folder, variables, SECONDS)
    assert status == 0, printed
    found = json.loads(out.read_text())
    record.write(lesson, found, untouched)
    return {**found, "lesson": lesson}


@pytest.fixture(scope="module", params=params(LESSONS))
def report(request, tmp_path_factory) -> dict:
    lesson: Path = request.param
    return run(request, lesson, tmp_path_factory.mktemp("lesson") / lesson.parent.name)


@pytest.mark.timeout(SECONDS + 30)
@pytest.mark.parametrize("lesson", params(NEWER + [lesson for lesson in TAUGHT if lesson not in NEWER]))
def test_an_untouched_lesson_runs_to_its_end(lesson, request, tmp_path):
    """An unsolved exercise breaks nothing: the cells below go on with the course's answer."""
    faults = []
    for cell in run(request, lesson, tmp_path / lesson.parent.name, untouched=True)["cells"]:
        if cell["problem"] or "Traceback" in cell["printed"] + cell["stderr"]:
            faults.append(f"{cell['source']}\n{cell['problem']}\n{cell['printed']}{cell['stderr']}")
        if cell["source"].strip().startswith("check(") and cell["result"] != 0:
            faults.append(f"{cell['source']} gives {cell['result']} points for nothing:\n{cell['printed']}")
    assert not faults, "\n\n".join(faults)


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
                if report["lesson"] not in NEWER:
                    said = one["message"].lower()
                    require("not written yet" in said, f"{label}: an untouched stub is called wrong\n{one['message']}")
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
    if lesson not in NEWER:
        assert text.count("prediction(") >= 2, "a prediction is asked for before the measurements"
    assert "ummary" in text.split("# %% [markdown]")[-1], "the last cell is a summary"


def source_of(cell) -> list[str]:
    return [line for line in cell.source.splitlines() if line.strip() and not line.strip().startswith("#")]


@pytest.mark.parametrize("lesson", [lesson for lesson in NEWER if not is_milestone(lesson)], ids=name)
def test_a_newer_lesson_is_short_and_soon_lets_the_learner_act(lesson):
    notebook = read_lesson(lesson.read_text(), lesson.name)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    words = sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")
    graded = [cell for cell in code if "nbgrader" in cell.metadata]
    given = sum(len(source_of(cell)) for cell in code if cell not in graded)
    text = "\n".join(cell.source for cell in code)
    imported = {match for match in re.findall(r"^from (course[\w.]*) import|^import (course[\w.]*)", text, re.M)}
    acts = [number for number, cell in enumerate(notebook.cells) if "guess" in cell.source or cell in graded]
    facts = {
        f"{len(notebook.cells)} cells, 45 at most": len(notebook.cells) <= 45,
        f"{words} words of prose, 1300 at most": words <= 1300,
        f"{given} given lines of code, 120 at most": given <= 120,
        f"{text.count('choice(')} predictions, 1 to 4": 1 <= text.count("choice(") <= 4,
        f"{len(imported)} modules of the course, 5 at most": len(imported) <= 5,
        f"{len(re.findall('if gpu', text))} branches for a GPU, 3 at most": len(re.findall("if gpu", text)) <= 3,
        f"the first own action in cell {min(acts, default=99) + 1}, 5 at most": min(acts, default=99) < 5,
    }
    assert [fact for fact, good in facts.items() if not good] == []
