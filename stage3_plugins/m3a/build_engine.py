"""Builds an engine of a network with a plugin, with TensorRT's own API.

    python build_engine.py mish_net.onnx mish_net.plan libactivation.so 1x3x64x64 2x3x64x64 8x3x64x64 fp16

You hand this file in. The grader calls `build` with networks and libraries of its own. Keep its name and its arguments.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import tensorrt as trt


def build(onnx: str, plan: str, library: str, shapes: tuple[tuple[int, ...], ...], fp16: bool = False) -> None:
    """Write the plan of an engine with a plugin.

    Args:
        onnx: path of the network, with one input. It has nodes of the plugin.
        plan: path of the file to write.
        library: path of the plugin's library, which nobody has opened yet. It registers its creator as it is opened
            (REGISTER_TENSORRT_PLUGIN).
        shapes: smallest, usual and largest shape of the input: kMIN, kOPT and kMAX of the one optimisation profile.
        fp16: whether kernels may compute in FP16.

    Raises:
        OSError: the library cannot be opened.
        RuntimeError: the file cannot be parsed, or TensorRT built nothing. Then no plan is written.
    """
    # YOUR CODE HERE
    raise NotImplementedError()


if __name__ == "__main__":
    onnx, plan, library, *words = sys.argv[1:]
    shapes = tuple(tuple(map(int, word.split("x"))) for word in words if word != "fp16")
    build(onnx, plan, library, shapes, "fp16" in words)
