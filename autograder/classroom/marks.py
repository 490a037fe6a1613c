"""The marks of a stage as rows, for whatever exports them."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from autograder.classroom.gradebook import Place, settle_lateness
from autograder.classroom.untrusted import spreadsheet_cell
from autograder.measuring.report import Report
from course.errors import CourseError, MissingFileError


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
    """One student in one stage. `score` is after the late penalty; None if nothing was handed in. `open_points`: milestone
    -> points that count as 0 because the machine that measured it could not say (most need a GPU)."""

    student: str
    first_name: str
    last_name: str
    lms_id: str
    score: float | None
    max_score: float
    penalty: float
    needs_manual: bool
    cells: tuple[Cell, ...]
    open_points: Mapping[str, float] = field(default_factory=dict)


def rows(place: Place, stage: str) -> Iterator[Row]:
    """All students of the gradebook, in the order of their names. Late penalties are brought up to date.

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
            settle_lateness(place, gradebook, submission)  # marks by hand count, too
            penalty = submission.late_submission_penalty or 0.0
            yield Row(
                *names,
                round(max(0.0, submission.score - penalty), 4),
                submission.max_score,
                penalty,
                bool(submission.needs_manual_grade),
                tuple(_cells(submission)),
                open_points(place, stage, student.id),
            )


def open_points(place: Place, stage: str, student: str) -> dict[str, float]:
    """Milestone -> points that the last measurement left open."""
    found = {}
    for path in sorted((place.grading / "reports" / stage / student).glob("*.json")):
        with contextlib.suppress(
            OSError, CourseError
        ):  # half written, or of another version: measured again, it is whole
            report = Report.from_json(path.read_text(encoding="utf-8"))
            if report.open_points:
                found[report.milestone] = report.open_points
    return found


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


def write_csv(table: Sequence[Sequence[str]]) -> str:
    """A cell that a spreadsheet would take for a formula gets a leading apostrophe; a learner chooses some of them."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for line in table:
        writer.writerow([spreadsheet_cell(cell) for cell in line])
    return out.getvalue()
