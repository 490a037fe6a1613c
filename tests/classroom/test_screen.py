"""While it grades, the screen says who is at which step, and for how long."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from autograder.classroom import grade as grading
from autograder.classroom import screen
from autograder.classroom.screen import Screen, last_line
from autograder.sandbox import bwrap
from tests.classroom import box


def text_of(bar: Screen, console: Console) -> str:
    with console.capture() as capture:
        console.print(bar._bar.get_renderable())
    return capture.get()


def test_it_says_who_is_at_which_step_and_since_when(monkeypatch):
    console, clock = Console(file=io.StringIO(), width=120), [100.0]
    monkeypatch.setattr(screen.time, "monotonic", lambda: clock[0])
    with Screen(console, "running notebooks", 3) as bar:
        bar.now({"ada": "01_export, cell 3 of 40"})
        clock[0] += 75
        bar.now({"ada": "01_export, cell 3 of 40", "li[red]\x1b": "starting"})
        said = text_of(bar, console)
        assert "ada: 01_export, cell 3 of 40 (75 s)" in said and "0/3" in said
        assert re.search(r"li\[red\].*: starting \(0 s\)", said) and "\x1b]" not in said
        clock[0] += 5
        bar.now({"ada": "01_export, cell 4 of 40", "li[red]\x1b": "starting"})
        assert "cell 4 of 40 (0 s)" in text_of(bar, console) and "starting (5 s)" in text_of(bar, console)
        bar.done("ada", "ran")
        said = text_of(bar, console)
        assert "ran ada" in said and "1/3" in said and "cell 4" not in said


def test_the_last_line_of_a_log(tmp_path):
    log = tmp_path / "a.log"
    assert last_line(log, "starting") == "starting"
    log.write_bytes(b"x" * 9000 + b"\n  12.0 s  building \xff\n\n")
    assert last_line(log, "starting") == "12.0 s  building \ufffd"


@pytest.mark.skipif(bwrap.available() is not None, reason=f"no sandbox: {bwrap.available()}")
def test_the_flow_tells_cells_and_the_steps_of_a_measurement(tmp_path, monkeypatch):
    seen: dict[str, None] = {}

    class Watched(Screen):
        def now(self, steps: dict[str, str]) -> None:
            seen.update(dict.fromkeys(f"{student}: {step}" for student, step in steps.items()))
            super().now(steps)

    monkeypatch.setattr(grading, "Screen", Watched)
    root = box.make_course(tmp_path / "course")
    notebook = box.solved(root)
    box.cell(notebook, "fold").source += "\nimport time; time.sleep(2)"
    box.hand_in(root, "ada", notebook)
    assert box.run(root)["ada"].status == "measured"
    assert any(re.fullmatch(r"ada: 01_box, cell \d+ of \d+", words) for words in seen), seen
    assert "ada: box.m1: reading artifacts/answer.bin" in seen
    state = root / ".grading" / "state" / box.STAGE
    assert not list(state.glob("*.now"))
    assert "reading artifacts" in (root / ".grading" / "logs" / box.STAGE / "ada.box.m1.log").read_text()
