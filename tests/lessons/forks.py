"""Lessons run in forks of one process that has imported the packages: a fork starts in no time, an import takes ten seconds."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from course.paths import ROOT


def run(arguments: Sequence[str | Path], cwd: Path, variables: dict[str, str], seconds: float) -> tuple[int, str]:
    """What `run_lesson.py` does with these arguments: its status, -9 if it did not end in time, and the end of its log.

    variables: of its environment, besides this process's.
    """
    server, log = _server(), cwd / "printed.txt"
    asked = {
        "arguments": list(map(str, arguments)),
        "cwd": str(cwd),
        "environment": {**os.environ, "PYTHONPATH": str(ROOT), **variables},
        "log": str(log),
    }
    server.stdin.write(json.dumps(asked) + "\n")
    server.stdin.flush()
    pid = int(server.stdout.readline())

    def end() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        status = int(server.stdout.readline())
    finally:
        timer.cancel()
        end()  # what the lesson left running
    return status, log.read_text(errors="replace")[-6000:]


@functools.cache
def _server() -> subprocess.Popen:
    server = subprocess.Popen(
        [sys.executable, ROOT / "tests/lessons/run_lesson.py", "--serve"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    atexit.register(server.terminate)
    return server
