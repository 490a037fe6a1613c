"""Feedback pages, each made anew if what it shows has changed: the graded notebooks, marks, or a person's comments.

python -m autograder feedback STAGE [--student NAME ...] [--release]

`nbgrader generate_feedback` skips a page that is there, even if the milestone was measured again, or a comment was
written, after it was made. With --release the pages also go to the exchange, each to the learner who handed in there;
`nbgrader release_feedback` stops at the first one who did not.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from nbgrader.api import MissingEntry

from autograder.classroom.grade import environment, last_words
from autograder.classroom.gradebook import Place, open_place, settle_lateness
from autograder.classroom.guard import guard
from autograder.classroom.pages import VERSION
from autograder.classroom.student import read_state, write_state
from autograder.classroom.untrusted import shown, student_id
from course.errors import MissingFileError
from course.paths import ROOT

NEEDED = ("timestamp.txt", "submission_secret.txt")
"""Files that `nbgrader submit` adds: by them a learner's `nbgrader fetch_feedback` finds the pages again."""


def feedback(place: Place, stage: str, students: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Make the pages that are missing or out of date: (student, "made", "up to date" or why it failed).

    Raises:
        MissingFileError: nothing of this stage was graded, or of one of `students`.
        CourseError: the disk is full, or the gradebook cannot be read.
    """
    base = place.folder("autograded", "", stage).parent
    graded = sorted(path.name for path in base.glob("*") if any((path / stage).glob("*.ipynb")))
    wanted = [name if name in graded else student_id(name) for name in students] or graded
    missing = [name for name in wanted if name not in graded]
    if missing or not graded:
        raise MissingFileError(
            f"{', '.join(missing) or stage}: nothing was graded yet.",
            f"There is no notebook in {base.relative_to(place.root)}.",
            f"Run `python -m autograder grade {stage}` first.",
        )
    for student in wanted:
        said: list[str] = []
        with guard(said.append, "the feedback could not be made"):
            said.append(_one(place, stage, student))
        yield student, said[0]


def _one(place: Place, stage: str, student: str) -> str:
    state = place.grading / "state" / stage / f"{student}.feedback.json"
    mark = _fingerprint(place, stage, student)
    pages = place.folder("feedback", student, stage)
    names = {path.stem for path in place.folder("autograded", student, stage).glob("*.ipynb")}
    if read_state(state).get("fingerprint") == mark and names <= {path.stem for path in pages.glob("*.html")}:
        return "up to date"
    done = _nbgrader(place, "generate_feedback", stage, student, "--force")
    if done.returncode:
        return f"nbgrader could not make it: {last_words(done.stderr or done.stdout)}"
    write_state(state, fingerprint=mark)
    return "made"


def release(place: Place, stage: str, student: str) -> str:
    """Put a learner's pages into nbgrader's exchange: "released", or why it could not be done and what to do."""
    pages = place.folder("feedback", student, stage)
    lost = [name for name in NEEDED if not (pages / name).is_file()]
    if lost:
        return (
            f"not released: the submission was not collected from the exchange ({' and '.join(lost)} "
            f"{'is' if len(lost) == 1 else 'are'} missing). Send the pages in {pages.relative_to(place.root)} yourself"
        )
    done = _nbgrader(place, "release_feedback", stage, student)
    if done.returncode:
        return f"not released: nbgrader says: {last_words(done.stderr or done.stdout)}"
    return "released"


def _nbgrader(place: Place, command: str, stage: str, student: str, *more: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "autograder.classroom.app", command, stage, f"--student={student}", *more],
        cwd=place.root,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env=environment(),
    )


def _fingerprint(place: Place, stage: str, student: str) -> str:
    """SHA-256 over all that a page shows. Brings the late penalty up to date."""
    digest = hashlib.sha256(VERSION.encode())
    for path in sorted(place.folder("autograded", student, stage).glob("*.ipynb")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    with place.gradebook() as book:
        try:
            submission = book.find_submission(stage, student)
        except MissingEntry:
            return digest.hexdigest()
        settle_lateness(place, book, submission)
        for notebook in sorted(submission.notebooks, key=lambda notebook: notebook.name):
            marks = sorted(
                (grade.cell.name, grade.auto_score, grade.manual_score, grade.extra_credit) for grade in notebook.grades
            )
            remarks = sorted((r.cell.name, r.auto_comment or "", r.manual_comment or "") for r in notebook.comments)
            digest.update(repr((notebook.name, notebook.late_submission_penalty, marks, remarks)).encode())
    return digest.hexdigest()


def main(argv: list[str] | None = None) -> int:
    """0 if every page is up to date now, and released if that was asked for; 1 if one is not."""
    parser = argparse.ArgumentParser(
        prog="python -m autograder feedback",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("stage")
    parser.add_argument("--student", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("--release", action="store_true", help="also put the pages into nbgrader's exchange")
    parser.add_argument("--root", type=Path, default=ROOT, help="the course folder")
    args = parser.parse_args(argv)
    stage = args.stage.strip("/")
    failed, place = 0, open_place(args.root)
    for student, words in feedback(place, stage, args.student):
        good = words in ("made", "up to date")
        if good and args.release:
            said: list[str] = []
            with guard(said.append, "not released"):
                said.append(release(place, stage, student))
            good = said[0] == "released"
            words += f"; {said[0]}"
        failed += not good
        print(f"{shown(student, 60)}: {words}", flush=True)
    return 1 if failed else 0
