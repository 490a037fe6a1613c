"""Timing on a CPU that others use, too: CPU time, and one thread each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator


class CpuTime:
    """A clock for `course.bench`: CPU time of the calling thread. With one thread (`one_thread`) it is the
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
def one_thread() -> Iterator[None]:
    """Engines that are built in here run on one thread of ONNX Runtime, and PyTorch on one of its own.

    On shared cores two threads wait for each other, PyTorch's far more than ONNX Runtime's: with 8 busy
    programs on 2 cores the ratio of ResNet-50 went from about 1.7 to 7.
    """
    import onnxruntime
    import torch

    make, threads = onnxruntime.SessionOptions, torch.get_num_threads()

    def options():
        made = make()
        made.intra_op_num_threads = 1
        return made

    onnxruntime.SessionOptions = options  # the course's engine makes its options itself, with all cores
    torch.set_num_threads(1)
    try:
        yield
    finally:
        onnxruntime.SessionOptions = make
        torch.set_num_threads(threads)
