"""Times that `course.bench` avoids on purpose, to show why: of first runs, and of calls that nobody waits for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from course.bench.clocks import CpuClock
from course.errors import CourseError


def every_run(fn: Callable[[], object], runs: int = 15) -> np.ndarray:
    """Milliseconds of each of `runs` calls, without any warm-up: float64 [runs], wall clock.

    `fn` must wait until its work is done, as `Engine.run` does for NumPy arrays.
    """
    if runs < 1:
        raise CourseError(f"{runs} runs were asked for.", "There is nothing to time.", "Use runs=15.")
    clock = CpuClock()
    return np.array([clock.sample(fn, 1) for _ in range(runs)])


class LaunchClock:
    """A clock for `course.bench` that shows a mistake: it stops when a call returns, not when the GPU is done.

    Each sample begins on an idle GPU, so that it holds the time to launch the work, and not a full queue's.
    """

    def sample(self, fn: Callable[[], object], calls: int) -> float:
        import torch

        torch.cuda.synchronize()
        return CpuClock().sample(fn, calls)
