"""The order of a run by hand: every right order passes, each missing or late step is named."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from course.by_hand.steps import StepError, check_steps
from course.engine import TensorSpec

INPUTS = (TensorSpec("image", np.dtype("float32"), (-1, 3)),)
OUTPUTS = (TensorSpec("scores", np.dtype("float32"), (-1, 10)), TensorSpec("boxes", np.dtype("float32"), (-1, 4)))
RIGHT = [
    "set_shape image",
    "allocate image",
    "allocate scores",
    "allocate boxes",
    "set_address image",
    "set_address scores",
    "set_address boxes",
    "copy_to_gpu image",
    "execute",
    "copy_to_host scores",
    "copy_to_host boxes",
    "wait",
    "read scores",
    "read boxes",
]


def test_a_right_order_passes() -> None:
    assert check_steps(RIGHT, INPUTS, OUTPUTS) == 0


def test_other_right_orders_pass_too() -> None:
    """Any order that keeps each step behind what it needs: drawn at random within the three groups."""
    rng = random.Random(0)
    for _ in range(50):
        first, addresses, back, reads = RIGHT[:4], RIGHT[4:8], RIGHT[9:11], RIGHT[12:]
        for group in (first, addresses, back, reads):
            rng.shuffle(group)
        assert check_steps([*first, *addresses, "execute", *back, "wait", *reads], INPUTS, OUTPUTS) == 0


def test_waits_that_are_not_needed_are_counted() -> None:
    steps = [*RIGHT[:8], "wait", "execute", "wait", *RIGHT[9:]]
    assert check_steps(steps, INPUTS, OUTPUTS) == 2


@pytest.mark.parametrize("left_out", RIGHT)
def test_every_step_is_needed(left_out: str) -> None:
    with pytest.raises(StepError) as caught:
        check_steps([step for step in RIGHT if step != left_out], INPUTS, OUTPUTS)
    assert left_out in str(caught.value)


@pytest.mark.parametrize(
    "first, then",
    [
        ("set_shape image", "execute"),
        ("allocate image", "set_address image"),
        ("allocate image", "copy_to_gpu image"),
        ("set_address boxes", "execute"),
        ("copy_to_gpu image", "execute"),
        ("execute", "copy_to_host scores"),
        ("copy_to_host boxes", "wait"),
        ("wait", "read scores"),
    ],
)
def test_a_step_that_comes_too_late_is_named(first: str, then: str) -> None:
    steps = [step for step in RIGHT if step != first]
    steps.insert(steps.index(then) + 1, first)
    with pytest.raises(StepError) as caught:
        check_steps(steps, INPUTS, OUTPUTS)
    assert first in str(caught.value) or "wait" in str(caught.value)


def test_a_fixed_shape_needs_no_set_shape() -> None:
    fixed = (TensorSpec("image", np.dtype("float32"), (1, 3)),)
    assert check_steps(RIGHT[1:], fixed, OUTPUTS) == 0


def test_unknown_words_and_tensors_are_named() -> None:
    for wrong in ("run", "allocate picture", "allocate"):
        with pytest.raises(StepError, match=wrong):
            check_steps([wrong, *RIGHT], INPUTS, OUTPUTS)


def test_other_words_for_the_same_steps() -> None:
    words = {"execute": "enqueueV3", "wait": "cudaStreamSynchronize"}
    steps = [words.get(step, step) for step in RIGHT]
    assert check_steps(steps, INPUTS, OUTPUTS, words) == 0
    with pytest.raises(StepError, match="enqueueV3"):
        check_steps([step for step in steps if step != "enqueueV3"], INPUTS, OUTPUTS, words)


def test_nothing_is_not_enough() -> None:
    for steps in itertools.chain([[]], ([step] for step in RIGHT)):
        with pytest.raises(StepError):
            check_steps(steps, INPUTS, OUTPUTS)
