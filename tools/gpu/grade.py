"""Make our own solution of a milestone on this machine and let the grader measure it: on a GPU all of its points.

    python -m tools.gpu.grade s2.m2a --out docs/results/<card>/m2a       # without bubblewrap, too: public images
    python -m tools.gpu.grade s3.m3a --out ... --mode hidden --who me    # as in grading: needs bubblewrap and a secret
    python -m tools.gpu.grade s3.m3a --out /tmp/m3a --lane cpu           # a rehearsal, where there is no GPU

What is handed in is made as a learner makes it: the helper files of `solutions/`, and the code cells of the lesson, in order,
up to the last one that the lesson marks as a solution; where all is written by hand, the first one, which makes the network. In
--out: report.json, the grader's; solution.json, what was made, with
its seconds and the machine. Exit status 0 if all points that this lane can give were given, 1 if not, 2 if the grader failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from autograder import milestones
from autograder.authoring.notebook import read_lesson
from autograder.measuring import measure
from autograder.measuring.report import Report
from autograder.milestones import Milestone
from autograder.tasks import inputs
from course import bench
from course.files import atomic_write
from course.paths import ROOT


def make(milestone: Milestone, folder: Path) -> dict[str, object]:
    """What is handed in, below `folder`."""
    source = ROOT / "solutions" / milestone.stage
    for artifact in milestone.artifacts:
        if artifact.built:
            continue
        top = artifact.path.split("/")[0]  # with what lies beside it
        if (source / top).is_dir() and not (folder / top).exists():
            shutil.copytree(source / top, folder / top, ignore=shutil.ignore_patterns("__pycache__"))
    lesson = read_lesson((source / f"{milestone.notebook}.py").read_text(), milestone.notebook)
    code = [cell for cell in lesson.cells if cell.cell_type == "code"]
    last = max((n for n, cell in enumerate(code) if cell.metadata.get("nbgrader", {}).get("solution")), default=0)
    names: dict[str, object] = {"__name__": "__main__"}
    begin, before = time.perf_counter(), Path.cwd()
    os.chdir(folder)
    try:
        for cell in code[: last + 1]:
            exec(compile(cell.source, milestone.notebook, "exec"), names)
    finally:
        os.chdir(before)
    sizes = {
        one.path: (folder / one.path).stat().st_size for one in milestone.artifacts if (folder / one.path).is_file()
    }
    return {"seconds": round(time.perf_counter() - begin, 1), "bytes": sizes}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("milestone", help="its id, such as s2.m2a")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--mode", choices=inputs.MODES, default="public")
    parser.add_argument("--who", default="")
    parser.add_argument("--lane", choices=milestones.LANES)
    args = parser.parse_args()
    milestone = milestones.get(args.milestone)
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="grade-") as folder:
        made = make(milestone, Path(folder))
        print(f"The solution was made in {made['seconds']} s.", flush=True)
        record = {
            "made": made,
            "machine": bench.machine(),
            "command": ["python", "-m", "tools.gpu.grade", *sys.argv[1:]],
        }
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
        status = measure.main([milestone.id, *options])
    report = Report.from_json((args.out / "report.json").read_text())
    return status or int(report.points + report.open_points < milestone.points)


if __name__ == "__main__":
    raise SystemExit(main())
