"""A class of hostile notebooks, graded in one go: none gains a milestone point, none stops the batch."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from autograder.sandbox import bwrap
from tests.classroom import box  # noqa: E402
from tests.hostile.notebooks.cases import CASES, hand_in_links  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bwrap.available() is not None, reason=f"no sandbox: {bwrap.available()}"),
]


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> tuple[Path, dict]:
    root = box.make_course(tmp_path_factory.mktemp("hostile") / "course")
    os.environ["CANVAS_API_TOKEN"] = "tok-123"
    for case in CASES:
        given = case.make(root)
        folder = box.hand_in(root, case.name, given.notebook, given.files, name=given.name)
        hand_in_links(folder, given.links)
    return root, box.run(root)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_gets_what_it_must(graded, case):
    root, outcomes = graded
    got = box.scores(root, case.name)
    points = (got["fold-test"] + got["partial-test"], got["m-box"])
    assert points == (case.practice, case.milestone), f"{outcomes[case.name]}\n{box.told(root, case.name)}"
    assert set(got) == {"fold-test", "partial-test", "m-box", "why"}
    assert got["why"] == 0.0


def test_none_stops_the_batch_or_needs_the_last_resort(graded):
    _, outcomes = graded
    assert {name for name, outcome in outcomes.items() if outcome.status != "measured"} == set()


@pytest.mark.parametrize(
    "name, words",
    [
        ("memory-bomb-of-many", "more than 1 GB of memory"),
        ("memory-in-files", "more than 1 GB of memory"),
        ("exits", "it ended, or did not answer"),
        ("infinite-loop", "No reply from kernel before timeout"),
    ],
)
def test_the_learner_reads_why_it_was_stopped(graded, name, words):
    path = graded[0] / ".grading" / "autograded" / name / box.STAGE / f"{box.NOTEBOOK}.ipynb"
    assert words in path.read_text()


def test_the_way_out_was_not_found(graded):
    found = graded[0] / ".grading" / "autograded" / "escape" / box.STAGE / "found.json"
    assert json.loads(found.read_text()) == []


def test_the_graders_environment_is_not_in_reach(graded):
    loot = graded[0] / ".grading" / "autograded" / "reads-the-graders-environment" / box.STAGE / "loot.bin"
    assert b"CANVAS" not in loot.read_bytes() and b"SECRET" not in loot.read_bytes()


def test_nobody_writes_into_the_graders_log_beyond_measure(graded):
    log = graded[0] / ".grading" / "logs" / box.STAGE / "rewrites-the-graders-log.log"
    assert 0 < log.stat().st_size < 1 << 20
    assert b"\0" not in log.read_bytes()
    assert graded[1]["rewrites-the-graders-log"].reason == ""


def test_no_link_is_left_where_nbgrader_writes(graded):
    root, _ = graded
    assert [path for path in (root / ".grading" / "autograded").rglob("*") if path.is_symlink()] == []
    assert (root / ".grading" / "gradebook.db").read_bytes().startswith(b"SQLite format 3\0")
