"""CUDA and an engine to run on it: real ones where a GPU is, else the stand-in, with one interface.

cudart = cuda_here()                                  # cuda.bindings.runtime, or a stand-in
engine = raw_engine(cudart, "model.onnx", [(1, 8, 8)])    # an ICudaEngine, or a stand-in
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from course.engine import BuildConfig, Profile, available_runtimes, build, graph, log
from course.errors import UnsupportedError
from course.serving import stand_in

_alive: list[object] = []
"""TensorRT's runtimes must live as long as their engines."""


def cuda_here(tell: bool = True) -> Any:
    """`cuda.bindings.runtime` where TensorRT runs on a GPU, else a stand-in of its own, with empty memory.

    Args:
        tell: print which one it is, and why.

    Raises:
        UnsupportedError: there is a GPU with TensorRT, but no package with CUDA's Python bindings.
    """
    reason = available_runtimes()["tensorrt"]
    if reason is not None:
        if tell:
            print(f"A stand-in for CUDA and TensorRT: it keeps their order and has no speed.\n  Why: {reason}")
        return stand_in.Runtime()
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise UnsupportedError(
            "CUDA's Python bindings cannot be imported.",
            f"{type(error).__name__}: {error}",
            'pip install "cuda-bindings==13.*" (12.* for a driver of CUDA 12).',
        ) from error
    import torch

    torch.cuda.init()  # torch, TensorRT and the bindings work in the GPU's one primary context
    torch.zeros(1, device="cuda")
    if tell:
        print(f"CUDA on {torch.cuda.get_device_name()}")
    return runtime


def is_real(cudart: Any) -> bool:
    """Whether `cudart` is CUDA, not the stand-in."""
    return not getattr(cudart, "STAND_IN", False)


def raw_engine(
    cudart: Any,
    model: str | Path,
    profiles: Sequence[tuple[int, int, int]],
    precision: str = "fp32",
    level: int | None = None,
    timing_cache: str | Path | None = None,
) -> Any:
    """An `ICudaEngine` for the model, built here; on the stand-in an object with its calls.

    Args:
        profiles: for each, (smallest, usual, largest) of the model's open first dimension.
        precision, level, timing_cache: of the build; the stand-in takes none of them.

    Raises:
        CourseError: it cannot be built.
    """
    if not is_real(cudart):
        return stand_in.Engine(cudart, model, profiles)
    import tensorrt as trt

    inputs = graph.inputs(graph.read(model).proto)
    shapes = [
        Profile({name: tuple((size, *shape[1:]) for size in sizes) for name, shape in inputs.items()})
        for sizes in profiles
    ]
    built = build(
        model,
        BuildConfig(
            precision=precision,
            profiles=shapes,
            optimization_level=level,
            timing_cache=timing_cache,
            runtime="tensorrt",
        ),
    )
    runtime = trt.Runtime(log.trt_logger(trt))
    _alive.append(runtime)
    return runtime.deserialize_cuda_engine(built.plan)
