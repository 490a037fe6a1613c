"""The raw API of this machine: TensorRT where it runs, else TensorRT-RTX, which has the same objects and only builds.

For the lessons that use TensorRT's own objects. Everything else goes through `course.engine`.
"""

from __future__ import annotations

import ctypes
import math
import warnings

from course.engine import log
from course.engine.api import available_runtimes
from course.engine.trt import features as compat
from course.engine.types import TensorSpec
from course.errors import UnsupportedError

PYCUDA_HELP = (
    "pip install pycuda (it is compiled, which needs nvcc and g++). If a symbol of CUDA is missing, start "
    "Jupyter with LD_PRELOAD=libcuda.so.1."
)


def module():
    """The module `tensorrt` if it works here, else `tensorrt_rtx`.

    Raises:
        UnsupportedError: neither can be used; says why for both.
    """
    reasons = available_runtimes()
    if reasons["tensorrt"] is None:
        import tensorrt as trt
    elif reasons["rtx"] is None:
        import tensorrt_rtx as trt
    else:
        raise UnsupportedError(
            "This lesson needs TensorRT or TensorRT-RTX.",
            f"TensorRT: {reasons['tensorrt']} TensorRT-RTX: {reasons['rtx']}",
            "Run `course doctor`. On Linux on x86-64, `pip install tensorrt_rtx` is enough.",
        )
    return trt


def can_run(trt) -> bool:
    """Whether plans of this module can be run here; TensorRT-RTX only builds them in this course."""
    return trt.__name__ == "tensorrt"


def new_builder(trt):
    """(builder, network): an empty network of the kind that all versions have, on the process's one logger.

    Raises:
        UnsupportedError: the builder does not start; says what TensorRT logged.
    """
    with log.capture() as lines, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the flag that 8.6 needs and 10 ignores
        try:
            builder = trt.Builder(log.trt_logger(trt))
        except TypeError as error:  # what the bindings make of a null pointer
            raise UnsupportedError(
                f"{trt.__name__} {trt.__version__} cannot start a build.",
                log.errors(lines),
                "Run `course doctor`: it checks the GPU, the driver and CUDA.",
            ) from error
        return builder, builder.create_network(compat.network_flags(trt))


def plain_settings(trt, config) -> None:
    """Settings that keep a small build quick and its numbers those of PyTorch on a CPU.

    TF32 off, at most level 2 of the search for kernels, and no kernel library that does not work on this machine.
    """
    compat.set_precision(trt, config, "fp32", False)
    compat.set_tactic_sources(trt, config, None)
    config.builder_optimization_level = 2


def tensors(network) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """(inputs, outputs) of a network definition; -1 in a shape is open. dtype is TensorRT's name, such as float32."""

    def specs(count, get):
        found = (get(index) for index in range(count))
        return tuple(TensorSpec(t.name, compat.DTYPES.get(t.dtype.name, t.dtype.name), tuple(t.shape)) for t in found)

    return specs(network.num_inputs, network.get_input), specs(network.num_outputs, network.get_output)


def first_error(lines) -> str:
    """The first error that was logged, without TensorRT's source lines and without the missing GPU's echo."""
    from course.engine.trt.build import short_reason

    texts = [line.text for line in lines if line.severity in ("ERROR", "INTERNAL_ERROR")]
    own = [text for text in texts if "catchCudaError" not in text] or texts
    return short_reason(own[0]) if own else "Nothing was logged."


def pycuda_driver():
    """`pycuda.driver` on the CUDA context that torch uses, too, so that both see each other's memory.

    Raises:
        UnsupportedError: PyCUDA is not installed or does not load; says what to do.
    """
    try:
        import torch

        torch.cuda.init()
        # A PyCUDA that was compiled without the driver looks for the driver's symbols among those already loaded.
        ctypes.CDLL("libcuda.so.1", mode=ctypes.RTLD_GLOBAL)
        import pycuda.autoprimaryctx  # noqa: F401
        import pycuda.driver as cuda
    except Exception as error:  # not installed, compiled for another CUDA, no driver: each fails in its own way
        raise UnsupportedError(
            "PyCUDA cannot be used here.", f"{type(error).__name__}: {error}", PYCUDA_HELP
        ) from error
    return cuda


def size_in_bytes(shape, itemsize: int) -> int:
    """Bytes of a dense tensor: `shape` without -1, `itemsize` in bytes."""
    return math.prod(int(side) for side in shape) * itemsize
