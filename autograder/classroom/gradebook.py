"""What the grader writes into nbgrader's gradebook, and into the graded notebooks, besides nbgrader itself."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbgrader.api import Gradebook, SubmittedAssignment
from nbgrader.preprocessors import AssignLatePenalties
from traitlets.config import Config, PyFileConfigLoader

from autograder.classroom.pages import clean_outputs
from autograder.classroom.preprocessors import set_score
from autograder.classroom.untrusted import folder_name
from autograder.milestones import Milestone
from course.errors import CourseError
from course.files import atomic_write


@dataclass(frozen=True)
class Place:
    """One course folder and nbgrader's configuration of it."""

    root: Path
    config: Config

    @property
    def grading(self) -> Path:
        return self.root / ".grading"

    def folder(self, step: str, student: str, stage: str) -> Path:
        """`step`: submitted, autograded or feedback. `student`: an id; what was handed in lies under the name it had."""
        name = folder_name(student) if step == "submitted" and student else student
        return self.root / self.config.CourseDirectory[f"{step}_directory"] / name / stage

    def release(self, stage: str) -> Path:
        return self.root / self.config.CourseDirectory.release_directory / stage

    @contextmanager
    def gradebook(self):
        with Gradebook(self.config.CourseDirectory.db_url, self.config.CourseDirectory.course_id) as gradebook:
            yield gradebook


def open_place(root: Path) -> Place:
    """Read `root/nbgrader_config.py`.

    Raises:
        CourseError: it is not there.
    """
    root = Path(root).resolve()
    if not (root / "nbgrader_config.py").is_file():
        raise CourseError(
            f"{root} is no course folder.",
            "It has no nbgrader_config.py.",
            "Run this in the course's folder, or name it with --root.",
        )
    return Place(root, PyFileConfigLoader("nbgrader_config.py", path=str(root)).load_config())


def zero(place: Place, stage: str, student: str, comment: str) -> None:
    """No points, and a comment: so that no earlier score stands while, or after, something went wrong.

    Scores and comments that a person gave stay; a person is asked to look.
    """
    with place.gradebook() as gradebook:
        gradebook.update_or_create_student(student)
        submission = gradebook.update_or_create_submission(stage, student)
        for notebook in submission.notebooks:
            notebook.late_submission_penalty = None
            for grade in notebook.grades:
                grade.auto_score, grade.needs_manual_grade = 0.0, True
            for remark in notebook.comments:
                remark.auto_comment = comment
        gradebook.db.commit()


def write_failed(place: Place, stage: str, student: str, comment: str) -> None:
    """The released notebooks with the comment on top, for formgrader and feedback."""
    folder = place.folder("autograded", student, stage)
    shutil.rmtree(folder, ignore_errors=True)
    for path in sorted(place.release(stage).glob("*.ipynb")):
        notebook = nbformat.read(path, 4)
        notebook.cells.insert(0, nbformat.v4.new_markdown_cell(f"**Grader:** {comment}"))
        atomic_write(folder / path.name, nbformat.writes(notebook).encode())


def save_milestone(
    place: Place,
    milestone: Milestone,
    student: str,
    points: float,
    text: str,
    page: str = "",
    needs_manual: bool = False,
) -> None:
    """Write a measured score: into the gradebook, and into the graded notebook, where feedback shows it.

    The late penalty is computed again, for it depends on the score.
    """
    stage, name = milestone.stage, milestone.notebook
    path = place.folder("autograded", student, stage) / f"{name}.ipynb"
    if path.is_file() and not path.is_symlink():
        notebook = nbformat.read(path, 4)
        for cell in notebook.cells:
            if cell.metadata.get("nbgrader", {}).get("grade_id") == milestone.grade_id:
                set_score(cell, text, points, page)
        clean_outputs(notebook)
        atomic_write(path, nbformat.writes(notebook).encode())
        os.chmod(path, 0o444)
    with place.gradebook() as gradebook:
        grade = gradebook.find_grade(milestone.grade_id, name, stage, student)
        grade.auto_score = float(points)
        grade.needs_manual_grade = needs_manual or grade.manual_score is not None
        gradebook.db.commit()
        settle_lateness(place, gradebook, gradebook.find_submission(stage, student))


def settle_lateness(place: Place, gradebook: Gradebook, submission: SubmittedAssignment) -> None:
    """Compute what lateness costs from the marks as they are now, and write it down.

    nbgrader computes it once, when a notebook was run. A mark that a person gives later, another due date or another
    policy would not change it.
    """
    step = AssignLatePenalties(config=place.config)
    step.init_plugin()
    late = submission.total_seconds_late or 0
    changed = False
    for notebook in submission.notebooks:
        penalty = None
        if late > 0:
            penalty = step.plugin_inst.late_submission_penalty(submission.student.id, notebook.score, late)
        if penalty is not None:
            penalty = min(max(0.0, penalty), notebook.score)
        if penalty != notebook.late_submission_penalty:
            notebook.late_submission_penalty, changed = penalty, True
    if changed:
        gradebook.db.commit()
