"""Every plugin gets the points that cases.py says, in words that name the fault, and nothing of it goes on running."""

from __future__ import annotations

import contextlib
import shutil

import psutil
import pytest

from autograder.measuring.measure import measure
from autograder.measuring.report import Report
from autograder.milestones.stage3 import ACTIVATION, PLUGIN
from autograder.sandbox import bwrap
from autograder.tasks import inputs
from course.paths import ROOT
from tests.hostile.cuda.cases import CASES, QUICK, Case
from tests.hostile.cuda.milestone import MILESTONE

pytestmark = pytest.mark.skipif(bwrap.available() is not None, reason=f"no sandbox: {bwrap.available()}")
SOURCES = ROOT / "solutions" / ACTIVATION.stage / PLUGIN


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv(inputs.SECRET_VARIABLE, "0123456789abcdef-secret")


def judged(folder) -> Report:
    report = measure(MILESTONE, folder, mode="hidden", who="ada", lane="cpu")
    assert report.problem == "", report.problem
    return report


def write(case: Case, folder) -> None:
    shutil.copytree(SOURCES, folder / PLUGIN)
    for name, old, new in case.changes:
        path = folder / PLUGIN / name
        text = path.read_text()
        assert old in text, f"{name} has no {old!r}"
        path.write_text(text.replace(old, new))


def running() -> list[str]:
    """Command lines of processes in a run box, zombies aside."""
    lines = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            lines.append(" ".join(process.cmdline()))
    return [line for line in lines if "grader-plugin-" in line]


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case.name in QUICK else pytest.mark.slow, id=case.name) for case in CASES]
)
def test_it_gets_what_it_must(case: Case, tmp_path) -> None:
    write(case, tmp_path)
    report = judged(tmp_path)
    assert [check.points for check in report.checks] == [case.kernel, case.contract], report.text()
    words = " ".join(f"{report.reason} {' '.join(check.message for check in report.checks)}".split())
    assert case.says in words, report.text()


def test_there_are_enough_of_them() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 35
    assert set(QUICK) <= set(names)


def test_the_released_files_get_nothing(tmp_path) -> None:
    shutil.copytree(ROOT / ACTIVATION.stage / PLUGIN, tmp_path / PLUGIN)
    report = judged(tmp_path)
    assert report.points == 0 and report.status != "error", report.text()


def test_what_is_no_text_is_refused(tmp_path) -> None:
    write(CASES[0], tmp_path)
    (tmp_path / PLUGIN / "activation.cu").write_bytes(b"\xff\xfe\x00")
    report = judged(tmp_path)
    assert report.points == 0 and "not UTF-8" in report.checks[0].message, report.text()


def test_a_plugin_is_not_compiled_or_run_without_a_sandbox(tmp_path, monkeypatch) -> None:
    write(CASES[0], tmp_path)
    monkeypatch.setattr(bwrap, "available", lambda: "bwrap is not installed")
    report = measure(MILESTONE, tmp_path, mode="hidden", who="ada", lane="cpu")
    assert report.status == "error" and report.points == 0 and "without a sandbox" in report.problem
