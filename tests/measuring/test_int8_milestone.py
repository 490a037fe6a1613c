"""Milestone 2a: its reference gets all that a CPU can give, the released files nothing."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from autograder.measuring.measure import measure
from autograder.milestones.stage2 import BUILD, CALIBRATOR, INT8
from course.paths import ROOT
from tests.hostile.int8.milestone import milestone
from tools.gpu import grade


@pytest.mark.slow
def test_the_reference_gets_full_marks(tmp_path):
    grade.make(INT8, tmp_path)
    checks = tuple(  # 64 images in place of 128: none of their classes may be lost, then
        dataclasses.replace(check, lanes={**check.lanes, "cpu": dataclasses.replace(check.lanes["cpu"], images=64)})
        if check.id == "accuracy"
        else check
        for check in INT8.checks
    )
    report = measure(dataclasses.replace(INT8, checks=checks), tmp_path, lane="cpu")
    assert (report.points, report.open_points) == (16, 4), report.text()


def test_the_released_files_get_nothing(tmp_path):
    shutil.copytree(ROOT / INT8.stage / "m2a", tmp_path / "m2a")
    report = measure(INT8, tmp_path, lane="cpu")
    assert report.points == 0 and report.status != "error", report.text()
    scripts = measure(milestone("calibrator", "build-script"), tmp_path, lane="cpu")
    assert {check.points for check in scripts.checks} == {0}, scripts.text()
    assert all("NotImplementedError" in check.message for check in scripts.checks), scripts.text()


def test_the_solutions_scripts_get_full_marks(tmp_path):
    for path in (CALIBRATOR, BUILD):
        target = tmp_path / path
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / "solutions" / INT8.stage / path, target)
    report = measure(milestone("calibrator", "build-script"), tmp_path, lane="cpu")
    assert report.points == 7, report.text()
