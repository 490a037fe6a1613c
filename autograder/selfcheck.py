"""The grader's verdict inside a notebook: the same code, in a process of its own, on public inputs."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from autograder.measuring.report import Report
from course.errors import CourseError
from course.paths import ROOT

MOST_SECONDS = 1800.0


def selfcheck(milestone_id: str, workdir: str | Path = ".") -> float:
    """Measure this folder's artifacts, show the score-board, return the points.

    The last value of a notebook's graded cell is its score, so end the cell with this call. While nbgrader
    grades, nothing is measured here and 0.0 is returned: the grader measures afterwards, where no notebook
    can interfere.
    """
    if os.environ.get("NBGRADER_EXECUTION") == "autograde":
        print(f"{milestone_id}: the grader measures this after the notebook has run, with inputs of its own.")
        return 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        command = [
            sys.executable,
            "-m",
            "autograder",
            "measure",
            milestone_id,
            "--json",
            str(path),
            "--workdir",
            str(Path(workdir).resolve()),
        ]
        lines = _run(command)
        try:
            report = Report.from_json(path.read_text())
        except (OSError, CourseError):
            print("\n".join(lines[-8:]))
            print(
                f"{milestone_id} could not be measured.\n  Cause: the grader ended before it had a result; "
                f"its last "
                "words are above.\n  Next step: run `course doctor`, then this cell again."
            )
            return 0.0
    if report.needs_manual:
        print(report.problem)
    _show(report)
    return float(report.points)


def _run(command: list[str]) -> list[str]:
    """Run the grader and show its progress lines as they come. An interrupt, or too long a time, ends it.

    From the course's folder, so that no file beside the notebook can stand in for a module of the grader.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",  # whatever the locale is
        errors="replace",
    )
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in process.stdout:
            lines.put(line.rstrip("\n"))
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    seen, deadline = [], time.monotonic() + MOST_SECONDS
    try:
        while (line := lines.get(timeout=max(0.1, deadline - time.monotonic()))) is not None:
            seen.append(line)
            if line.startswith("  ") and " s  " in line[:12]:  # progress; the score-board is shown from the report
                print(line, flush=True)
        process.wait()
    except queue.Empty:
        seen.append(f"It was ended after {MOST_SECONDS:.0f} s.")
    finally:
        if process.poll() is None:
            process.terminate()  # the process that holds the model sees its pipe close, and ends too
            process.wait()
    return seen


def _show(report: Report) -> None:
    """As HTML in a notebook; the text below it is what a terminal or a text-only reader shows."""
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        print(report.text())
        return
    if getattr(get_ipython(), "kernel", None) is None:
        print(report.text())
    else:
        display({"text/html": report._repr_html_(), "text/plain": report.text()}, raw=True)
