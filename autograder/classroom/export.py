"""The grades of a stage in forms that other systems read.

python -m autograder export csv STAGE [--to grades.csv]
python -m autograder export canvas STAGE [STAGE ...] [--to canvas.csv] [--roster FILE]
python -m autograder export gradescope STAGE [--student NAME] [--to FOLDER]
python -m autograder export run_autograder STAGE [--to FOLDER] [--i-accept-running-student-code-unprotected]

The formats, as published:

Canvas: see `autograder.classroom.canvas`.

Gradescope results.json (gradescope-autograders.readthedocs.io, "Autograder Specifications"): an object with `score` or
`tests`; optional `execution_time` (s), `output`, `output_format`, `visibility`, `stdout_visibility`, `extra_data`; in
`tests` each with optional `score`, `max_score`, `status`, `name`, `number`, `output`, `tags`, `visibility`. The
visibility is one of hidden, after_due_date, after_published, visible; a status is passed or failed; a format is text,
html, simple_format, md or ansi. An autograder is a zip with `setup.sh` and `run_autograder`; it finds the submission in
/autograder/submission and must write /autograder/results/results.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from autograder.classroom.canvas import canvas_csv
from autograder.classroom.gradebook import Place, open_place
from autograder.classroom.marks import Row, rows, write_csv
from autograder.classroom.student import read_state
from autograder.classroom.untrusted import shown, student_id
from course.files import atomic_write
from course.paths import ROOT


def plain_csv(place: Place, stage: str) -> str:
    """One row per student and graded cell, and one per student with the cell "total"."""
    table = [
        [
            "student",
            "last_name",
            "first_name",
            "stage",
            "notebook",
            "cell",
            "score",
            "max_score",
            "late_penalty",
            "needs_manual",
            "open_points",
        ]
    ]
    for row in rows(place, stage):
        head = [row.student, row.last_name, row.first_name, stage]
        table += [
            [
                *head,
                cell.notebook,
                cell.name,
                f"{cell.score:g}",
                f"{cell.max_score:g}",
                "",
                str(cell.needs_manual).lower(),
                "",
            ]
            for cell in row.cells
        ]
        total = "" if row.score is None else f"{row.score:g}"
        waits = [str(row.needs_manual).lower(), f"{sum(row.open_points.values()):g}"]
        table.append([*head, "", "total", total, f"{row.max_score:g}", f"{row.penalty:g}", *waits])
    return write_csv(table)


def gradescope(row: Row) -> dict:
    """Gradescope's results.json for one student."""
    tests = []
    for cell in row.cells:
        test = {
            "name": f"{cell.notebook}: {cell.name}",
            "score": cell.score,
            "max_score": cell.max_score,
            "visibility": "visible",
        }
        said = [cell.comment, "This waits for a person." if cell.needs_manual else ""]
        if any(said):
            test["output"] = "\n".join(filter(None, said))
        if not cell.needs_manual:
            test["status"] = "passed" if cell.score >= cell.max_score else "failed"
        tests.append(test)
    words = [f"Late: {row.penalty:g} points were taken off."] if row.penalty else []
    words += [
        f"{points:g} points of {milestone} are open: the machine that measured it could not say. They are 0 for now."
        for milestone, points in row.open_points.items()
    ]
    return {
        "score": row.score or 0.0,
        "output": "\n".join(words),
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
    }


def half_graded(place: Place, stage: str) -> dict[str, str]:
    """Student -> what is missing, of those who handed in and are not graded to the end. Their marks will change."""
    found = {}
    for folder in sorted((place.grading / "submitted").glob(f"*/{stage}")):
        student = student_id(folder.parent.name)
        status = read_state(place.grading / "state" / stage / f"{student}.json").get("status", "")
        if status == "executed":
            found[student] = "its milestones are not measured"
        elif status not in ("measured", "failed"):
            found[student] = "its grading has not come to its end"
    return found


def _not_final(place: Place, stage: str, wanted: str | None) -> Iterator[str]:
    """A line for each student (or for `wanted`) whose marks will change, and one that says how to get what is open."""
    for student, why in half_graded(place, stage).items():
        if wanted in (None, student):
            yield f"Not final: {shown(student)} in {stage}: {why}. Let `grade {stage}` come to its end."
    waiting = 0
    for row in rows(place, stage):
        if row.open_points and wanted in (None, row.student):
            waiting += 1
            points = ", ".join(f"{points:g} points of {milestone}" for milestone, points in row.open_points.items())
            yield f"Open: {shown(row.student)} in {stage}: {points} could not be measured on the machine that graded, and count as 0."
    if waiting:
        yield f"Most need a GPU: there, `python -m autograder grade {stage} --measure-only --force`; then export again."


