"""Builds an INT8 engine with TensorRT's own API.

    python build_engine.py model_int8.onnx model.plan 1 8 64

You hand this file in. The grader calls `build` with networks of its own. Keep its name and its arguments.
"""

from __future__ import annotations

import sys
from pathlib import Path

import tensorrt as trt


def build(onnx: str, plan: str, batches: tuple[int, int, int], calibrator=None) -> None:
    """Write the plan of an INT8 engine.

    Args:
        onnx: path of the network, with one input [batch, channels, height, width]. It has Q/DQ pairs, or it has none and
            there is a calibrator.
        plan: path of the file to write.
        batches: smallest, usual and largest batch that the engine must take.
        calibrator: an IInt8Calibrator. Its batch size has nothing to do with `batches`.

    Raises:
        RuntimeError: the file cannot be parsed, or TensorRT built nothing. Then no plan is written.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


if __name__ == "__main__":
    build(sys.argv[1], sys.argv[2], tuple(map(int, sys.argv[3:6])))
