"""Temporary folders of a grader that may be killed at any time: what a dead one left is swept by the next."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

KINDS = ("intake", "box", "kernel")
_OURS = re.compile(rf"({'|'.join(KINDS)})-(\d+)-")


def make(kind: str, parent: Path | str | None = None) -> str:
    """A new folder whose name says which process it belongs to."""
    assert kind in KINDS
    return tempfile.mkdtemp(prefix=f"{kind}-{os.getpid()}-", dir=parent)


@contextlib.contextmanager
def temporary(kind: str, parent: Path | str | None = None) -> Iterator[Path]:
    """A folder that is gone afterwards, whatever a learner's code made of the permissions inside."""
    folder = make(kind, parent)
    try:
        yield Path(folder)
    finally:
        remove(folder)


def remove(folder: Path | str) -> None:
    """Remove a folder; one that its owner locked (`chmod 0`) is opened first."""
    for base, folders, _ in os.walk(folder):
        for name in folders:
            with contextlib.suppress(OSError):
                if not os.path.islink(os.path.join(base, name)):
                    os.chmod(os.path.join(base, name), 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def places(grading: Path) -> tuple[Path, ...]:
    """Where such folders may lie."""
    return grading, Path(tempfile.gettempdir()), Path("/tmp")


def sweep(*parents: Path, pid: int | None = None) -> int:
    """Remove the folders whose process has ended, of this user, in `parents`; how many.

    Args:
        pid: only those of this process. It is known to have ended, even if its number is in use again.
    """
    swept = 0
    for parent in {path.resolve() for path in parents if path.is_dir()}:
        for path in parent.iterdir():
            named = _OURS.match(path.name)
            with contextlib.suppress(OSError):
                if not named or path.lstat().st_uid != os.getuid():
                    continue
                if int(named[2]) == pid if pid else not psutil.pid_exists(int(named[2])):
                    remove(path)
                    swept += 1
    return swept
