"""What `grade` shows while it works: how many are done, and for each at work the step and since when."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from autograder.classroom.untrusted import shown


class _Bar(BarColumn):
    def render(self, task: Task):
        return Text("") if task.total is None else super().render(task)


class _Count(MofNCompleteColumn):
    def render(self, task: Task):
        return Text("") if task.total is None else super().render(task)


class Screen:
    """A bar that counts submissions, and below it one line for each that is at work. Use it in a `with` block.

    Args:
        total: submissions.
    """

    def __init__(self, console: Console, title: str, total: int):
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            _Bar(),
            _Count(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task(title, total=total)
        self._lines: dict[str, int] = {}
        self._steps: dict[str, tuple[str, float]] = {}

    def now(self, steps: dict[str, str]) -> None:
        """Student -> step, of all that are at work; a step is timed from when it was first seen."""
        for student in [student for student in self._lines if student not in steps]:
            self._bar.remove_task(self._lines.pop(student))
            del self._steps[student]
        for student, step in steps.items():
            if student not in self._lines:
                self._lines[student] = self._bar.add_task("", total=None)
            if self._steps.get(student, ("", 0.0))[0] != step:
                self._steps[student] = (step, time.monotonic())
            seconds = time.monotonic() - self._steps[student][1]
            words = f"  {shown(student, 40)}: {shown(step, 80)} ({seconds:.0f} s)"
            self._bar.update(self._lines[student], description=words)

    def done(self, student: str, words: str = "done") -> None:
        """One more is done."""
        self.now({other: step for other, (step, _) in self._steps.items() if other != student})
        self._bar.update(self._task, advance=1, description=f"{words} {shown(student, 40)}")

    def __enter__(self) -> Screen:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def last_line(path: Path, otherwise: str) -> str:
    """The end of what a process writes about itself; `otherwise` while there is nothing."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return otherwise
    return next((line.strip() for line in reversed(lines) if line.strip()), otherwise)


def cells(folder: Path, students: Iterable[str]) -> dict[str, str]:
    """Student -> the cell that runs now, as the processes in `autograder.classroom.student` say in `folder`."""
    return {student: last_line(folder / f"{student}.now", "starting") for student in students}
