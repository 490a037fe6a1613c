"""Live progress of a job in steps: bars on a terminal, plain lines in a log file."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column


@dataclass(frozen=True)
class Event:
    """Where a job stands: step `number` of `total`, `fraction` of this step (0 to 1), and a word on it."""

    number: int
    total: int
    title: str
    fraction: float
    detail: str = ""


Listener = Callable[[Event], None]


class Steps:
    """Tells a listener about steps and keeps how long each took.

    steps = Steps(listener, total=2)
    with steps("Export") as tell:      # tell(fraction, detail) as often as there is news
        tell(0.5, "half of it")
    """

    def __init__(self, listener: Listener, total: int):
        self.listener, self.total, self.number = listener, total, 0
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, title: str) -> Iterator[Callable[[float, str], None]]:
        self.number += 1
        number, last, started = self.number, [""], time.perf_counter()

        def tell(fraction: float, detail: str = "") -> None:
            last[0] = detail or last[0]
            self.listener(Event(number, self.total, title, min(fraction, 0.999), last[0]))

        tell(0.0)
        yield tell
        self.seconds[title] = time.perf_counter() - started
        self.listener(Event(number, self.total, title, 1.0, last[0]))


@contextlib.contextmanager
def on_console(console: Console) -> Iterator[Listener]:
    """A listener that draws a bar per step; where the output is no terminal, it prints two lines per step."""
    if not console.is_terminal:
        yield _plain(console)
        return
    detail = Column(no_wrap=True, overflow="ellipsis", ratio=1)  # gives way first on a narrow terminal
    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=10, table_column=Column(min_width=10)),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}", style="dim", markup=False, table_column=detail),
    )
    with Progress(*columns, console=console, expand=True) as bars:
        tasks: dict[int, int] = {}

        def listener(event: Event) -> None:
            if event.number not in tasks:
                title = f"{event.number}/{event.total} {event.title}"
                tasks[event.number] = bars.add_task(title, total=1.0, detail="")
            bars.update(tasks[event.number], completed=event.fraction, detail=event.detail)

        yield listener


def _plain(console: Console) -> Listener:
    started: dict[int, float] = {}

    def listener(event: Event) -> None:
        if event.number not in started:
            started[event.number] = time.perf_counter()
            _line(console, f"[{event.number}/{event.total}] {event.title} ...")
        elif event.fraction >= 1:
            _line(console, f"      {time.perf_counter() - started[event.number]:.1f} s  {event.detail}")

    return listener


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.file.flush()
