"""The second set: fifteen kernels by somebody who had not seen the checker. What was found at first stays found.

The record of the first run is docs/results/kernels_second_set.json; `second_set/manifest.py` says what counts.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from course import kernels
from tests.kernels.second_set import manifest, run

NOT_FOUND_AT_FIRST = {
    "argmax_rows.cu": "A lane compares the undefined value that it shuffles from a lane that has ended. The checker calls "
    "that a finding only if the outputs differ between its two fillings of such a value (bytes 0xFF: a NaN, and 0x3C: "
    "0.0115 as a float). A maximum over values above 0.0115 picks neither, so it looks as if the value were thrown away.",
}
"""Faulty kernel -> why the checker, as it was at the first run, did not find its bug."""

CORRECT = [case for case in manifest.CASES if case.correct]
FAULTY = [case for case in manifest.CASES if not case.correct]


QUICK = {"l2norm_last_block.cu", "instancenorm_gated.cu", "argmax_rows.cu"}
"""Not marked slow: with nothing compiled yet, each file takes some seconds."""


def named(cases: list[manifest.Case]) -> list:
    """The cases as parameters. Those not found at first are found today."""
    parameters = []
    for case in cases:
        marks = [] if case.file in QUICK else [pytest.mark.slow]
        parameters.append(pytest.param(case, id=Path(case.file).stem, marks=marks))
    return parameters


def checked(case: manifest.Case) -> kernels.Report:
    return kernels.check(run.HERE / case.file, case.launcher, *run.arguments(case), orders=run.ORDERS, seconds=20)


@pytest.mark.parametrize("case", named(CORRECT))
def test_a_correct_kernel_passes_with_the_right_output(case: manifest.Case):
    report = checked(case)
    assert report.ok, str(report)
    assert report.result == 0
    assert not run.wrong_outputs(case, report.outputs)


@pytest.mark.parametrize("case", named(FAULTY))
def test_a_bug_is_found_at_its_line_in_every_order_and_nothing_else_is(case: manifest.Case):
    report = checked(case)
    hits = [finding for finding in report.findings if run.describes(case, finding)]
    assert {order for finding in hits for order in finding.orders} == set(run.ORDERS), str(report)
    assert len(hits) == len(report.findings), str(report)


@pytest.mark.slow
def test_the_missed_shuffle_is_found_on_values_below_zero():
    """The reason above, tested: the same kernel, values that the second filling exceeds."""
    (case,) = run.OTHER_VALUES
    assert {finding.kind for finding in checked(case).findings} == {"undefined-shuffle"}


def test_the_lines_of_the_manifest_are_those_of_the_kernels():
    for case in manifest.CASES:
        lines = (run.HERE / case.file).read_text().splitlines()
        for line, piece in case.where.items():
            assert piece in lines[line - 1], f"{case.file}:{line}"


def test_the_first_run_is_on_record_as_it_came():
    first = json.loads(run.RESULTS.read_text())[0]
    verdicts = {row["file"]: row["verdict"] for row in first["kernels"]}
    assert verdicts == {
        case.file: "passed" if case.correct else "missed" if case.file in NOT_FOUND_AT_FIRST else "found"
        for case in manifest.CASES
    }
