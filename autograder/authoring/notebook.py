"""A lesson in py:percent text -> the instructor's and the learner's notebook, the same bytes everywhere.

`read_lesson` checks the text before nbgrader sees it, so that a mistake is named with its line.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import re
import warnings

import jupytext
import nbformat
from nbformat import NotebookNode

from autograder.authoring.fill import fill
from autograder.authoring.strip import find_regions
from course.errors import CourseError
from course.paths import ROOT
from course.update import KERNELSPEC, LANGUAGE_INFO

LESSON = re.compile(r"\d\d_\w+\.py")
"""The name of a lesson; any other file beside it is a helper file."""
CELL = re.compile(r"^\s*#\s*%%(%*\s.*|\s*)$")
CELL_KEYS = {"nbgrader", "tags"}
NBGRADER_DEFAULTS = {"grade": False, "solution": False, "locked": False, "task": False}
NBGRADER_KEYS = {"grade_id", "points", "schema_version", *NBGRADER_DEFAULTS}


def read_lesson(text: str, where: str) -> NotebookNode:
    """The instructor's notebook: solutions, all tests, complete nbgrader metadata, stable ids, no outputs.

    Args:
        text: the lesson, with LF line ends.
        where: its name, for errors.

    Raises:
        CourseError: the text is not a lesson that nbgrader could release; names file, line and remedy.
    """
    text = fill(text, ROOT, where)
    lines = text.split("\n")
    starts = [number for number, line in enumerate(lines, 1) if CELL.match(line)]
    notebook, verbatim = _parse(text, where, True), _parse(text, where, False)
    if not starts or len(starts) != len(notebook.cells):
        raise CourseError(
            f"{where}: {len(starts)} lines start with `# %%`, but they make {len(notebook.cells)} cells.",
            "Text before the first cell, or `# %%` inside a string or a fenced block.",
            "Start the lesson with `# %% [markdown]`, and write such a line differently.",
        )
    ends = [*(start - 1 for start in starts[1:]), len(lines)]
    ids: dict[str, int] = {}
    for cell, plain, start, end in zip(notebook.cells, verbatim.cells, starts, ends):
        if not cell.source.strip():
            raise CourseError(
                f"{where}:{start}: this cell is empty.",
                "A learner's empty cells count for nothing.",
                "Delete it, or write a comment into it.",
            )
        _check_comments(cell, plain, where, start)
        _check_metadata(cell, lines[start - 1], f"{where}:{start}")
        _check_regions(cell, lines[start:end], where, start + 1)
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
        if grade_id in ids:
            raise CourseError(
                f"{where}:{start}: grade_id {grade_id!r} is used twice.",
                f"The cell in line {ids[grade_id]} has it, too.",
                "Give each cell its own grade_id.",
            )
        if grade_id:
            ids[grade_id] = start
    _set_ids(notebook, set(ids))
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNELSPEC, "language_info": LANGUAGE_INFO})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    return notebook


def student_version(notebook: NotebookNode) -> NotebookNode:
    """The learner's notebook, by nbgrader's own preprocessors in the order of `generate_assignment`."""
    from nbgrader.preprocessors import (
        CheckCellMetadata,
        ClearHiddenTests,
        ClearMarkScheme,
        ClearOutput,
        ComputeChecksums,
        LockCells,
    )

    from autograder.authoring.clear import QuietStubs

    student, resources = nbformat.from_dict(notebook), {}
    for step in (
        LockCells,
        QuietStubs,
        ClearOutput,
        CheckCellMetadata,
        ClearHiddenTests,
        ClearMarkScheme,
        ComputeChecksums,
        CheckCellMetadata,
    ):
        student, resources = step().preprocess(student, resources)
    return student


def _parse(text: str, where: str, comment_magics: bool) -> NotebookNode:
    text = re.sub(r"\A\n*# ---\n(?:#.*\n)*?# ---\n\n*", "", text)  # jupytext's header; we write our own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # jupytext warns about the metadata that we refuse below
        try:
            return jupytext.reads(
                text, fmt={"extension": ".py", "format_name": "percent", "comment_magics": comment_magics}
            )
        except Exception as error:
            raise CourseError(
                f"{where} cannot be read as py:percent.",
                f"jupytext says: {error}",
                "Compare its `# %%` lines with solutions/README.md.",
            ) from error


def _check_comments(cell: NotebookNode, plain: NotebookNode, where: str, start: int) -> None:
    """jupytext makes a magic of `# %matplotlib inline`, but also a command of `# cat or dog`: refuse that."""
    if cell.cell_type != "code":
        return
    for offset, (line, written) in enumerate(zip(cell.source.split("\n"), plain.source.split("\n"))):
        if line != written and not re.match(r"\s*([%!]|\w+ *= *[%!])", line):
            raise CourseError(
                f"{where}:{start + 1 + offset}: the comment {written.strip()!r} would become a command.",
                "jupytext reads a comment that starts with a shell word, or ends with ?, as a command.",
                "Start the comment with another word.",
            )


def _check_metadata(cell: NotebookNode, line: str, where: str) -> None:
    """Check the keys of one cell, and complete its nbgrader metadata."""
    cell.metadata.pop("lines_to_next_cell", None)
    unknown = sorted(set(cell.metadata) - CELL_KEYS)
    if unknown:
        broken = "nbgrader" in line and "nbgrader" not in cell.metadata
        raise CourseError(
            f"{where}: " + ("the metadata cannot be read." if broken else f"unknown metadata {', '.join(unknown)}."),
            "It is no valid JSON." if broken else f"Known here are {' and '.join(sorted(CELL_KEYS))}; titles are not.",
            'Write it as in `# %% nbgrader={"grade_id": "fold", "solution": true}`.',
        )
    if "nbgrader" not in cell.metadata:
        return
    meta = cell.metadata["nbgrader"]
    if not isinstance(meta, dict):
        raise CourseError(f"{where}: nbgrader must be an object.", f"It is {meta!r}.", "Write nbgrader={...}.")
    for key in sorted(set(meta) - NBGRADER_KEYS):
        near = difflib.get_close_matches(key, NBGRADER_KEYS, 1)
        raise CourseError(
            f"{where}: unknown nbgrader key {key!r}.",
            f"Known are {', '.join(sorted(NBGRADER_KEYS))}.",
            f"Did you mean {near[0]!r}?" if near else "Remove it.",
        )
    for key in NBGRADER_DEFAULTS:
        if not isinstance(meta.get(key, False), bool):
            raise CourseError(f"{where}: {key} must be true or false.", f"It is {meta[key]!r}.", "Correct it.")
    grade_id = meta.get("grade_id", "")
    if not isinstance(grade_id, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", grade_id):
        raise CourseError(
            f"{where}: the grade_id is missing or not usable.",
            f"It is {grade_id!r}.",
            'Give 1 to 64 letters, digits, - or _, as in "grade_id": "fold-test".',
        )
    _check_points(meta, where)
    if meta.get("schema_version", 3) != 3:
        raise CourseError(
            f"{where}: schema_version is {meta['schema_version']!r}.",
            "nbgrader writes version 3.",
            "Remove the key.",
        )
    grade, solution, task = (meta.get(key, False) for key in ("grade", "solution", "task"))
    if not (grade or solution or task or meta.get("locked")):
        raise CourseError(
            f"{where}: this cell is neither solution, grade, task nor locked.",
            "nbgrader would ignore it.",
            'Add "solution": true for an answer, "grade": true and "points" for a test.',
        )
    if task and (grade or solution or cell.cell_type != "markdown"):
        raise CourseError(
            f"{where}: a task is a Markdown cell, and neither grade nor solution.",
            f"This is a {cell.cell_type} cell.",
            "Remove the other keys, or use `# %% [markdown]`.",
        )
    if cell.cell_type == "markdown" and grade != solution:
        raise CourseError(
            f"{where}: a Markdown answer must be grade and solution.",
            "A person grades it.",
            'Write "grade": true, "solution": true and "points".',
        )
    locked = (grade and not solution) or task or (meta.get("locked", False) and not solution)
    cell.metadata["nbgrader"] = nbformat.from_dict({**NBGRADER_DEFAULTS, **meta, "locked": locked, "schema_version": 3})


def _check_points(meta: dict, where: str) -> None:
    graded, points = meta.get("grade") or meta.get("task"), meta.get("points")
    if graded and points is None:
        raise CourseError(f"{where}: no points.", "A graded cell must say what it is worth.", 'Add "points": 4.')
    if not graded and "points" in meta:
        raise CourseError(
            f"{where}: points on a cell that is not graded.",
            "nbgrader would drop them.",
            'Add "grade": true, or move the points to the test cell.',
        )
    if graded and (
        isinstance(points, bool) or not isinstance(points, (int, float)) or not math.isfinite(points) or points < 0
    ):
        raise CourseError(f"{where}: points must be a number from 0 up.", f"They are {points!r}.", "Correct it.")
    if graded and points == int(points):
        meta["points"] = int(points)  # JupyterLab would save 4.0 as 4


def _check_regions(cell: NotebookNode, lines: list[str], where: str, first_line: int) -> None:
    """Each region is closed and lies in a cell of the kind that nbgrader clears."""
    meta = cell.metadata.get("nbgrader", {})
    for number, line in enumerate(lines, first_line):
        if "AUTOTEST" in line:
            raise CourseError(
                f"{where}:{number}: nbgrader's AUTOTEST is not used here.",
                "It runs code while the release is made, so its bytes would vary.",
                "Write the test out.",
            )
    for kind, key, remedy in (
        ("SOLUTION", "solution", '"solution": true'),
        ("HIDDEN TESTS", "grade", '"grade": true and "points"'),
        ("MARK SCHEME", "task", '"task": true and "points"'),
    ):
        regions = find_regions(lines, kind, where, first_line)
        if regions and not meta.get(key):
            raise CourseError(
                f"{where}:{first_line + regions[0][0]}: BEGIN {kind} in a cell that is not marked so.",
                "It would not be cleared, and learners would see it.",
                f"Add {remedy} to the cell's line.",
            )
        if kind == "SOLUTION" and meta.get("solution") and not regions:
            raise CourseError(
                f"{where}:{first_line - 1}: this solution cell marks no solution.",
                "nbgrader would empty the whole cell.",
                "Put the lines to remove between ### BEGIN SOLUTION and ### END SOLUTION.",
            )


def _set_ids(notebook: NotebookNode, taken: set[str]) -> None:
    """Cell ids that do not change by themselves: the grade_id, else a hash of type and source."""
    for cell in notebook.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        if name is None:
            digest, n = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12], 1
            name = digest
            while name in taken:
                n, name = n + 1, f"{digest}-{n + 1}"
            taken.add(name)
        cell["id"] = name
