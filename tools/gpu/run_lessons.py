"""Run lessons with their solutions, as a learner would in Jupyter, and keep them as HTML pages with all outputs.

    python -m tools.gpu.run_lessons --out docs/results/h100/stage1 [solutions/stage1_converter/01_export.py ...]

Each lesson runs in a copy of its stage folder below --work, with the helper files' solutions. A lesson that ran
before and has not changed is skipped, so an interrupted run goes on. `lessons.json` has the seconds of each cell,
the points of each check, the errors, and the machine. Exit status 1 if a cell failed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from autograder.authoring.notebook import read_lesson  # noqa: E402
from course import bench  # noqa: E402
from course.paths import ROOT

VERDICT = re.compile(r"^[✓◐✗] (?P<id>\S+): (?P<points>[\d.]+) of (?P<most>[\d.]+) points", re.MULTILINE)


def make_copy(lesson: Path, work: Path) -> Path:
    """The stage folder as its author has it: helper files with their solutions, no notebooks."""
    folder = work / lesson.parent.name / lesson.stem
    for path in lesson.parent.rglob("*"):
        name = path.relative_to(lesson.parent)
        if path.is_file() and not re.fullmatch(r"\d\d_\w+\.py", path.name) and "__pycache__" not in name.parts:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run(lesson: Path, work: Path, seconds: int) -> tuple[nbformat.NotebookNode, dict]:
    """The executed notebook, and what happened in it. Goes on after a failed cell."""
    notebook = read_lesson(lesson.read_text(), lesson.name)
    folder, began, cells = make_copy(lesson, work), time.perf_counter(), []
    client = NotebookClient(
        notebook,
        timeout=seconds,
        kernel_name="lesson",
        allow_errors=True,
        startup_timeout=180,
        resources={"metadata": {"path": str(folder)}},
    )
    with client.setup_kernel(stderr=subprocess.DEVNULL):  # what cells print comes through the kernel
        for index, cell in enumerate(notebook.cells):
            start = time.perf_counter()
            try:
                client.execute_cell(cell, index)
            except Exception as error:  # a dead kernel or a cell that took too long ends this lesson, not the others
                cells.append({"source": cell.source[:120], "error": f"{type(error).__name__}: {str(error)[-1500:]}"})
                break
            if cell.cell_type != "code":
                continue
            outputs = cell.get("outputs", [])
            printed = "".join(out.get("text", "") for out in outputs if out.output_type == "stream")
            failed = [f"{out.ename}: {out.evalue}" for out in outputs if out.output_type == "error"]
            cells.append(
                {
                    "source": cell.source[:120],
                    "seconds": round(time.perf_counter() - start, 2),
                    "checks": [match.groupdict() for match in VERDICT.finditer(printed)],
                }
            )
            if failed:
                cells[-1]["error"] = failed[0]
    return notebook, {"lesson": lesson.stem, "seconds": round(time.perf_counter() - began, 1), "cells": cells}


def as_page(notebook: nbformat.NotebookNode, title: str) -> str:
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="lab")
    page, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title}})
    for folder, name in ((sys.prefix, "~/trt-course/.venv"), (str(ROOT), "~/trt-course")):  # not this machine's paths
        page = page.replace(folder, name)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "lessons")
    parser.add_argument(
        "--seconds", type=int, default=600, help="longest time for one cell: a milestone on a GPU takes five minutes"
    )
    args = parser.parse_args()
    lessons = [path.resolve() for path in args.lessons] or sorted((ROOT / "solutions").glob("stage*/[0-9][0-9]_*.py"))
    args.out.mkdir(parents=True, exist_ok=True)
    specs = Path(tempfile.mkdtemp()) / "kernels" / "lesson"
    specs.mkdir(parents=True)
    (specs / "kernel.json").write_text(
        json.dumps(
            {  # this very Python, whatever kernels are installed
                "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                "display_name": "Python 3",
                "language": "python",
            }
        )
    )
    os.environ["JUPYTER_PATH"] = os.pathsep.join([str(specs.parents[1]), os.environ.get("JUPYTER_PATH", "")])
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    record = args.out / "lessons.json"
    known = json.loads(record.read_text()) if record.exists() else {"runs": {}}
    failed = []
    for lesson in lessons:
        digest = hashlib.sha256(lesson.read_bytes()).hexdigest()
        if known["runs"].get(lesson.stem, {}).get("sha256") == digest and not known["runs"][lesson.stem]["errors"]:
            print(f"{lesson.stem}: ran before, unchanged", flush=True)
            continue
        notebook, outcome = run(lesson, args.work, args.seconds)
        errors = [cell["error"] for cell in outcome["cells"] if "error" in cell]
        checks = [check for cell in outcome["cells"] for check in cell.get("checks", [])]
        (args.out / f"{lesson.stem}.html").write_text(as_page(notebook, lesson.stem))
        known["runs"][lesson.stem] = {**outcome, "sha256": digest, "errors": errors, "machine": bench.machine()}
        record.write_text(json.dumps(known, indent=1))
        won, most = (sum(float(check[key]) for check in checks) for key in ("points", "most"))
        print(
            f"{lesson.stem}: {outcome['seconds']:.0f} s, {won:g} of {most:g} points, {len(errors)} failed cells",
            flush=True,
        )
        for error in errors:
            print("   ", error[:400], flush=True)
        failed += errors
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
