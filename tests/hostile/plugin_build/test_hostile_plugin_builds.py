"""Every build script for networks with a plugin gets the points that its table says, in words that name the fault."""

from __future__ import annotations

import dataclasses

import pytest

from autograder.artifacts.script import Script
from autograder.checks import builds
from autograder.measuring.measure import measure
from autograder.milestones.stage3 import ACTIVATION, BUILD
from autograder.sandbox import bwrap
from autograder.tasks import inputs
from course.native import toolchain
from tests.hostile.plugin_build.builds import CASES, HONEST, QUICK

pytestmark = [
    pytest.mark.skipif(bwrap.available() is not None, reason=f"no sandbox: {bwrap.available()}"),
    pytest.mark.skipif(bool(builds.why_no_stand_in()), reason=builds.why_no_stand_in()),
    pytest.mark.skipif(toolchain.find().compiler is None, reason="needs a C++ compiler"),
]
MILESTONE = dataclasses.replace(
    ACTIVATION,
    id="test.plugin-build",
    artifacts=(Script(BUILD),),
    checks=tuple(check for check in ACTIVATION.checks if check.artifact == BUILD),
    memory_gb=4.0,
    limits_s={
        "build": 120.0,
        "run": 10.0,
        "all": 300.0,
    },  # one request to an honest one takes 0.6 s; an endless script ends the test, not the day
)


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv(inputs.SECRET_VARIABLE, "0123456789abcdef-secret")


def judged(folder, script: str, **where):
    (folder / BUILD).parent.mkdir(exist_ok=True)
    (folder / BUILD).write_text(script)
    report = measure(MILESTONE, folder, **{"mode": "hidden", "who": "ada", "lane": "cpu", **where})
    assert report.problem == "", report.problem
    return report


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case.name in QUICK else pytest.mark.slow, id=case.name) for case in CASES]
)
def test_a_build_script_gets_what_it_must(case, tmp_path):
    report = judged(tmp_path, case.script)
    assert report.points == pytest.approx(case.points), report.text()
    words = f"{report.reason} {' '.join(check.message for check in report.checks)}"
    assert case.says in words, report.text()


def test_there_are_enough_of_them():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 30
    assert set(QUICK) <= set(names)


def test_a_gpu_machine_asks_the_same_of_it(tmp_path):
    """Its boxes see no GPU, so it is the same measurement; nothing of it needs TensorRT itself."""
    report = judged(tmp_path, HONEST, lane="gpu")
    assert report.points == 3, report.text()


@pytest.mark.slow
def test_each_learner_gets_others(tmp_path):
    values = [judged(tmp_path, HONEST, who=who).checks[0].values for who in ("ada", "bob", "ada")]
    assert values[0] == values[2] != values[1]


def test_without_the_stand_in_it_stays_open(tmp_path, monkeypatch):
    monkeypatch.setattr(builds, "why_no_stand_in", lambda: "TensorRT-RTX is not installed.")
    report = judged(tmp_path, HONEST)
    assert report.open_points == 3 and "TensorRT-RTX is not installed" in report.checks[0].message
