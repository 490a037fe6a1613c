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
    ### BEGIN SOLUTION
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
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 30)
    config.builder_optimization_level = 2
    for name in ("INT8", "FP16"):  # without FP16 all that is not INT8 stays in FP32; 11 reads both from the model
        if hasattr(trt.BuilderFlag, name):
            config.set_flag(getattr(trt.BuilderFlag, name))

    image = network.get_input(0)
    name, sample = image.name, tuple(image.shape)[1:]
    profile = builder.create_optimization_profile()
    profile.set_shape(name, *((size, *sample) for size in batches))
    config.add_optimization_profile(profile)
    if calibrator is not None:
        usual = (calibrator.get_batch_size(), *sample)
        calibration = builder.create_optimization_profile()
        calibration.set_shape(name, usual, usual, usual)
        config.set_calibration_profile(calibration)
        config.int8_calibrator = calibrator

    made = builder.build_serialized_network(network, config)
    if made is None:
        raise RuntimeError(f"TensorRT built nothing from {onnx}: the log says why.")
    Path(plan).write_bytes(made)
    ### END SOLUTION


if __name__ == "__main__":
    build(sys.argv[1], sys.argv[2], tuple(map(int, sys.argv[3:6])))
