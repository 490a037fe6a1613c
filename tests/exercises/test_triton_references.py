"""What `solved` falls back to in the Triton lessons earns all points of its own judge, on the real server."""

from __future__ import annotations

import pytest

from course import exercises
from course.serving import environment

SERVED = (
    "triton-config",
    "triton-model",
    "triton-publish",
    "batch-join",
    "batch-limits",
    "batch-misses",
    "load-hold",
)
TIMED = ("batch-limits", "batch-misses", "load-hold")
"""Their judges take times or rates; the others' look at answers, and send again what a busy machine kept apart."""


def judged(identity: str) -> tuple[float, str]:
    found = exercises.find(identity)
    (name,) = found.names
    return exercises._judge(found, {name: exercises._references[identity]()})


@pytest.mark.slow
@pytest.mark.parametrize(
    "identity", [pytest.param(one, marks=pytest.mark.serial if one in TIMED else ()) for one in SERVED]
)
def test_a_reference_earns_all_points_of_its_own_judge(identity):
    if reason := environment.why_not():
        pytest.skip(reason)
    share, words = judged(identity)
    assert share == 1, words


@pytest.mark.serial
def test_the_open_loop_of_the_course_passes():
    share, words = judged("load-open")
    assert share == 1, words


def test_the_queue_of_the_course_passes():
    share, words = judged("load-queue")
    assert share == 1, words


@pytest.mark.parametrize("identity", SERVED)
def test_without_triton_nothing_is_earned_and_it_says_how_to_get_it(identity, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    share, words = judged(identity)
    assert share == 0 and "was not tried" in words and "course serve setup" in words
