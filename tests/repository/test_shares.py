"""Each stage's tests are counted as its own."""

from __future__ import annotations

import pytest

from tests import shares


def report(nodeid: str, seconds: float) -> pytest.TestReport:
    return pytest.TestReport(nodeid, ("", 0, ""), {}, "passed", None, "call", duration=seconds)


def test_seconds_go_to_the_stage_whose_tests_they_are():
    reports = [
        report(
            "tests/lessons/test_lessons.py::test_a_lesson_and_its_exercises[stage2_quantizer/01_quantisation_by_hand]",
            1,
        ),
        report("tests/hostile/int8/test_hostile_int8.py::test_a_file_gets_what_it_must[weights-only]", 2),
        report("tests/hostile/plugin_build/test_hostile_plugin_builds.py::test_each_learner_gets_others@group", 4),
        report("tests/measuring/test_service_milestone.py::test_the_reference_earns_points_everywhere", 8),
        report("tests/lessons/test_lessons.py::test_a_lesson_and_its_exercises[stage1_converter/01_export]", 16),
        report("tests/classroom/test_flow.py::test_one", 32),
    ]
    found = shares.seconds([*reports, object()])
    assert found == {"stage 1 and common": 48, "stage 2": 3, "stage 3": 4, "stage 4": 8}
