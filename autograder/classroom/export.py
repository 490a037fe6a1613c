"""The grades of a stage in forms that other systems read.

python -m autograder export csv STAGE [--to grades.csv]
python -m autograder export canvas STAGE [STAGE ...] [--to canvas.csv] [--roster FILE]
python -m autograder export gradescope STAGE [--student NAME] [--to FOLDER]
python -m autograder export run_autograder STAGE [--to FOLDER] [--i-accept-running-student-code-unprotected]

The formats, as published:

Canvas gradebook import (community.canvaslms.com, "How do I import grades in the Gradebook?"): UTF-8 CSV; the columns
Student, ID, SIS User ID, SIS Login ID, Section, in this order, then one per assignment, named "Title" for a new one or
"Title (ID)" for one that Canvas knows; an optional second row whose first cell is "    Points Possible". Canvas finds
a student by ID, else by SIS User ID, else by SIS Login ID. An empty cell leaves a grade as it is.

Gradescope results.json (gradescope-autograders.readthedocs.io, "Autograder Specifications"): an object with `score` or
`tests`; optional `execution_time` (s), `output`, `output_format`, `visibility`, `stdout_visibility`, `extra_data`; in
`tests` each with optional `score`, `max_score`, `status`, `name`, `number`, `output`, `tags`, `visibility`. The
visibility is one of hidden, after_due_date, after_published, visible; a status is passed or failed; a format is text,
html, simple_format, md or ansi. An autograder is a zip with `setup.sh` and `run_autograder`; it finds the submission in
/autograder/submission and must write /autograder/results/results.json.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from autograder.classroom.gradebook import Place, open_place
from course.errors import CourseError, MissingFileError
from course.files import atomic_write
from course.paths import ROOT

CANVAS_COLUMNS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")


@dataclass(frozen=True)
class Cell:
    """One graded cell of one student."""

    notebook: str
    name: str
    score: float
    max_score: float
    needs_manual: bool
    comment: str


@dataclass(frozen=True)
class Row:
    """One student in one stage. `score` is after the late penalty; None if nothing was handed in."""

    student: str
    first_name: str
    last_name: str
    lms_id: str
    score: float | None
    max_score: float
    penalty: float
    needs_manual: bool
    cells: tuple[Cell, ...]


def rows(place: Place, stage: str) -> Iterator[Row]:
    """All students of the gradebook, in the order of their names.

    Raises:
        MissingFileError: the stage was never graded.
    """
    from nbgrader.api import MissingEntry

    if not (place.grading / "gradebook.db").is_file():
        raise MissingFileError(
            "There is no gradebook.",
            "Nothing was graded in this folder.",
            f"Run `python -m autograder grade {stage}` first.",
        )
    with place.gradebook() as gradebook:
        try:
            assignment = gradebook.find_assignment(stage)
        except MissingEntry as error:
            raise MissingFileError(
                f"The gradebook has no stage {stage!r}.",
                f"It has {', '.join(a.name for a in gradebook.assignments) or 'none'}.",
                f"Run `python -m autograder grade {stage}` first.",
            ) from error
        for student in sorted(gradebook.students, key=lambda s: (s.last_name or s.id, s.first_name or "", s.id)):
            names = (student.id, student.first_name or "", student.last_name or "", student.lms_user_id or "")
            try:
                submission = gradebook.find_submission(stage, student.id)
            except MissingEntry:
                yield Row(*names, None, assignment.max_score, 0.0, False, ())
                continue
            penalty = submission.late_submission_penalty or 0.0
            yield Row(
                *names,
                round(max(0.0, submission.score - penalty), 4),
                submission.max_score,
                penalty,
                bool(submission.needs_manual_grade),
                tuple(_cells(submission)),
            )


def _cells(submission) -> Iterator[Cell]:
    for notebook in sorted(submission.notebooks, key=lambda notebook: notebook.name):
        remarks = {remark.cell.name: remark.comment or "" for remark in notebook.comments}
        for grade in sorted(notebook.grades, key=lambda grade: grade.cell.name):
            yield Cell(
                notebook.name,
                grade.cell.name,
                float(grade.score),
                float(grade.max_score),
                bool(grade.needs_manual_grade),
                remarks.get(grade.cell.name, ""),
            )


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
            ]
            for cell in row.cells
        ]
        total = "" if row.score is None else f"{row.score:g}"
        table.append(
            [*head, "", "total", total, f"{row.max_score:g}", f"{row.penalty:g}", str(row.needs_manual).lower()]
        )
    return _csv(table)


def canvas_csv(place: Place, stages: Sequence[str], roster: str | None = None) -> str:
    """Canvas's gradebook import.

    Args:
        roster: text of a gradebook export from Canvas. With it, names, ids and sections are Canvas's own, students that
            it lacks are left out, and a stage gets the column "stage (ID)" if Canvas has one. Without it, the student's
            name here is the SIS Login ID.

    Raises:
        CourseError: the roster is no gradebook export.
    """
    graded = {stage: {row.student: row for row in rows(place, stage)} for stage in stages}
    titles = {stage: stage for stage in stages}
    people = {
        row.student: [
            ", ".join(filter(None, (row.last_name, row.first_name))) or row.student,
            row.lms_id,
            "",
            row.student,
            "",
        ]
        for found in graded.values()
        for row in found.values()
    }
    if roster is not None:
        lines = list(csv.reader(io.StringIO(roster.removeprefix("\ufeff"))))
        if not lines or any(name not in lines[0] for name in CANVAS_COLUMNS if name != "SIS User ID"):
            raise CourseError(
                "The roster is no gradebook export of Canvas.",
                f"Its first row is {lines[:1]}.",
                "In Canvas: Grades, Export, Export Entire Gradebook.",
            )
        header = lines[0]
        titles |= {stage: title for stage in stages for title in header if title.startswith(f"{stage} (")}
        known = [dict(zip(header, line)) for line in lines[1:]]
        people = {
            line["SIS Login ID"]: [line.get(name, "") for name in CANVAS_COLUMNS]
            for line in known
            if line.get("SIS Login ID") in people
        }
    table = [
        [*CANVAS_COLUMNS, *(titles[stage] for stage in stages)],
        [
            "    Points Possible",
            "",
            "",
            "",
            "",
            *(f"{max((row.max_score for row in graded[stage].values()), default=0):g}" for stage in stages),
        ],
    ]
    for student, person in people.items():
        found = [graded[stage].get(student) for stage in stages]
        table.append([*person, *("" if row is None or row.score is None else f"{row.score:g}" for row in found)])
    return _csv(table)


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
        words = [cell.comment, "This waits for a person." if cell.needs_manual else ""]
        if any(words):
            test["output"] = "\n".join(filter(None, words))
        if not cell.needs_manual:
            test["status"] = "passed" if cell.score >= cell.max_score else "failed"
        tests.append(test)
    output = f"Late: {row.penalty:g} points were taken off." if row.penalty else ""
    return {
        "score": row.score or 0.0,
        "output": output,
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
    }


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
if ! {{ grader export gradescope {stage} --student student --to "$base/results/all" &&
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
apt-get install -y bubblewrap python3 python3-venv
cd /autograder/source
python3 -m venv .venv
.venv/bin/pip install --no-cache-dir -e .
"""


