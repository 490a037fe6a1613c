"""Rules and words that several kinds of check share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from autograder.checks.base import Problem
from autograder.tasks.base import Task


def batch_problems(batches: Sequence[int]) -> Iterator[Problem]:
    if not batches or not all(isinstance(n, int) and n > 0 for n in batches):
        yield f"batches={batches}.", "Give whole numbers above 0."


def size_problems(sizes: Sequence[int], task: Task) -> Iterator[Problem]:
    if bool(sizes) != task.sized:
        yield f"sizes={sizes}.", f"A {task.name} {'is judged at one size or more' if task.sized else 'has its own'}."


def float16_words(least: float) -> str:
    return f"; at least {100 * least:.0f} % of the layers in FP16" if least else ""
