"""A grader whose TMPDIR has a longer name than a unix socket may have: in a process of its own, as multiprocessing
remembers the folder of its sockets.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autograder.sandbox import bwrap
from course.paths import ROOT

STAND_IN = """
import sys
from pathlib import Path
from autograder.classroom import grade
from autograder.classroom.gradebook import Place
from tests.classroom import test_run_again

if __name__ == "__main__":
    place = Place(Path(sys.argv[1]), None)
    place.grading.mkdir()
    grade.grade_one = test_run_again.stand_in
    print(*(outcome.status for outcome in grade._execute(place, "stage8_box", {"ada": "mark"}, 1, 60, {}, lambda now: None)))
"""
CLASS = """
import json, sys
from pathlib import Path
from tests.classroom import box

if __name__ == "__main__":
    root = box.make_course(Path(sys.argv[1]) / "course")
    box.hand_in(root, "ada", box.solved(root))
    outcome = box.run(root)["ada"]
    print(outcome, box.told(root, "ada"), file=sys.stderr)
    print(json.dumps(sum(box.scores(root, "ada").values())))
"""


def graded(code: str, tmp_path: Path) -> str:
    """What `code` prints, run with a long TMPDIR."""
    folder = tmp_path / ("x" * 107)
    folder.mkdir()
    (tmp_path / "run.py").write_text(code)
    done = subprocess.run(
        [sys.executable, tmp_path / "run.py", tmp_path],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_the_processes_of_students_start(tmp_path):
    assert graded(STAND_IN, tmp_path) == "executed"


@pytest.mark.slow
@pytest.mark.skipif(bwrap.available() is not None, reason=f"no sandbox: {bwrap.available()}")
def test_a_learner_gets_the_points(tmp_path):
    assert json.loads(graded(CLASS, tmp_path)) == 26
