"""Run solved lessons as submissions of a class: in the grader's sandbox, which shows less than a learner's own machine.

    python -m tools.lessons_in_class [solutions/stage2_quantizer/02_ptq_on_tensorrt.py ...]

All lessons if none is named; their milestones are measured elsewhere. For each: its points and errors. Exit status 1 if a right
answer lost points. The whole takes about half an hour on two cores, and is run by hand before a release.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import nbformat

from autograder.authoring.notebook import read_lesson
from autograder.classroom.kernel import SandboxedExecute
from course.paths import ROOT
from tools.gpu.run_lessons import VERDICT, make_copy


def run(lesson: Path, work: Path) -> tuple[float, float, list[str]]:
    """(points, most points, errors and verdicts that are not full) of a lesson's checks."""
    notebook = read_lesson(lesson.read_text(), lesson.name)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    execute = SandboxedExecute(timeout=300, startup_timeout=120, allow_errors=True)
    resources = {"metadata": {"path": str(make_copy(lesson, work))}}
    done, _ = execute.preprocess(nbformat.from_dict(notebook), resources)
    points, most, faults = 0.0, 0.0, []
    for cell in done.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "error":
                faults.append(f"{output.ename}: {str(output.evalue)[:300]}, in: {cell.source[:80]!r}")
            for verdict in VERDICT.finditer(output.get("text", "")):
                points, most = points + float(verdict["points"]), most + float(verdict["most"])
                if verdict["points"] != verdict["most"]:
                    faults.append(output.text[verdict.start() : verdict.start() + 300])
    return points, most, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", type=Path)
    lessons = parser.parse_args().lessons or sorted((ROOT / "solutions").glob("stage*/[0-9][0-9]_*.py"))
    lost = False
    for lesson in lessons:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="in-class-") as work:
            points, most, faults = run(lesson, Path(work))
        lost |= points < most or bool(faults)
        print(
            f"{lesson.parent.name}/{lesson.stem}: {points:g} of {most:g}, {time.monotonic() - began:.0f} s", flush=True
        )
        for fault in faults:
            print("  " + fault.replace("\n", "\n  "), flush=True)
    return int(lost)


if __name__ == "__main__":
    sys.exit(main())
