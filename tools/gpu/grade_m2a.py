"""Make our own solution of milestone 2a on this machine and let the grader measure it: on a GPU all of its 20 points.

    python -m tools.gpu.grade_m2a --out docs/results/<card>/m2a            # without bubblewrap, too: public images
    python -m tools.gpu.grade_m2a --out ... --mode hidden --who reference  # as in grading: needs bubblewrap and a secret
    python -m tools.gpu.grade_m2a --out /tmp/m2a --lane cpu                # a rehearsal, where there is no GPU

In --out: report.json, the grader's; solution.json, what was made, with its seconds and the machine. Exit status 0 if all
points that this lane can give were given, 1 if not, 2 if the grader failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

from autograder import milestones
from autograder.authoring.notebook import read_lesson
from autograder.measuring import measure
from autograder.measuring.report import Report
from autograder.milestones.stage2 import INT8, MODEL
from autograder.tasks import inputs
from course import bench
from course.files import atomic_write
from course.paths import ROOT

MAKES_THE_MODEL = "m2a-quantize"


def make(folder: Path) -> dict[str, object]:
    """What is handed in: the scripts as in `solutions/`, and the model, made by the lesson's own cells."""
    source = ROOT / "solutions" / INT8.stage
    shutil.copytree(source / "m2a", folder / "m2a", ignore=shutil.ignore_patterns("__pycache__"))
    lesson = read_lesson((source / f"{INT8.notebook}.py").read_text(), INT8.notebook)
    names: dict[str, object] = {}
    begin, before = time.perf_counter(), Path.cwd()
    os.chdir(folder)
    try:
        for cell in (cell for cell in lesson.cells if cell.cell_type == "code"):
            exec(compile(cell.source, INT8.notebook, "exec"), names)
            if cell.metadata.get("nbgrader", {}).get("grade_id") == MAKES_THE_MODEL:
                break
    finally:
        os.chdir(before)
    return {"seconds": round(time.perf_counter() - begin, 1), "bytes": (folder / MODEL).stat().st_size}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--mode", choices=inputs.MODES, default="public")
    parser.add_argument("--who", default="")
    parser.add_argument("--lane", choices=milestones.LANES)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="m2a-") as folder:
        made = make(Path(folder))
        print(f"The solution was made in {made['seconds']} s.", flush=True)
        record = {"made": made, "machine": bench.machine(), "command": ["python", "-m", "tools.gpu.grade_m2a"]}
        atomic_write(args.out / "solution.json", json.dumps(record, indent=1).encode())
        options = ["--lane", args.lane] if args.lane else []
        options += [
            "--workdir",
            folder,
            "--mode",
            args.mode,
            "--who",
            args.who,
            "--json",
            str(args.out / "report.json"),
        ]
        status = measure.main([INT8.id, *options])
    report = Report.from_json((args.out / "report.json").read_text())
    return status or int(report.points + report.open_points < INT8.points)


if __name__ == "__main__":
    raise SystemExit(main())
