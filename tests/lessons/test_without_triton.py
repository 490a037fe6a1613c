"""Lessons that use Triton run without its environment, untouched and solved, and say how to get it."""

from __future__ import annotations

import json
import shutil

import pytest

from course.paths import ROOT
from tests.lessons import forks
from tests.lessons.test_lessons import SECONDS, TAUGHT, USES_TRITON, name

USERS = [lesson for lesson in TAUGHT if USES_TRITON in lesson.read_text()]
NEEDS_NONE = {"load-open", "load-queue"}
"""Exercises whose checks ask no server."""


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 30)
@pytest.mark.parametrize("untouched", [True, False], ids=["untouched", "solved"])
@pytest.mark.parametrize("lesson", USERS, ids=name)
def test_a_lesson_goes_on_without_triton(lesson, untouched, tmp_path):
    folder = tmp_path / lesson.parent.name
    shutil.copytree(ROOT / lesson.parent.name, folder)
    report = folder / "report.json"
    arguments = [lesson, "-" if untouched else "no_wrong_answers", report]
    status, printed = forks.run(arguments, folder, {"COURSE_CACHE": str(tmp_path / "an empty cache")}, SECONDS)
    assert status == 0, printed
    cells = json.loads(report.read_text())["cells"]
    assert [cell["problem"] for cell in cells if cell["problem"]] == []
    opened = [cell["printed"] for cell in cells if "Open on this machine" in cell["printed"]]
    assert opened and all("course serve setup" in printed for printed in opened)
    for cell in cells:
        if not untouched and "check" in cell:
            needs_none = cell["check"] in NEEDS_NONE
            assert cell["result"] == (cell["max"] if needs_none else 0), cell["printed"]
            assert needs_none or ("was not tried" in cell["printed"] and "course serve setup" in cell["printed"])