def run_autograder(stage: str, unprotected: bool = False) -> dict[str, str]:
    """File name -> text of what an autograder's zip needs besides the course."""
    options = " --i-accept-running-student-code-unprotected" if unprotected else ""
    return {"run_autograder": RUN_AUTOGRADER.format(stage=stage, options=options), "setup.sh": SETUP}


def _csv(table: Sequence[Sequence[str]]) -> str:
    """A cell that a spreadsheet would take for a formula gets a leading apostrophe; a learner chooses some of them."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for line in table:
        writer.writerow([f"'{cell}" if cell[:1] in ("=", "+", "@", "\t", "\r") else cell for cell in line])
    return out.getvalue()


def main(argv: list[str] | None = None) -> int:
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
    if args.form == "gradescope":
        for row in rows(place, stage):
            if row.score is not None and args.student in (None, row.student):
                folder = (args.to or Path("gradescope")) / stage / row.student
                print(atomic_write(folder / "results.json", json.dumps(gradescope(row), indent=1).encode()))
        return 0
    roster = args.roster.read_text(encoding="utf-8-sig") if args.roster else None
    text = plain_csv(place, stage) if args.form == "csv" else canvas_csv(place, args.stages, roster)
    print(atomic_write(args.to or Path(f"{'canvas' if args.form == 'canvas' else 'grades'}.csv"), text.encode()))
    return 0