RUN_AUTOGRADER = """\
#!/usr/bin/env bash
# Gradescope starts this in its container; the course lies in /autograder/source.
# The submission is graded as everywhere else; whatever happens, there is a results.json.
set -uo pipefail
base=${{AUTOGRADER_BASE:-/autograder}}
course=$base/source
work=$course/.grading/submitted/student/{stage}
mkdir -p "$base/results" "$work"
cp -rP "$base/submission/." "$work/"
cd "$course" || exit 1
grader() {{ .venv/bin/python -m autograder "$@" >> grading.log 2>&1; }}
grader grade {stage} --student student --force{options}  # a submission that failed has its zero in the gradebook
if ! {{ grader export gradescope {stage} --student student --to "$base/results/all"
       cp "$base/results/all/{stage}/student/results.json" "$base/results/results.json"; }}; then
  tail -c 4000 grading.log >&2
  cat > "$base/results/results.json" <<'JSON'
{{"score": 0, "stdout_visibility": "hidden",
 "output": "The grader failed, which may not be your fault. Your instructor sees its log."}}
JSON
fi
rm -rf "$base/results/all"
"""
SETUP = """\
#!/usr/bin/env bash
# Gradescope runs this once, while it builds the image. The zip holds the course beside this file.
set -euo pipefail
apt-get update
apt-get install -y bubblewrap g++ python3 python3-venv
cd /autograder/source
python3 -m venv .venv
.venv/bin/pip install --no-cache-dir -e .
"""


def run_autograder(stage: str, unprotected: bool = False) -> dict[str, str]:
    """File name -> text of what an autograder's zip needs besides the course."""
    options = " --i-accept-running-student-code-unprotected" if unprotected else ""
    return {"run_autograder": RUN_AUTOGRADER.format(stage=stage, options=options), "setup.sh": SETUP}


def main(argv: list[str] | None = None) -> int:
    """0; 1 if somebody is not graded to the end or has open points, or Canvas knows somebody by no id. The files are written
    all the same."""
    parser = argparse.ArgumentParser(
        prog="python -m autograder export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("form", choices=["csv", "canvas", "gradescope", "run_autograder"])
    parser.add_argument("stages", nargs="+", metavar="STAGE")
    parser.add_argument("--to", type=Path, help="file, or for Gradescope folder, to write")
    parser.add_argument("--roster", type=Path, help="gradebook export from Canvas, for its ids and names")
    parser.add_argument("--student", help="gradescope: only this one")
    parser.add_argument("--root", type=Path, default=ROOT, help="the course folder")
    parser.add_argument(
        "--i-accept-running-student-code-unprotected",
        action="store_true",
        dest="unprotected",
        help="run_autograder: grade without a sandbox",
    )
    args = parser.parse_args(argv)
    stage = args.stages[0]
    if len(args.stages) > 1 and args.form != "canvas":
        parser.error("only canvas takes several stages")
    if args.form == "run_autograder":
        for name, text in run_autograder(stage, args.unprotected).items():
            path = atomic_write((args.to or Path("gradescope")) / name, text.encode())
            os.chmod(path, 0o755)
            print(path)
        return 0
    place = open_place(args.root)
    status = 0
    for one in args.stages:
        for words in _not_final(place, one, args.student):
            print(words, file=sys.stderr)
            status = 1
    if args.form == "gradescope":
        for row in rows(place, stage):
            if row.score is not None and args.student in (None, row.student):
                folder = (args.to or Path("gradescope")) / stage / row.student
                print(atomic_write(folder / "results.json", json.dumps(gradescope(row), indent=1).encode()))
        return status
    if args.form == "csv":
        print(atomic_write(args.to or Path("grades.csv"), plain_csv(place, stage).encode()))
        return status
    made = canvas_csv(place, args.stages, args.roster.read_text(encoding="utf-8-sig") if args.roster else None)
    print(atomic_write(args.to or Path("canvas.csv"), made.text.encode()))
    if made.unmatched():
        print(made.unmatched(), file=sys.stderr)
        return 1
    return status
