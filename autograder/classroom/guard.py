"""What keeps the failure of one submission its own, and two graders out of each other's way."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy.exc import OperationalError

from autograder.classroom.untrusted import shown
from course.errors import CourseError


class DiskFullError(CourseError):
    """The disk is full."""


@contextlib.contextmanager
def guard(failed: Callable[[str], None], what: str) -> Iterator[None]:
    """What goes wrong inside is told to `failed`, in words; only what would stop every submission is raised.

    Raises:
        CourseError: as `stop_if_all`.
    """
    try:
        yield
    except Exception as error:
        stop_if_all(error)
        failed(f"{what}: {type(error).__name__}: {shown(str(error))}")


def stop_if_all(error: Exception) -> None:
    """Raise a CourseError for what would go wrong with every submission; a DiskFullError if that is the reason."""
    database = isinstance(error, OperationalError)  # whose words are SQLite's; in others, a learner's name could stand
    full = database and "disk is full" in str(error.orig)
    if full or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        raise DiskFullError(
            "The disk is full.",
            "The gradebook, the notebooks and the temporary folders need room.",
            "Make room (see TMPDIR and .grading/), then run the same command again: what is graded stays graded.",
        ) from error
    if database:
        raise CourseError(
            "The gradebook cannot be written.",
            shown(str(error.orig)),
            "Look at .grading/gradebook.db: is it there, yours to write, and on a disk that locks files? Put back its "
            "backup if it is damaged, then run the same command again.",
        ) from error


@contextlib.contextmanager
def only_one(path: Path, what: str, patient: bool = False) -> Iterator[int]:
    """Hold a lock that ends with this process, and with those that inherit the descriptor that this gives.

    Timings must not share the machine: a `patient` one waits.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if patient else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise CourseError(
                f"There is {what} at work already.", f"It holds {path.name}.", "Wait until it is done, or end it."
            ) from error
        yield file.fileno()


def ends_with_us() -> tuple[str, ...]:
    """What stands before a command that must end when this process does, even by `kill -9`.

    Two measurements at once would time each other.
    """
    code = (
        "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); "  # PR_SET_PDEATHSIG, SIGKILL: outlives execve
        "os.getppid() == int(sys.argv[1]) or sys.exit(1); os.execvp(sys.argv[2], sys.argv[2:])"
    )
    return (sys.executable, "-c", code, str(os.getpid()))
