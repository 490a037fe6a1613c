"""Every difference between TensorRT 8.6, 10, 11 and TensorRT-RTX, each behind a feature test, never a number.

    what                       test                                                  8.6  10    11   RTX
    explicit-batch flag        NetworkDefinitionCreationFlag.EXPLICIT_BATCH          yes  yes   -    -
    precision by builder flag  BuilderFlag.FP16                                      yes  yes   -    -
    INT8 calibrator            IInt8Calibrator                                       yes  yes   -    -
    progress monitor           IProgressMonitor                                      -    yes   yes  yes
    cuBLAS and cuDNN tactics   TacticSource.CUBLAS, CUBLAS_LT, CUDNN                 yes  yes   -    -
    contexts share a profile   PreviewFeature.PROFILE_SHARING_0806; always so in 11  yes  yes   -    -
    parser error names node    ParserError.node_name                                 -    yes   yes  yes
    activation memory          ICudaEngine.device_memory_size_v2, else without _v2   v1   both  v2   v2
    weights size               ICudaEngine.get_engine_stat                           -    late  yes  yes

The module comes in as `trt`, so that TensorRT and TensorRT-RTX share the code. Names follow one convention:
builder, network, config, parser, error, engine are TensorRT's objects of these kinds.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

from course.engine.progress import Progress
from course.errors import BuildError, UnsupportedError

# numpy 1.24 and later break trt.nptype() of 8.6, so the types are mapped here, by the names of trt.DataType.
DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
    "FP8": "float8",
    "INT4": "int4",
    "FP4": "float4",
}

# Tactic sources outside TensorRT: the library that 8.6 and 10 load, a call that fails where it does not work.
_LIBRARIES = {
    "CUBLAS": (("libcublas.so.12", "libcublas.so.11"), "cublasCreate_v2", "cublasDestroy_v2"),
    "CUBLAS_LT": (("libcublasLt.so.12", "libcublasLt.so.11"), "cublasLtCreate", "cublasLtDestroy"),
    "CUDNN": (("libcudnn.so.8",), "cudnnCreate", "cudnnDestroy"),
}


def network_flags(trt) -> int:
    """Flags for `Builder.create_network`: 8.6 needs EXPLICIT_BATCH, later versions know nothing else."""
    if hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH"):
        return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    return 0


def sets_precision_by_flag(trt) -> bool:
    """Whether FP16 and INT8 are builder flags. Where they are not, the ONNX model must say its types."""
    return hasattr(trt.BuilderFlag, "FP16")


def set_precision(trt, config, precision: str, quantised: bool) -> None:
    """Set the flags for a precision. `quantised`: it has Q/DQ nodes, which 8.6 and 10 take only with INT8."""
    if precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default
    else:
        config.set_flag(trt.BuilderFlag.TF32)
    if hasattr(trt.BuilderFlag, "FP16"):
        if precision in ("fp16", "int8"):
            config.set_flag(trt.BuilderFlag.FP16)
        if precision == "int8" or quantised:
            config.set_flag(trt.BuilderFlag.INT8)


def set_calibrator(trt, config, calibrator: object, profile) -> None:
    """Use a calibrator for implicit INT8; `profile` is a trt profile of the calibration shapes, or None.

    Raises:
        UnsupportedError: this TensorRT has no implicit INT8.
        BuildError: not a calibrator.
    """
    if not hasattr(trt, "IInt8Calibrator"):
        raise UnsupportedError(
            f"TensorRT {trt.__version__} takes no calibrator.",
            "It quantises only what Q/DQ nodes in the model say.",
            "Insert Q/DQ nodes into the ONNX model and build without a calibrator.",
        )
    if not isinstance(calibrator, trt.IInt8Calibrator):
        raise BuildError(
            f"{type(calibrator).__name__} is not a calibrator.",
            "It must be derived from one of TensorRT's IInt8…Calibrator classes.",
            "Derive your class from tensorrt.IInt8EntropyCalibrator2 and call its __init__.",
        )
    config.int8_calibrator = calibrator
    if profile is not None:
        config.set_calibration_profile(profile)


def share_profiles(trt, config) -> None:
    """Let several contexts use one optimisation profile at a time; TensorRT 11 always does."""
    if hasattr(trt.PreviewFeature, "PROFILE_SHARING_0806"):
        config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)


def reports_progress(trt) -> bool:
    """Whether TensorRT reports its phases; else they are read from its log, and it ends when it is done."""
    return hasattr(trt, "IProgressMonitor")


def takes_calibrator(trt) -> bool:
    """Whether TensorRT can choose INT8 scales from calibration data; else only Q/DQ nodes can say them."""
    return hasattr(trt, "IInt8Calibrator")


def attach_monitor(trt, config, progress: Progress):
    """Let TensorRT report its phases and be cancelled. Returns the monitor, to be kept alive, or None."""
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class Monitor(trt.IProgressMonitor):
        def __init__(self):
            trt.IProgressMonitor.__init__(self)
            self.phases = {}

        def phase_start(self, phase_name, parent_phase, num_steps):
            self.phases[phase_name] = (num_steps, parent_phase)
            progress.tell(phase_name, 0, num_steps, parent_phase)

        def step_complete(self, phase_name, step):
            steps, parent = self.phases.get(phase_name, (None, None))
            return progress.tell(phase_name, step + 1, steps, parent)

        def phase_finish(self, phase_name):
            self.phases.pop(phase_name, None)

    config.progress_monitor = monitor = Monitor()
    return monitor


def set_tactic_sources(trt, config, wanted: frozenset[str] | None) -> list[str]:
    """Choose kernel libraries; by default TensorRT's own choice without those that do not work here.

    Returns: the names switched off because they do not work.

    Raises:
        UnsupportedError: this TensorRT has no such source.
    """
    known = trt.TacticSource.__members__
    if wanted is not None:
        if unknown := wanted - set(known):
            names = ", ".join(sorted(unknown))
            raise UnsupportedError(
                f"TensorRT {trt.__version__} has no tactic source {names}.",
                f"It has {', '.join(known)}.",
                "Name only these in tactic_sources.",
            )
        config.set_tactic_sources(sum(1 << int(known[name]) for name in wanted))
        return []
    mask = config.get_tactic_sources()
    off = [name for name in _LIBRARIES if name in known and mask >> int(known[name]) & 1 and not _library_works(name)]
    if off:
        config.set_tactic_sources(mask & ~sum(1 << int(known[name]) for name in off))
    return off


@functools.cache
def _library_works(source: str) -> bool:
    """Whether the library loads and makes a handle. A stand-in, or one for another GPU, loads and fails."""
    files, create, destroy = _LIBRARIES[source]
    for file in files:
        try:
            library, handle = ctypes.CDLL(file), ctypes.c_void_p()
            if getattr(library, create)(ctypes.byref(handle)) == 0:
                getattr(library, destroy)(handle)
                return True
        except (OSError, AttributeError):
            continue
    return False


def parser_error_node(error, nodes) -> tuple[str, str]:
    """Name and operator of the node that a parser error is about; "" where there is none."""
    if hasattr(error, "node_name"):
        return error.node_name(), error.node_operator()
    index = error.node()
    if 0 <= index < len(nodes):
        return nodes[index].name or f"{nodes[index].op_type}_{index}", nodes[index].op_type
    return "", ""


def activation_bytes(engine) -> int:
    """Device memory that each execution context of the engine takes, in bytes."""
    if hasattr(engine, "device_memory_size_v2"):
        return engine.device_memory_size_v2
    return engine.device_memory_size


def weights_bytes(trt, engine) -> int | None:
    """Size of the engine's weights in bytes, or None where TensorRT does not tell."""
    if hasattr(engine, "get_engine_stat") and hasattr(trt, "EngineStat"):
        return engine.get_engine_stat(trt.EngineStat.TOTAL_WEIGHTS_SIZE)
    return None


def output_allocator(trt, allocate: Callable[[int], object]):
    """An `IOutputAllocator`. After a run `buffer` is what `allocate(bytes)` gave, `shape` what it holds."""

    class Allocator(trt.IOutputAllocator):
        def __init__(self):
            trt.IOutputAllocator.__init__(self)
            self.reset()

        def reset(self):
            self.buffer, self.shape, self.error = None, None, None

        def reallocate_output(self, tensor_name, memory, size, alignment):
            try:
                self.buffer = allocate(max(size, 1))
                return self.buffer.data_ptr()
            except Exception as error:  # out of memory; must not unwind through TensorRT
                self.error = error
                return 0

        def reallocate_output_async(self, tensor_name, memory, size, alignment, stream):  # asked from 10 on
            return self.reallocate_output(tensor_name, memory, size, alignment)

        def notify_shape(self, tensor_name, shape):
            self.shape = tuple(shape)

    return Allocator()
