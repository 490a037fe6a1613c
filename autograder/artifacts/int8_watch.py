"""Watches TensorRT itself in a box: what a build was asked for, and which batches a calibrator gave.

Three of its methods are replaced by ones that look and then call them, so that events have the form of the stand-in's.
A batch is copied from the GPU as soon as `get_batch` has returned, as TensorRT reads it then; it goes to the judge.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

from autograder.sandbox.serve import ask_outside

_ANY_DIRECTION = 4  # cudaMemcpyDefault


def watch(trt: ModuleType, events: list[dict]) -> None:
    """Replace `OnnxParser.parse`, `IBuilderConfig.add_optimization_profile` and `Builder.build_serialized_network`."""
    parse, add, build = (
        trt.OnnxParser.parse,
        trt.IBuilderConfig.add_optimization_profile,
        trt.Builder.build_serialized_network,
    )
    profiles: list[tuple[object, object]] = []  # (config, profile)
    parsed: list[str] = [""]

    def watched_parse(parser, model, *path):
        data = bytes(model)
        good = parse(parser, data, *path)
        if good:
            parsed[0] = hashlib.sha256(data).hexdigest()
        return good

    def watched_file(parser, model):
        return watched_parse(parser, Path(model).read_bytes(), str(model))

    def watched_add(config, profile):
        profiles.append((config, profile))
        return add(config, profile)

    def watched_build(builder, network, config):
        own = [profile for other, profile in profiles if other is config]
        events.append({"call": "Builder.build_serialized_network", **_asked(trt, network, config, own, parsed[0])})
        calibrator = getattr(config, "int8_calibrator", None)
        kept: list[np.ndarray] = []
        if calibrator is not None:
            _watch_calibrator(calibrator, _inputs(network, config, own), events, kept)
        plan = build(builder, network, config)
        if kept:
            ask_outside("batches", kept, algorithm=_algorithm(trt, calibrator))
        events.append({"call": "built", "bytes": 0 if plan is None else plan.nbytes})
        return plan

    trt.OnnxParser.parse, trt.OnnxParser.parse_from_file = watched_parse, watched_file
    trt.IBuilderConfig.add_optimization_profile = watched_add
    trt.Builder.build_serialized_network = watched_build


def _asked(trt: ModuleType, network, config, own: list, parsed: str) -> dict:
    names = [network.get_input(index).name for index in range(network.num_inputs)]

    def shapes(profile) -> dict[str, list[list[int]]]:
        return {name: [list(shape) for shape in profile.get_shape(name)] for name in names}

    layers = [network.get_layer(index).type for index in range(network.num_layers)]
    calibrated = config.get_calibration_profile() if hasattr(config, "get_calibration_profile") else None
    calibrator = getattr(config, "int8_calibrator", None)
    return {
        "network": parsed,
        "explicit_batch": not getattr(network, "has_implicit_batch_dimension", False),
        "quantised": any(layer in (trt.LayerType.QUANTIZE, trt.LayerType.DEQUANTIZE) for layer in layers),
        "flags": sorted(name for name, flag in trt.BuilderFlag.__members__.items() if config.get_flag(flag)),
        "profiles": [shapes(profile) for profile in own],
        "calibration_profile": None if calibrated is None else shapes(calibrated),
        "calibrator": {"class": "" if calibrator is None else type(calibrator).__name__},
        "level": config.builder_optimization_level,
        "pools": {"WORKSPACE": config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE)},
    }


def _algorithm(trt: ModuleType, calibrator) -> str:
    for base, name in (
        ("IInt8EntropyCalibrator2", "EntropyCalibration2"),
        ("IInt8EntropyCalibrator", "EntropyCalibration"),
        ("IInt8MinMaxCalibrator", "MinMaxCalibration"),
    ):
        if isinstance(calibrator, getattr(trt, base)):
            return name
    return "LegacyCalibration"


def _inputs(network, config, own: list) -> dict[str, tuple[int, ...]]:
    """Shape of a calibration batch of each input."""
    profile = config.get_calibration_profile() or next(iter(own), None)
    found = {}
    for tensor in (network.get_input(index) for index in range(network.num_inputs)):
        shape = tuple(tensor.shape)
        found[tensor.name] = tuple(profile.get_shape(tensor.name)[1]) if -1 in shape and profile else shape
    return found


def _watch_calibrator(calibrator, inputs: dict[str, tuple[int, ...]], events: list, kept: list[np.ndarray]) -> None:
    """The bindings look for a method on the object first, so ours stands before the class's."""
    copy = _copier()

    def instead(name: str, look: Callable) -> None:
        original = getattr(calibrator, name)

        def watched(*arguments):
            try:
                answer = original(*arguments)
            except Exception as error:
                events.append({"call": "problem", "where": name, "words": f"{type(error).__name__}: {error}"})
                raise
            events.append({"call": name, **look(answer, *arguments)})
            return answer

        setattr(calibrator, name, watched)

    def batch(answer, names):
        if not answer:
            return {"names": list(names), "end": True}
        for address, name in zip(answer, names):
            kept.append(copy(int(address), inputs[name]))
        return {"names": list(names), "end": False}

    instead("get_batch", batch)

    def cache(data):
        return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest() if data else ""}

    instead("read_calibration_cache", lambda answer: cache(b"" if answer is None else bytes(answer)))
    instead("write_calibration_cache", lambda answer, given: cache(bytes(given)))


def _copier() -> Callable[[int, tuple[int, ...]], np.ndarray]:
    """Copies a float32 array from any address that CUDA knows."""
    import torch  # brings the CUDA runtime

    torch.cuda.init()
    path = re.search(r"\S*/libcudart[^/\s]*\.so[.\d]*", Path("/proc/self/maps").read_text())
    runtime = ctypes.CDLL(path[0] if path else "libcudart.so")

    def copy(address: int, shape: tuple[int, ...]) -> np.ndarray:
        target = np.empty(shape, np.float32)
        arguments = (ctypes.c_void_p(target.ctypes.data), ctypes.c_void_p(address), ctypes.c_size_t(target.nbytes))
        if status := runtime.cudaMemcpy(*arguments, _ANY_DIRECTION):
            raise RuntimeError(f"CUDA cannot read {target.nbytes} bytes at {address:#x} (error {status}).")
        return target

    return copy
