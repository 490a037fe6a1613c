"""Run one lesson from top to bottom in this process, and try every exercise: released cell, wrong answers, solution.

    python tests/lessons/run_lesson.py LESSON.py WRONG.py REPORT.json     (in a copy of the stage folder)
    python tests/lessons/run_lesson.py LESSON.py - REPORT.json            the released notebook, untouched

A lesson's cells run in IPython as in a notebook. At an exercise the other answers run first, each in a copy of the
notebook's names, so that the solution's are what the following cells see.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import time
import traceback
from pathlib import Path

CHECK = re.compile(r'^check\("(?P<id>[^"]+)"\)$')
WRONG = re.compile(r"^# %% (?P<id>\S+) \| (?P<words>.+)$")


def main(lesson: Path, wrong: Path, report: Path) -> None:
    from IPython.core.interactiveshell import InteractiveShell

    from autograder.authoring.notebook import read_lesson, student_version

    notebook = read_lesson(lesson.read_text(), lesson.name)
    released = student_version(notebook)
    shell = InteractiveShell.instance()
    shell.colors = "NoColor"
    if wrong.name == "-":
        cells = [run(shell, cell.source) for cell in released.cells if cell.cell_type == "code"]
        report.write_text(json.dumps({"cells": cells, "used": ours()}, indent=1))
        return
    answers, found, exercises = read_wrong(wrong), [], []
    for number, (cell, blank) in enumerate(zip(notebook.cells, released.cells)):
        if cell.cell_type != "code":
            continue
        meta = cell.metadata.get("nbgrader", {})
        following = notebook.cells[number + 1].source.strip() if number + 1 < len(notebook.cells) else ""
        if meta.get("solution") and not meta.get("grade") and (match := CHECK.match(following)):
            tries = [{"kind": "released", "words": "", **attempt(shell.user_ns, blank.source, following)}]
            for words, code in answers.pop(match["id"], []):
                tries.append({"kind": "wrong", "words": words, **attempt(shell.user_ns, code, following)})
            exercises.append({"id": match["id"], "grade_id": meta["grade_id"], "tries": tries})
        found.append(run(shell, cell.source))
        if match := CHECK.match(cell.source.strip()):
            last = exercises[-1] if exercises else {"id": None}
            found[-1] |= {
                "check": match["id"],
                "grade_id": meta.get("grade_id"),
                "max": meta.get("points"),
                "follows_its_solution": last["id"] == match["id"],
            }
    report.write_text(
        json.dumps({"cells": found, "exercises": exercises, "unused": sorted(answers), "used": ours()}, indent=1)
    )


def ours() -> list[str]:
    """The project's files that this process has loaded: modules, and what they opened of the assets."""
    from course.paths import ROOT

    files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    return sorted(name for name in files if Path(name).is_relative_to(ROOT) and ".venv" not in name)


def read_wrong(path: Path) -> dict[str, list[tuple[str, str]]]:
    """exercise id -> [(words that the message must hold, code)]."""
    answers: dict[str, list[tuple[str, str]]] = {}
    lines: list[str] = []
    for line in path.read_text().splitlines() if path.exists() else ():
        if match := WRONG.match(line):
            lines = []
            answers.setdefault(match["id"], []).append((match["words"], lines))
        else:
            lines.append(line)
    return {key: [(words, "\n".join(code)) for words, code in entries] for key, entries in answers.items()}


def attempt(names: dict, code: str, test: str) -> dict:
    """Run an answer and its check in a copy of the notebook's names. An answer may raise, a check must not."""
    names, printed, errors = dict(names), io.StringIO(), io.StringIO()
    raised = problem = points = None
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        try:
            exec(compile(code, "<answer>", "exec"), names)
        except BaseException as error:
            raised = f"{type(error).__name__}: {error}"
        printed.truncate(0)
        printed.seek(0)
        errors.truncate(0)
        errors.seek(0)
        try:
            points = eval(test, names)
        except BaseException:
            problem = traceback.format_exc()
    return {
        "points": points,
        "message": printed.getvalue(),
        "stderr": errors.getvalue(),
        "raised": raised,
        "problem": problem,
    }


def run(shell, code: str) -> dict:
    """Run a cell as Jupyter would. Figures are rendered, so that a broken one shows."""
    printed, errors, began = io.StringIO(), io.StringIO(), time.perf_counter()
    problem = result = None
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        outcome = shell.run_cell(code, store_history=False)
        if outcome.success and hasattr(outcome.result, "_repr_png_"):
            try:
                outcome.result._repr_png_()
            except Exception:
                problem = traceback.format_exc()
    if not outcome.success:
        error = outcome.error_in_exec or outcome.error_before_exec
        problem = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    if isinstance(outcome.result, (int, float)):
        result = float(outcome.result)
    return {
        "source": code[:200],
        "seconds": round(time.perf_counter() - began, 2),
        "printed": printed.getvalue()[-4000:],
        "stderr": errors.getvalue()[-2000:],
        "problem": problem,
        "result": result,
    }


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "Agg")
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
    sys.stdout.flush()
    os._exit(0)  # TensorRT-RTX and ONNX Runtime may hang in their own threads' ends
