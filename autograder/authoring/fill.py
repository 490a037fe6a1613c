"""Numbers in a lesson's prose come from files: filled in when the notebook is generated, never typed.

    FP16 took {{docs/results/h100/matrix.json: fp16.b8.median_ms | .2f}} ms.

The part behind the colon is a path of keys (of lists: numbers), the one behind the bar a Python format specification.
"""

from __future__ import annotations

import json
import re
from functools import reduce
from pathlib import Path

from course.errors import CourseError

_HOLE = re.compile(r"\{\{\s*(?P<file>[\w./-]+\.json)\s*:\s*(?P<keys>[^|{}]+?)\s*(?:\|\s*(?P<format>[^{}]*?)\s*)?\}\}")


def fill(text: str, root: Path, where: str) -> str:
    """The text with every hole filled.

    Args:
        root: files are named from here; they must lie in docs/results.
        where: the lesson's name, for errors.

    Raises:
        CourseError: a file, a key or a format is wrong; names the line.
    """

    def value(hole: re.Match) -> str:
        place = f"{where}:{text.count(chr(10), 0, hole.start()) + 1}: {hole[0]}"
        path = root / hole["file"]
        if not hole["file"].startswith("docs/results/") or ".." in hole["file"]:
            raise CourseError(f"{place} is no result.", "Only files in docs/results are quoted.", "Name one of those.")
        try:
            found = reduce(_step, re.split(r"\s*\.\s*", hole["keys"]), json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise CourseError(f"{place} cannot be read.", str(error), "Name a JSON file that is there.") from error
        except (KeyError, IndexError, TypeError) as error:
            raise CourseError(f"{place} leads nowhere.", f"There is no {error}.", "Look into the file.") from error
        if isinstance(found, (dict, list)):
            raise CourseError(f"{place} is no single value.", f"It is a {type(found).__name__}.", "Add a key.")
        try:
            return format(found, hole["format"] or "").replace(",", " ")
        except ValueError as error:
            raise CourseError(f"{place} cannot be formatted.", str(error), "Use a format such as .2f.") from error

    return _HOLE.sub(value, text)


def _step(value: object, key: str) -> object:
    return value[int(key)] if isinstance(value, list) else value[key]
