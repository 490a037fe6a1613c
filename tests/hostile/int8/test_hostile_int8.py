"""Every INT8 file, calibrator and build script gets the points that its table says, in words that name the fault."""

from __future__ import annotations

import contextlib
import os

import onnx
import psutil
import pytest

from autograder.measuring.measure import measure
from autograder.measuring.report import Report
from autograder.milestones.stage2 import BUILD, CALIBRATOR, MODEL
from autograder.sandbox import bwrap
from autograder.tasks import inputs
from tests.hostile.int8 import builds, calibrators, models
from tests.hostile.int8.milestone import milestone

pytestmark = pytest.mark.skipif(bwrap.available() is not None, reason=f"no sandbox: {bwrap.available()}")
SECRET = "0123456789abcdef-secret"


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv(inputs.SECRET_VARIABLE, SECRET)


def table(module) -> list:
    """Its quick cases, and the others as slow ones."""
    marks = {True: (), False: pytest.mark.slow}
    return [pytest.param(case, marks=marks[case.name in module.QUICK], id=case.name) for case in module.CASES]


def judged(folder, *ids: str, **changes) -> Report:
    report = measure(milestone(*ids, **changes), folder, mode="hidden", who="ada", lane="cpu")
    assert report.problem == "", report.problem
    return report


def limits(case) -> dict:
    """Who never ends is waited for in vain: not as long as for those who do."""
    return {"limits_s": {"build": 120.0, "run": 10.0, "all": 300.0}} if case.name == "endless" else {}


def words(report: Report) -> str:
    return f"{report.reason} " + " ".join(check.message for check in report.checks)


def write(folder, path: str, script: str) -> None:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(script)


def running(folder) -> list[str]:
    """Command lines of processes that hold a script of this test, zombies aside."""
    lines = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            lines.append(" ".join(process.cmdline()))
    return [line for line in lines if "int8_inside" in line and os.path.basename(folder) in line]


@pytest.mark.parametrize("case", table(models))
def test_a_file_gets_what_it_must(case, tmp_path):
    (tmp_path / "artifacts").mkdir()
    onnx.save(case.make(), tmp_path / MODEL)
    report = judged(tmp_path, "int8", "accuracy")
    assert [check.points for check in report.checks] == [case.int8, case.accuracy], report.text()
    assert case.says in words(report), report.text()


@pytest.mark.parametrize("case", table(calibrators))
def test_a_calibrator_gets_what_it_must(case, tmp_path):
    write(tmp_path, CALIBRATOR, case.script)
    report = judged(tmp_path, "calibrator", **limits(case))
    assert report.points == case.points, report.text()
    assert case.says in words(report), report.text()
    assert not running(tmp_path)


@pytest.mark.parametrize("case", table(builds))
def test_a_build_script_gets_what_it_must(case, tmp_path):
    write(tmp_path, BUILD, case.script)
    report = judged(tmp_path, "build-script", **limits(case))
    assert report.points == pytest.approx(case.points), report.text()
    assert case.says in words(report), report.text()
    assert not running(tmp_path)


def test_there_are_enough_of_them():
    for module in (models, calibrators, builds):
        names = [case.name for case in module.CASES]
        assert len(set(names)) == len(names) >= 14
        assert set(module.QUICK) <= set(names)
