"""How many threads tests compute with: the same for PyTorch and ONNX Runtime, whatever this machine has."""

from __future__ import annotations

import os
from collections.abc import MutableMapping


def choose(variables: MutableMapping[str, str], starts_workers: bool) -> None:
    """Set OMP_NUM_THREADS in `variables`, a process's environment, unless it was given.

    One for each of several workers: threads of two that share two cores wait for each other, and double the CPU time. A
    process that starts workers leaves it alone: they would inherit what is meant for one process.
    """
    if not starts_workers:
        variables.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in variables else "2")


def number() -> int:
    """As OMP_NUM_THREADS says, which `tests/conftest.py` sets, and which other processes inherit."""
    return int(os.environ["OMP_NUM_THREADS"])


def limit_onnxruntime() -> None:
    """Sessions that ask for no number of threads get that one: ONNX Runtime reads no variable for it."""
    import onnxruntime

    session, make = onnxruntime.InferenceSession, onnxruntime.InferenceSession.__init__

    def limited(self, path_or_bytes, sess_options=None, *arguments, **named) -> None:
        options = sess_options or onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.intra_op_num_threads or number()
        make(self, path_or_bytes, options, *arguments, **named)

    session.__init__ = limited
