"""The marks of a stage as rows, for whatever exports them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autograder.classroom.gradebook import Place, settle_lateness
from autograder.classroom.untrusted import spreadsheet_cell
from course.errors import MissingFileError


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


def write_csv(table: Sequence[Sequence[str]]) -> str:
    """A cell that a spreadsheet would take for a formula gets a leading apostrophe; a learner chooses some of them."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for line in table:
        writer.writerow([spreadsheet_cell(cell) for cell in line])
    return out.getvalue()
