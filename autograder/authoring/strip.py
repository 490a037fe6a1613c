"""Solution regions: find them, with file and line when they are wrong, and take them out of helper files.

A region lies between two comment lines, in whatever comment syntax the file has:

    ### BEGIN SOLUTION          // BEGIN SOLUTION          /* BEGIN SOLUTION */
    ...                         ...                        ...
    ### END SOLUTION            // END SOLUTION            /* END SOLUTION */
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from course.errors import CourseError

MARKER = re.compile(
    r"^(?P<indent>\s*)(?P<open>#+|//+|/\*+|<!--|--|;+|%+)[ #]*(?P<word>BEGIN|END) SOLUTION *"
    r"(?P<close>\*/|-->)?\s*$"
)
EDITABLE = "YOURS TO EDIT"
"""In the first ten lines of a helper file: the learner edits it, though it has no solution region."""


def find_regions(lines: Sequence[str], kind: str, where: str, first_line: int = 1) -> list[tuple[int, int]]:
    """Index pairs (begin marker, end marker) of the regions `BEGIN kind` ... `END kind` in `lines`.

    Args:
        kind: "SOLUTION", "HIDDEN TESTS" or "MARK SCHEME".
        where: the file's name, for the error.
        first_line: number of `lines[0]` in that file.

    Raises:
        CourseError: a marker has no partner, or a region lies in a region.
    """
    regions, begin = [], None
    for index, line in enumerate(lines):
        if f"BEGIN {kind}" in line:
            if begin is not None:
                raise CourseError(
                    f"{where}:{first_line + index}: BEGIN {kind} inside a region.",
                    f"The region from line {first_line + begin} has not ended.",
                    f"Write END {kind} before this line; regions cannot be nested.",
                )
            begin = index
        elif f"END {kind}" in line:
            if begin is None:
                raise CourseError(
                    f"{where}:{first_line + index}: END {kind} without BEGIN.",
                    "No region is open here.",
                    f"Write BEGIN {kind} where the region starts, or delete this line.",
                )
            regions.append((begin, index))
            begin = None
    if begin is not None:
        raise CourseError(
            f"{where}:{first_line + begin}: BEGIN {kind} without END.",
            "The region never ends.",
            f"Write END {kind} where it should.",
        )
    return regions


def strip(text: str, where: str) -> str:
    """A helper file as the learner gets it: each solution region is one comment line `YOUR CODE HERE`.

    In Python the stub also raises NotImplementedError inside a function, and is `pass` in another block.

    Args:
        text: the file, with LF line ends.
        where: its name; the suffix .py selects Python's stubs.

    Raises:
        CourseError: markers do not match, do not stand alone in a comment line, or what is left is no Python.
    """
    lines, python = text.split("\n"), where.endswith(".py")
    for number, line in enumerate(lines, 1):
        if ("BEGIN SOLUTION" in line or "END SOLUTION" in line) and not MARKER.match(line):
            raise CourseError(
                f"{where}:{number}: this solution marker cannot be read.",
                "It must stand alone in a comment line.",
                "Write it as in `# BEGIN SOLUTION`.",
            )
        if "BEGIN HIDDEN TESTS" in line:
            raise CourseError(
                f"{where}:{number}: a helper file cannot hide tests.",
                "Learners get the whole file.",
                "Move the tests into a test cell of a notebook.",
            )
    regions = find_regions(lines, "SOLUTION", where)
    functions = []
    if python and regions:
        tree = _parse(text, where, "as it stands", "Correct it; the solution must run.")
        functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    for begin, end in reversed(regions):
        mark = MARKER.match(lines[begin])
        opening = "#" if mark["open"].startswith("#") else mark["open"]
        stub = [" ".join(filter(None, (mark["indent"] + opening, "YOUR CODE HERE", mark["close"])))]
        if any(node.lineno <= begin + 1 <= node.end_lineno for node in functions):
            stub.append(f"{mark['indent']}raise NotImplementedError()")
        elif python and mark["indent"]:
            stub.append(f"{mark['indent']}pass")
        lines[begin : end + 1] = stub
    stripped = "\n".join(lines)
    if python and regions:
        _parse(
            stripped,
            where,
            "without its solution regions",
            "Let each region hold whole statements of one block, indented like its markers.",
        )
    return stripped


def is_editable(text: str) -> bool:
    """Whether the learner is meant to edit this helper file (and the grader must take the learner's copy)."""
    return any(map(MARKER.match, text.split("\n"))) or any(EDITABLE in line for line in text.split("\n")[:10])


def _parse(text: str, where: str, which: str, next_step: str) -> ast.Module:
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise CourseError(f"{where}:{error.lineno}: not valid Python {which}.", str(error.msg), next_step) from error
