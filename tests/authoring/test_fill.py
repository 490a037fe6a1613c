"""Numbers in prose come from files in docs/results."""

from __future__ import annotations

import json

import pytest

from autograder.authoring.fill import fill
from course.errors import CourseError


@pytest.fixture
def root(tmp_path):
    (tmp_path / "docs" / "results").mkdir(parents=True)
    data = {"fp16": {"b8": [0.4891, 1.5]}, "rate": 70700, "card": "NVIDIA H100"}
    (tmp_path / "docs" / "results" / "x.json").write_text(json.dumps(data))
    return tmp_path


def test_holes_are_filled_and_all_else_stays(root):
    text = "# {{docs/results/x.json: fp16.b8.0 | .2f}} ms, {{ docs/results/x.json:rate|, }}/s on {{docs/results/x.json: card}}"
    assert fill(text, root, "a.py") == "# 0.49 ms, 70 700/s on NVIDIA H100"
    code = 'f"{{x}} {y}" {{"a": 1}}'
    assert fill(code, root, "a.py") == code


@pytest.mark.parametrize(
    "hole, words",
    [
        ("docs/results/none.json: a", "cannot be read"),
        ("docs/other.json: a", "is no result"),
        ("docs/results/../x.json: a", "is no result"),
        ("docs/results/x.json: fp16.b9", "leads nowhere"),
        ("docs/results/x.json: fp16.b8.7", "leads nowhere"),
        ("docs/results/x.json: fp16", "no single value"),
        ("docs/results/x.json: card | .2f", "cannot be formatted"),
    ],
)
def test_a_wrong_hole_is_named_with_its_line(root, hole, words):
    with pytest.raises(CourseError, match=words) as caught:
        fill("one\ntwo {{" + hole + "}}", root, "a.py")
    assert "a.py:2" in str(caught.value)
