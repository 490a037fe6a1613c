"""Where temporary folders with unix sockets lie: Linux takes 107 bytes at most for the name of one, and TMPDIR may have more."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

from course.errors import CourseError

MOST = 107
BELOW = 40
"""Bytes that are kept for what follows: `/pymp-xxxxxxxx/listener-xxxxxxxx` of multiprocessing has 32, and it is the longest."""
SHORT = "/tmp"


def parent() -> str:
    """The folder of temporary files, or /tmp where its name is too long.

    Raises:
        CourseError: it is too long, and nothing can be written to /tmp.
    """
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) <= MOST - BELOW:
        return folder
    if not os.access(SHORT, os.W_OK | os.X_OK):
        raise CourseError(
            f"No socket can be made in TMPDIR, {folder}.",
            f"Its name has more than {MOST - BELOW} bytes, which leaves too few for a socket's, and {SHORT} cannot be "
            "written.",
            "Set TMPDIR to a folder with a short name.",
        )
    return SHORT


@contextlib.contextmanager
def short_names() -> Iterator[None]:
    """Inside, new temporary folders lie in `parent()`: for libraries that make their sockets where they like. Not for
    several threads.

    Raises:
        CourseError: as `parent`.
    """
    before, folder = tempfile.tempdir, parent()
    tempfile.tempdir = folder
    try:
        yield
    finally:
        tempfile.tempdir = before
