"""Text that a learner chose, on its way to a terminal, a table, a page, a spreadsheet or a command line."""

from __future__ import annotations

import os
import unicodedata
from urllib.parse import unquote_to_bytes

_PLAIN = frozenset("._-@+ ")


def shown(text: str, most: int = 300) -> str:
    """One line of `text` that does what it looks like: whatever steers a terminal, turns the direction of writing or
    cannot be encoded is written as an escape; at most `most` characters.

    A caller that writes markup still escapes it in the way of that markup (Rich: `Text`; HTML: `html.escape`).
    """
    line = "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
    return line if len(line) <= most else line[: most - 1] + "…"


def shown_lines(text: str, most: int = 4000) -> str:
    """As `shown`, for text of several lines."""
    return "\n".join(shown(line) for line in text[:most].splitlines())


def spreadsheet_cell(text: str) -> str:
    """As `shown`, and no formula: spreadsheets run what begins with = + - @ (OWASP, "CSV Injection")."""
    line = shown(text)
    return "'" + line if line[:1] in tuple("=+-@") or text[:1] in ("\t", "\r") else line


def student_id(folder: str) -> str:
    """The id of a student for the gradebook, files, pages and command lines, from the name of the folder.

    An ordinary name (letters and digits of any language, `. _ - @ + ` and blanks inside) is its own id. In any other,
    each odd byte becomes %XX, so that no name can stop the gradebook (which takes UTF-8 only), end a markup or pass for
    an option. Different names have different ids; `folder_name` goes back.
    """
    if _ordinary(folder):
        return folder
    safe = "".join(chr(byte) if _is_safe(byte) else f"%{byte:02X}" for byte in os.fsencode(folder))
    return "%2E" + safe[1:] if safe.startswith(".") else safe


def folder_name(student: str) -> str:
    """The name of the folder that `student_id` made this id of."""
    return student if _ordinary(student) else os.fsdecode(unquote_to_bytes(student))


def _is_safe(byte: int) -> bool:
    return byte < 128 and (chr(byte).isalnum() or chr(byte) in "._@+")


def _ordinary(name: str) -> bool:
    return (
        bool(name)
        and all(char.isalnum() or char in _PLAIN for char in name)
        and name[0] not in "- ."
        and name[-1] != " "
        and unicodedata.is_normalized("NFC", name)
    )
