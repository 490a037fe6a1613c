"""The process that builds an engine from the network of a service. The network is data of unknown origin; no program comes with it."""

from __future__ import annotations

import os
import sys

import numpy as np

from autograder.artifacts import onnx_guard
from autograder.sandbox.serve import limit, serve

MOST_NODES, MOST_ELEMENTS = 5_000, 64_000_000


def build(onnx: np.ndarray, *, largest: int):
    """Answers: the engine, uint8."""
    from course.serving import plans

    data = onnx.tobytes()
    onnx_guard.inspect(data, plans.ONNX, max_nodes=MOST_NODES, max_elements=MOST_ELEMENTS)
    return {}, [np.frombuffer(plans.plan(data, largest), np.uint8)]


def main(read_fd: int, write_fd: int, memory_bytes: int, cpu_seconds: int) -> None:
    limit(memory_bytes, cpu_seconds)
    serve(
        {"build": build},
        read_fd,
        write_fd,
        memory_bytes,
        "Look for a tensor that is far larger than the network needs.",
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]))
    os._exit(0)
