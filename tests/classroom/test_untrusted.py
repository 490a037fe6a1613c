"""Text that a learner chose does nothing where it is shown, and names become ids that stop nobody."""

from __future__ import annotations

import os

import pytest

from autograder.classroom.untrusted import folder_name, shown, shown_lines, spreadsheet_cell, student_id

NAMES = (
    "ada", "li.na", "a+b@c.org", "Müller", "李黎", "O Brien",
    "-rf", "--help", ".hidden", " space", "end ", "[bold]x[/bold]", "[/x]", "<img src=x onerror=y>", "a'b", 'a"b', "a%41b",
    "$HOME", "a;rm", "*", "new\nline", "\x1b[2J", "\u202egnp", "e\u0301", os.fsdecode(b"M\xfcller"), "\udcff\udcfe",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_an_id_goes_everywhere_and_back(name):
    identity = student_id(name)
    assert folder_name(identity) == name
    identity.encode()  # the gradebook takes UTF-8 only
    assert all(char.isalnum() or char in "._-@+ %" for char in identity) and identity[0] not in "-."
    assert shown(identity) == identity


def test_ordinary_names_are_their_own_ids():
    assert [name for name in NAMES if student_id(name) == name] == list(NAMES[:6])
    assert len({student_id(name) for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize(
    "text, line",
    [
        ("plain ü 李", "plain ü 李"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\u202eb", "a\\u202eb"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\udcff", "\\udcff"),
        ("x" * 400, "x" * 299 + "…"),
    ],
)
def test_shown_is_one_line_that_steers_nothing(text, line):
    assert shown(text) == line
    shown(text).encode()


def test_several_lines_stay_several():
    assert shown_lines("a\x1b\nb") == "a\\x1b\nb"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_is_a_formula(text):
    assert spreadsheet_cell(text)[0] == "'" and spreadsheet_cell("a=1") == "a=1"
