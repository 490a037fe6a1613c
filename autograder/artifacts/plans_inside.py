"""A process in which the judge builds plans of its own: beside no GPU, as the process of a script that is tried with the stand-in."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import numpy as np

from autograder.sandbox.serve import limit, serve


def plan_of(onnx: bytes, precision: str, name: str, shapes: Sequence[Sequence[int]]) -> bytes:
    """A plan by TensorRT-RTX, in this process.

    Args:
        precision: as of `course.engine.BuildConfig`. name: of the input. shapes: smallest, usual and largest of it.

    Raises:
        BuildError, UnsupportedError: TensorRT-RTX does not work here.
    """
    from course.engine import BuildConfig, Profile, build

    profile = Profile({name: tuple(tuple(shape) for shape in shapes)})
    with build(onnx, BuildConfig(precision, (profile,), runtime="rtx")) as engine:
        return engine.plan


def build(*networks: np.ndarray, precision: str, name: str, shapes: Sequence[Sequence[int]]):
    """A plan of each."""
    plans = [plan_of(network.tobytes(), precision, name, shapes) for network in networks]
    return {}, [np.frombuffer(plan, np.uint8) for plan in plans]


def main(read_fd: int, write_fd: int, memory_bytes: int, cpu_seconds: int) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    limit(memory_bytes, cpu_seconds)
    serve({"build": build}, read_fd, write_fd, memory_bytes, "Report this.")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]))
    os._exit(0)
