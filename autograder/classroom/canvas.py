"""Grades for Canvas.

Canvas gradebook import (community.canvaslms.com, "How do I import grades in the Gradebook?"): UTF-8 CSV; the columns
Student, ID, SIS User ID, SIS Login ID, Section, in this order, then one per assignment, named "Title" for a new one or
"Title (ID)" for one that Canvas knows; an optional second row whose first cell is "    Points Possible". Canvas finds
a student by ID, else by SIS User ID, else by SIS Login ID. An empty cell leaves a grade as it is.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from autograder.classroom.gradebook import Place
from autograder.classroom.marks import Row, rows, write_csv
from autograder.classroom.untrusted import shown
from course.errors import CourseError

COLUMNS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")
_TEST_STUDENT = "Student, Test"
"""Canvas's own, in each export; nobody."""


@dataclass(frozen=True)
class CanvasExport:
    """The file, and who is missing from it: `only_here` have grades that Canvas gets no line for."""

    text: str
    only_here: tuple[str, ...] = ()
    only_in_canvas: tuple[str, ...] = ()

    def unmatched(self) -> str:
        """Everyone who was found on one side only, with the way out; empty if nobody was."""
        words = []
        if self.only_here:
            words.append(
                f"Graded here, not found in the roster, and not in the file: {_list(self.only_here)}.\n"
                "  Give each the number of the roster's column ID: nbgrader db student add NAME --lms-user-id=NUMBER"
            )
        if self.only_in_canvas:
            words.append(f"In the roster, not found here: {_list(self.only_in_canvas)}. Canvas keeps their grades.")
        return "\n".join(words)


def _list(names: Sequence[str]) -> str:
    return ", ".join(shown(name, 60) for name in names)


def canvas_csv(place: Place, stages: Sequence[str], roster: str | None = None) -> CanvasExport:
    """Canvas's gradebook import.

    Args:
        roster: text of a gradebook export from Canvas. With it, names, ids and sections are Canvas's own, and a stage
            gets the column "stage (ID)" if Canvas has one. A line of it is the student here whose `lms_user_id` is its
            ID; else the one whose `lms_user_id` or name is its SIS User ID; else its SIS Login ID. Without a roster,
            the student's name here is the SIS Login ID.

    Raises:
        CourseError: the roster is no gradebook export.
    """
    graded = {stage: {row.student: row for row in rows(place, stage)} for stage in stages}
    titles = {stage: stage for stage in stages}
    students = {row.student: row for found in graded.values() for row in found.values()}
    only_here: tuple[str, ...] = ()
    only_there: tuple[str, ...] = ()
    if roster is None:
        people = {name: _person(row) for name, row in students.items()}
    else:
        header, lines = _read(roster)
        titles |= {stage: title for stage in stages for title in header if title.startswith(f"{stage} (")}
        people, only_there = _match(students, lines)
        has_grade = {name for found in graded.values() for name, row in found.items() if row.score is not None}
        only_here = tuple(name for name in students if name in has_grade and name not in people)
    most = [max((row.max_score for row in graded[stage].values()), default=0) for stage in stages]
    table = [
        [*COLUMNS, *(titles[stage] for stage in stages)],
        ["    Points Possible", "", "", "", "", *(f"{value:g}" for value in most)],
    ]
    for name, person in people.items():
        found = [graded[stage].get(name) for stage in stages]
        table.append([*person, *("" if row is None or row.score is None else f"{row.score:g}" for row in found)])
    return CanvasExport(write_csv(table), only_here, only_there)


def _person(row: Row) -> list[str]:
    name = ", ".join(filter(None, (row.last_name, row.first_name))) or row.student
    return [name, row.lms_id, "", row.student, ""]


def _read(roster: str) -> tuple[list[str], list[dict[str, str]]]:
    """The header, and the lines of students."""
    lines = list(csv.reader(io.StringIO(roster.removeprefix("\ufeff"))))
    if not lines or any(name not in lines[0] for name in COLUMNS if name not in ("SIS User ID", "SIS Login ID")):
        raise CourseError(
            "The roster is no gradebook export of Canvas.",
            f"Its first row is {lines[:1]}.",
            "In Canvas: Grades, Export, Export Entire Gradebook.",
        )
    known = [dict(zip(lines[0], line)) for line in lines[1:]]
    return lines[0], [line for line in known if line.get("ID", "").strip() and line["Student"] != _TEST_STUDENT]


def _match(students: dict[str, Row], lines: list[dict[str, str]]) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """Name here -> Canvas's first columns; and the names in Canvas of those that are not here."""
    by_lms = {row.lms_id: name for name, row in students.items() if row.lms_id}
    by_name = {name: name for name in students}
    people: dict[str, list[str]] = {}
    missing: list[str] = []
    for line in lines:
        tries = (
            (by_lms, line["ID"]),
            (by_lms, line.get("SIS User ID", "")),
            (by_name, line.get("SIS User ID", "")),
            (by_lms, line.get("SIS Login ID", "")),
            (by_name, line.get("SIS Login ID", "")),
        )
        name = next((known[key] for known, key in tries if key and key in known and known[key] not in people), None)
        if name is None:
            missing.append(line["Student"])
        else:
            people[name] = [line.get(column, "") for column in COLUMNS]
    return people, tuple(missing)
