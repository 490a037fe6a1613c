"""Engines that the grader builds for services on a GPU, from ONNX only: a ready engine is never taken."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import numpy as np

from autograder.checks.base import Bench
from autograder.rejected import Rejected
from course.errors import CourseError
from course.serving import plans

INSIDE = "autograder.artifacts.service_plan_inside"
MOST_PLAN_BYTES = 1 << 28
_built: dict[tuple[str, int], bytes] = {}
"""Of this process: who grades several repositories with one network builds it once."""


def with_plans(at: Bench) -> Path:
    """A copy of the judged repository with `model.plan` beside each `model.onnx`, for the batches of its configuration.

    Raises:
        Rejected: a network is refused, or no engine can be built from it.
    """
    return at.once("served repository", lambda: _with_plans(at))[0]


def largest(at: Bench) -> int:
    """The most images that an engine of the judged repository takes; 1 if it has no engine. Raises as `with_plans`."""
    return max(at.once("served repository", lambda: _with_plans(at))[1], default=1)


def _with_plans(at: Bench) -> tuple[Path, list[int]]:
    folder = Path(at.boxes.enter_context(tempfile.TemporaryDirectory(prefix="grader-served-")))
    taken, sizes = at.taken[at.path], []

    def make(onnx: bytes, most: int) -> bytes:
        sizes.append(most)
        return plan(at, onnx, most)

    try:
        return plans.beside(taken.path, folder / taken.path.name, make), sizes
    except Rejected:
        raise
    except CourseError as error:
        raise Rejected(error.what, error.cause, error.next_step) from None


def plan(at: Bench, onnx: bytes, largest: int) -> bytes:
    """An engine from ONNX bytes, built in a box that sees nothing else.

    Raises:
        Rejected: the network is refused, or TensorRT cannot build it.
    """
    key = hashlib.sha256(onnx).hexdigest(), largest
    if key not in _built:
        with at.step(f"building an engine for batches of 1 to {largest}"):
            box = at.bare_box(INSIDE, sees=("course", "autograder"), confined=True)
            _, (made,) = box.ask(
                "build",
                [np.frombuffer(onnx, np.uint8)],
                largest=largest,
                seconds=at.limits_s["build"],
                most_answer=MOST_PLAN_BYTES,
            )
            box.close()
        _built[key] = made.tobytes()
    return _built[key]
