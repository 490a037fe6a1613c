"""A check that this machine cannot make stays open: nobody loses points because the grader lacks a program."""

from __future__ import annotations

import dataclasses

from autograder.checks.base import OpenHere
from autograder.measuring.measure import measure
from tests.measuring import tiny


def test_what_cannot_be_measured_here_is_open_and_so_is_what_waits_for_it(tmp_path, monkeypatch):
    milestone = tiny.milestone()
    first = milestone.checks[0]
    kind = type(next(iter(first.lanes.values())))

    def lacks(self, at):
        raise OpenHere("Triton is not set up. Run `course serve setup`.")

    monkeypatch.setattr(kind, "measure", lacks)
    second = dataclasses.replace(first, id="second", needs=(first.id,))
    (tmp_path / "artifacts").mkdir()
    (tmp_path / milestone.artifacts[0].path).write_bytes(tiny.export())
    report = measure(dataclasses.replace(milestone, checks=(first, second)), tmp_path, lane="cpu")
    assert [check.status for check in report.checks] == ["open", "open"], report.text()
    assert all("course serve setup" in check.message for check in report.checks)
    assert (report.points, report.open_points) == (0, 2 * first.points)
