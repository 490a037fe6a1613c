"""The table that `course doctor` prints, and below it the next steps, ready to be copied."""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from course.machine.parts import Component, Hardware
from course.paths import ASSETS

MARKS = {"ok": ("✓", "green"), "problem": ("!", "red"), "missing": ("–", "dim")}


def show(hardware: Hardware, console: Console) -> None:
    """What is here, what it is for and what to do next. Fits 100 columns; commands are never broken by us."""
    lines = Table(box=None, padding=(0, 1), width=min(100, console.width), header_style="bold")
    lines.add_column("", width=1)
    lines.add_column("Part", width=12)
    lines.add_column("On this machine", ratio=9)
    lines.add_column("What it is for", ratio=10)
    for part in hardware.components:
        dim = "dim" if part.state == "missing" else ""
        lines.add_row(Text(*MARKS[part.state]), Text(part.name, dim or "bold"), _here(part), Text(part.unlocks, dim))
    console.print(lines)
    console.print()
    for part in hardware.components:
        if part.state == "problem":
            console.print(Text.assemble((f"! {part.name}", "red"), f": {part.problem}"))
            _next_step(part, console)
    later = [part for part in hardware.components if part.state == "missing" and not _idle(part)]
    if later:
        console.print("Not needed for the first conversion:")
    for part in later:
        console.print(Text.assemble(("– ", "dim"), (part.name, "bold"), f": {part.unlocks}"))
        _next_step(part, console)
    console.print(_summary(hardware))


def _here(part: Component) -> Text:
    if part.state == "missing":
        return Text("needs an NVIDIA GPU" if _idle(part) and part.name != "GPU" else "not here", "dim")
    return Text("  ".join(filter(None, (part.version, _short(part.where)))) or "not here")


def _idle(part: Component) -> bool:
    return (part.next_step or "").startswith("Nothing to do")


def _next_step(part: Component, console: Console) -> None:
    command, *more = (part.next_step or "").splitlines()
    console.print(Text(f"    {command}"), soft_wrap=True)  # in one piece, so that it can be copied
    for line in more:
        console.print(Padding(Text(line), (0, 0, 0, 4)))
    console.print()


def _summary(hardware: Hardware) -> Text:
    if not hardware.ready:
        return Text(
            "The course cannot run yet. Do what stands behind the red marks, then run course doctor again.", "red"
        )
    if hardware.lane == "gpu":
        return Text("Ready, with TensorRT on the GPU.", "green")
    return Text.assemble(
        ("Ready, on the CPU.", "green"), " ONNX Runtime is the engine; points that need a GPU stay open."
    )


def _short(path: str | None) -> str | None:
    """A path inside the course or the home folder without what everybody knows."""
    if path is None or not path.startswith("/"):
        return path
    path = re.sub(r"lib/python[\d.]+/(site|dist)-packages", "…", path)
    for folder, name in ((ASSETS.parents[1], ""), (Path.home(), "~/")):
        if path.startswith(f"{folder}/"):
            return name + path[len(str(folder)) + 1 :]
    return path
