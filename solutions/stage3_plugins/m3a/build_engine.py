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
    ### BEGIN SOLUTION
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "/libnvinfer.so" in line:  # a wheel of TensorRT keeps getPluginRegistry to itself, and the macro calls it
            ctypes.CDLL(line.split()[-1], mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(Path(library).resolve()), mode=ctypes.RTLD_GLOBAL)

    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    flags = 0
    if hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH"):  # 8.6 needs it, 10 ignores it, 11 has none
        flags = 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(onnx):
        errors = [str(parser.get_error(index)) for index in range(parser.num_errors)]
        raise RuntimeError(f"{onnx} cannot be parsed: {'; '.join(errors) or 'the log says why'}")

    config = builder.create_builder_config()
    config.set_tactic_sources(0)  # else 8.6 loads cuBLAS and cuDNN, to hand them to the plugin
    if fp16 and hasattr(trt.BuilderFlag, "FP16"):  # 11 reads the types from the model
        config.set_flag(trt.BuilderFlag.FP16)
    profile = builder.create_optimization_profile()
    profile.set_shape(network.get_input(0).name, *shapes)
    config.add_optimization_profile(profile)

    made = builder.build_serialized_network(network, config)
    if made is None:
        raise RuntimeError(f"TensorRT built nothing from {onnx}: the log says why.")
    Path(plan).write_bytes(made)
    ### END SOLUTION


if __name__ == "__main__":
    onnx, plan, library, *words = sys.argv[1:]
    shapes = tuple(tuple(map(int, word.split("x"))) for word in words if word != "fp16")
    build(onnx, plan, library, shapes, "fp16" in words)
