"""The process that grades one student: take the submission, run it through nbgrader, say on disk that it is done."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from nbgrader.converters import Autograde
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config

from autograder.classroom import submission, tempfolders
from autograder.classroom.gradebook import open_place, zero
from course.files import atomic_write

BEGUN = "Grading began and did not finish: 0 points until it is run again."


def grade_one(root: str, stage: str, student: str, mark: str, changes: dict, log: str, state: str) -> None:
    """Target of the process. Ends with status 0 and a state file, or with another status and words in the log.

    Args:
        mark: fingerprint of what is graded; kept in the state file.
        changes: of nbgrader's configuration, class -> name -> value.
    """
    os.setsid()  # a session of its own: nobody's terminal interrupts it, and it can be ended with all that it started
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it does not outlive the grader
    with open(log, "wb", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    begin = time.monotonic()
    place = open_place(Path(root))
    zero(place, stage, student, BEGUN)
    with tempfolders.temporary("intake", place.grading) as folder:
        submitted = place.folder("submitted", student, stage)
        taken = submission.take(submitted, folder / student / stage, place.release(stage))
        config = Config(place.config)
        config.merge(Config(changes))
        config.CourseDirectory.submitted_directory = str(folder)
        config.SandboxedExecute.now = str(Path(state).with_suffix(".now"))
        courses = CourseDirectory(config=config, assignment_id=stage, student_id=student)
        converter = Autograde(coursedir=courses, config=config)
        converter.force = True
        shutil.rmtree(place.folder("autograded", student, stage), ignore_errors=True)
        converter.start()
    notes = [*taken.notes, *(f"{name}: {note}" for name, note in taken.notebooks.items())]
    write_state(
        Path(state),
        status="executed",
        fingerprint=mark,
        seconds=round(time.monotonic() - begin, 1),
        reason="",
        notes=notes,
    )


def write_state(path: Path, **values) -> None:
    atomic_write(path, json.dumps(values, indent=1).encode())


def read_state(path: Path) -> dict:
    """Empty if the student was not graded yet."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
