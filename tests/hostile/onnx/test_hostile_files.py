"""Every hostile, wrong and honest artifact gets the points that the table in tests/hostile/onnx says."""

from __future__ import annotations

import time

import pytest

from autograder.measuring.measure import measure
from tests.hostile.onnx import models, table
from tests.measuring import tiny

IDS = ("dynamic-batch", "answers", "fp16", "speed")


def judge(case, folder):
    (folder / "artifacts").mkdir()
    case.make(folder)
    begin = time.perf_counter()
    report = measure(tiny.milestone(), folder, lane="cpu")
    assert report.problem == "", report.problem
    got = {check.id: check.points for check in report.checks}
    shown = report.text()
    for name, wanted in zip(IDS, case.points):
        good = 0 < got[name] < 4 if wanted is None else got[name] == wanted
        assert good, f"{case.name}: {name} got {got[name]}, must get {wanted}\n{shown}"
    words = f"{report.reason} " + " ".join(f"{check.measured} {check.message}" for check in report.checks)
    assert case.says in words, shown
    assert report.open_points == 4 and got["speed-64"] == 0
    return time.perf_counter() - begin


QUICK = ("symlink_to_reference", "foreign_operator", "fast_and_wrong", "reference")
"""One of each table, and the honest one: the others wait for --all."""


def cases(*tables):
    return [
        pytest.param(case, marks=() if case.name in QUICK else pytest.mark.slow, id=case.name)
        for case in (case for one in tables for case in one)
    ]


@pytest.mark.parametrize("case", cases(table.FILES))
def test_what_is_no_plain_onnx_file_gets_nothing_and_hangs_nobody(case, tmp_path):
    assert judge(case, tmp_path) < 20
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("case", cases(table.GRAPHS))
def test_a_trap_is_refused_before_any_runtime_sees_it(case, tmp_path):
    judge(case, tmp_path)


@pytest.mark.parametrize("case", cases(table.MODELS))
def test_what_runs_gets_its_due(case, tmp_path):
    judge(case, tmp_path)


def test_learning_the_public_inputs_by_heart_helps_only_in_self_check(tmp_path):
    purposes = {"dynamic batch": 12, "accuracy 64": 64, "speed batch 4": 16}
    milestone = tiny.milestone()
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "resnet50.onnx").write_bytes(models.memoriser(milestone.id, purposes))
    fooled = {check.id: check.points for check in measure(milestone, tmp_path, lane="cpu").checks}
    assert fooled["answers"] == 4, "the cheat does not work at all: this test shows nothing"
    assert measure(milestone, tmp_path, mode="hidden", who="ada", lane="cpu").points == 0


def test_at_least_fifteen_kinds_of_artifact_are_tried():
    names = [case.name for case in (*table.FILES, *table.GRAPHS, *table.MODELS)]
    assert len(names) == len(set(names)) >= 40
