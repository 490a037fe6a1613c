"""Run one lesson from top to bottom in this process, and try every exercise: released cell, wrong answers, solution.

    python tests/lessons/run_lesson.py LESSON.py WRONG.py REPORT.json     (in a copy of the stage folder)
    python tests/lessons/run_lesson.py LESSON.py - REPORT.json            the released notebook, untouched
    python tests/lessons/run_lesson.py --serve                            forks for each request; see `Server`

A lesson's cells run in IPython as in a notebook. At an exercise the other answers run first, each in a copy of the
notebook's names, so that the solution's are what the following cells see.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import re
import sys
import time
import traceback
from pathlib import Path

CHECK = re.compile(r'^check\("(?P<id>[^"]+)"\)$')
PACKAGES = (
    "torch",
    "torchvision",
    "torch._dynamo",
    "onnx",
    "onnxscript",
    "matplotlib.pyplot",
    "IPython.core.interactiveshell",
    "jupytext",
)
"""What most lessons import; not onnxruntime, which starts a thread: a fork would be without it."""
WRONG = re.compile(r"^# %% (?P<id>\S+) \| (?P<words>.+)$")


def main(lesson: Path, wrong: Path, report: Path) -> None:
    from IPython.core.interactiveshell import InteractiveShell

    from autograder.authoring.notebook import read_lesson, student_version
    from tests import threads

    threads.limit_onnxruntime()
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


def serve() -> None:
    """Run lessons until stdin ends, each in a fork of this process, so that none imports PyTorch again: ten seconds.

    Only packages are imported here, nothing of the course. A line of stdin: {"arguments": the three, "cwd": folder,
    "environment": all variables, "log": file for what is printed}. A line of stdout: the fork's process id, then its
    status when it has ended. A fork leads a process group of its own, with what its lesson starts.
    """
    for name in PACKAGES:
        with contextlib.suppress(ImportError):  # a lesson that needs it says so itself
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # the forks' garbage collection leaves these objects alone, so that their memory stays shared
    for line in sys.stdin:
        asked = json.loads(line)
        if not (pid := os.fork()):
            os.setpgid(0, 0)
            with open(asked["log"], "wb") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.environ.clear()
            os.environ.update(asked["environment"])
            os.chdir(asked["cwd"])
            try:
                main(*map(Path, asked["arguments"]))
            except BaseException:
                traceback.print_exc()
                leave(1)
            leave(0)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def leave(status: int) -> None:
    """End at once: TensorRT-RTX and ONNX Runtime may hang in their own threads' ends."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


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
    began = time.perf_counter()
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
        "seconds": round(time.perf_counter() - began, 2),
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
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        main(*map(Path, sys.argv[1:4]))
        leave(0)
