"""Taking one time: the clocks of a CPU and of a GPU, warm-up, and how many calls make a sample.

`course.bench` is what notebooks use; this is what lies under it.
"""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from course.errors import CourseError, UnsupportedError

SHORTEST_SAMPLE_MS = 0.2
"""A shorter function is called several times per sample: the clock itself costs some 0.1 us."""
MOST_CALLS_PER_SAMPLE = 10_000


class Clock(Protocol):
    """Times `calls` calls of `fn`; returns milliseconds per call."""

    def sample(self, fn: Callable[[], object], calls: int) -> float: ...


def clock_of(device: str, clock: Clock | None) -> tuple[Clock, str]:
    if device == "cpu":
        return clock or CpuClock(), "CPU"
    if device != "cuda":
        raise CourseError(
            f"There is no device {device!r}.",
            "A time is taken on a CPU or on a GPU.",
            'Use device="cpu" or device="cuda".',
        )
    import torch

    if not torch.cuda.is_available():
        raise UnsupportedError(
            "A GPU time was asked for.",
            "PyTorch finds no CUDA GPU on this machine.",
            'Use device="cpu" and call the result a CPU number, or use a GPU machine.',
        )
    return clock or CudaClock(), f"GPU {torch.cuda.get_device_name()}"


def warm_up(label: str, fn: Callable, clock: Clock, warmup_s: float, patience: float) -> int:
    """Call `fn` for at least `warmup_s` and until its times settle (the last quarter's median within 5 % of
    the quarter's before), at least twice, at most 4 x warmup_s or `patience` seconds. Returns the calls per
    sample."""
    take_sample(label, fn, clock, 1)  # the first call may load modules, compile and allocate: not a time
    if isinstance(clock, CudaClock):
        clock.check(label, fn)
    begin, times, settled = time.perf_counter(), [], False
    while not times or (spent := time.perf_counter() - begin) < min(4 * warmup_s, patience):
        if settled and spent >= warmup_s:
            break
        times.append(take_sample(label, fn, clock, 1))
        quarter = len(times) // 4
        if quarter:
            last, before = np.median(times[-quarter:]), np.median(times[-2 * quarter : -quarter])
            settled = abs(last - before) <= 0.05 * before
    return _calls_per_sample(label, fn, clock, float(np.median(times[-(len(times) // 4 + 1) :])))


def _calls_per_sample(label: str, fn: Callable, clock: Clock, milliseconds: float) -> int:
    calls = 1
    while milliseconds * calls < 0.7 * SHORTEST_SAMPLE_MS and calls < MOST_CALLS_PER_SAMPLE:
        # one call's time holds the cost of reading the clock, so the first guess is too low: look again
        needed = math.ceil(SHORTEST_SAMPLE_MS / max(milliseconds, 1e-9))
        calls = min(max(needed, calls + 1), MOST_CALLS_PER_SAMPLE)
        milliseconds = take_sample(label, fn, clock, calls)
    return calls


def take_sample(label: str, fn: Callable, clock: Clock, calls: int) -> float:
    try:
        return clock.sample(fn, calls)
    except CourseError as error:
        raise type(error)(f"{label!r}, while it was timed: {error.what}", error.cause, error.next_step) from error
    except Exception as error:
        raise CourseError(
            f"{label!r} failed while it was timed.",
            f"{type(error).__name__}: {error}",
            "Call it once by itself and repair it; its traceback is above.",
        ) from error


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class CpuClock:
    def sample(self, fn: Callable, calls: int) -> float:
        begin = time.perf_counter_ns()
        for _ in range(calls):
            fn()
        return (time.perf_counter_ns() - begin) / 1e6 / calls


class CudaClock:
    """CUDA events on the current stream (resolution about 0.5 us).

    The host waits after the end event, never between the two. So every sample begins on an idle GPU and holds
    the launch cost that a caller sees; work queued by the function before it cannot hide that cost.
    """

    def __init__(self):
        import torch  # only here: on a CPU the course can time without it

        self._cuda = torch.cuda
        self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def sample(self, fn: Callable, calls: int) -> float:
        self._begin.record()
        for _ in range(calls):
            fn()
        self._end.record()
        self._end.synchronize()
        return self._begin.elapsed_time(self._end) / calls

    def check(self, label: str, fn: Callable) -> None:
        """Refuse a function whose work runs on a stream that the events do not see."""
        unseen = []
        for _ in range(3):
            self._cuda.synchronize()
            begin = time.perf_counter()
            event_ms = self.sample(fn, 1)
            self._cuda.synchronize()
            unseen.append((time.perf_counter() - begin) * 1e3 - event_ms > max(0.2, event_ms))
        if all(unseen):
            raise CourseError(
                f"{label!r} works where the timer does not see it.",
                "The GPU was busy long after the current stream was done.",
                "Run it on torch.cuda.current_stream(), or let that one wait for its streams.",
            )


class CpuTime:
    """A clock for `course.bench`: CPU time of the calling thread. With one thread (`one_torch_thread`) it is the
    time of a quiet machine, also while other programs share the cores.

    Not the process's CPU time: under a limit on CPU seconds, which we set, Linux counts that in whole ticks
    of 1 to 10 ms.
    """

    def sample(self, fn: Callable[[], object], calls: int) -> float:
        begin = time.thread_time_ns()
        for _ in range(calls):
            fn()
        return (time.thread_time_ns() - begin) / 1e6 / calls


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """PyTorch runs on one thread in here. Build the engine beside it with `BuildConfig(threads=1)`.

    On shared cores two threads wait for each other, PyTorch's far more than ONNX Runtime's: with 8 busy
    programs on 2 cores the ratio of ResNet-50 went from about 1.7 to 7.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
