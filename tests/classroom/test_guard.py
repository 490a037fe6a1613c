"""One submission's failure is its own; a killed grader leaves nothing at work and nothing lying about."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from autograder.classroom import tempfolders
from autograder.classroom.guard import guard, only_one
from course.errors import CourseError
from course.paths import ROOT


@pytest.mark.parametrize(
    "error",
    [
        ValueError("odd \x1b[2J"),
        OSError(errno.ENAMETOOLONG, "File name too long", "disk is full"),
        KeyError("x"),
        ValueError("database or disk is full"),
    ],
)
def test_a_failure_is_told_and_the_next_one_follows(error):
    said = []
    with guard(said.append, "it could not be read"):
        raise error
    assert said[0].startswith(f"it could not be read: {type(error).__name__}") and said[0].isprintable()


def test_a_row_that_the_gradebook_refuses_is_one_failure():
    said = []
    with guard(said.append, "it"):
        raise IntegrityError("insert", {}, Exception("UNIQUE constraint failed"))
    assert len(said) == 1


@pytest.mark.parametrize(
    "error, what",
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk is full"),
        (OperationalError("insert", {}, Exception("database or disk is full")), "disk is full"),
        (OperationalError("insert", {}, Exception("unable to open database file")), "gradebook cannot be written"),
    ],
)
def test_what_stops_all_says_what_to_do(error, what):
    with pytest.raises(CourseError, match=what) as caught, guard(lambda words: None, "it"):
        raise error
    assert "run the same command again" in str(caught.value)


GRADER = """
import subprocess, sys
from pathlib import Path
from autograder.classroom.guard import ends_with_us, only_one
with only_one(Path(sys.argv[1]), "a measurement") as lock:
    print("begun", flush=True)
    subprocess.run([*ends_with_us(), sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=(lock,))
"""


def test_killing_the_grader_ends_its_measurement_and_frees_the_lock(tmp_path):
    lock = tmp_path / "measure.lock"
    grader = subprocess.Popen([sys.executable, "-c", GRADER, str(lock)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert grader.stdout.readline() == "begun\n"
    deadline = time.monotonic() + 20
    while not (children := psutil.Process(grader.pid).children()) or "sleep" not in " ".join(children[0].cmdline()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(CourseError, match="at work already"), only_one(lock, "a measurement"):
        pass
    os.kill(grader.pid, signal.SIGKILL)
    grader.wait()
    children[0].wait(10)
    with open(lock, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_folders_of_dead_graders_are_swept_and_no_others(tmp_path, monkeypatch):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (f"box-{dead.pid}-a", f"intake-{dead.pid}-b", f"box-{os.getpid()}-c", "box-mine", "kernel-x-1"):
        (tmp_path / name / "inner").mkdir(parents=True)
    (tmp_path / f"box-{dead.pid}-a" / "inner").chmod(0)
    with monkeypatch.context() as other:
        other.setattr(os, "getuid", lambda: -1)
        assert tempfolders.sweep(tmp_path) == 0, "another user's"
    assert tempfolders.sweep(tmp_path) == 2
    assert {path.name for path in tmp_path.iterdir()} == {f"box-{os.getpid()}-c", "box-mine", "kernel-x-1"}
