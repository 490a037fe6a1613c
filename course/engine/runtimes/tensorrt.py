"""TensorRT on a GPU, 8.6 to 11: running. Building is in `trt/build.py`, what differs by version in `trt/features.py`.

Memory and streams come from torch: CUDA tensors are handed to TensorRT by address, in place.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import re
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from course.engine import container, log
from course.engine.base import Engine
from course.engine.config import BuildConfig
from course.engine.container import Header
from course.engine.feeds import check
from course.engine.progress import ctrl_c_waits
from course.engine.trt import build as trt_build
from course.engine.trt import features as compat
from course.engine.trt import inspector
from course.engine.types import Captured, Layer, LogLine, Memory, Shape
from course.errors import CourseError, EngineMismatchError, ShapeError, UnsupportedError

_PRODUCT = "TensorRT"
_ALIGNMENT = 256  # bytes; what TensorRT asks of every address


def why_not() -> str | None:
    """None if TensorRT can be used here, else why not: not installed, broken, no GPU, torch without CUDA."""
    try:
        import tensorrt as trt
    except ModuleNotFoundError as error:
        return f"It is not installed (environment.yml says how). [{error}]"
    except Exception as error:  # a missing or broken library can fail in any way
        return f"It is installed, but does not load: {error}"
    if not hasattr(trt, "Builder"):
        return f"The package tensorrt at {getattr(trt, '__path__', '?')} is not TensorRT."
    if reason := _gpu_problem():
        return reason  # asked before TensorRT is: 8.6 crashes where there is no GPU
    try:
        import torch
    except Exception as error:
        return f"torch, which holds the memory, does not load: {error}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not torch.cuda.is_available():
            return f"torch {torch.__version__} sees no GPU: it is a CPU build, or the driver is too old."
    return None


def _gpu_problem() -> str | None:
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "There is no NVIDIA driver: libcuda.so.1 does not load."
    if status := cuda.cuInit(0):
        return f"The NVIDIA driver does not start: cuInit returns {status}."
    count = ctypes.c_int(0)
    if cuda.cuDeviceGetCount(ctypes.byref(count)) or count.value == 0:
        return "The NVIDIA driver sees no GPU."
    return None


@functools.cache
def _tensorrt():
    """The module, with its own plugins registered."""
    import tensorrt as trt

    trt.init_libnvinfer_plugins(log.trt_logger(trt), "")
    return trt


def build(onnx, config: BuildConfig) -> Engine:
    """Build on the GPU. See `course.engine.build`."""
    trt = _tensorrt()
    built = trt_build.build_plan(trt, _PRODUCT, onnx, config)
    gpu, capability = _gpu()
    header = Header(
        "tensorrt",
        trt.__version__,
        config.precision,
        built.inputs,
        built.outputs,
        config.profiles,
        built.model.sha256,
        built.seconds,
        None,
        gpu,
        capability,
    )
    return TensorRTEngine(header, built.plan, built.log)


def load(path, header: Header, payload: bytes) -> Engine:
    """An engine from its file, if it was built for this TensorRT and this GPU architecture."""
    gpu, capability = _gpu()
    container.require_same_machine(path, header, _tensorrt().__version__, capability, gpu)
    return TensorRTEngine(header, payload)


def network_layers(onnx) -> tuple[Layer, ...]:
    """The parsed network. See `course.engine.network_layers`."""
    return trt_build.parsed_layers(_tensorrt(), _PRODUCT, onnx)


def _gpu() -> tuple[str, str]:
    """Name and compute capability of torch's current GPU."""
    import torch

    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return properties.name, f"{properties.major}.{properties.minor}"


@dataclasses.dataclass
class _Context:
    """An execution context, the input shapes it is set to, the output shapes that follow, its last work."""

    context: Any
    done: Any  # torch.cuda.Event: its scratch memory is free again
    shapes: dict[str, Shape] | None = None
    output_shapes: dict[str, Shape] = dataclasses.field(default_factory=dict)
    allocators: dict[str, Any] = dataclasses.field(default_factory=dict)  # of outputs that depend on the data


class TensorRTEngine(Engine):
    """A deserialised plan with one execution context per optimisation profile, made when first used."""

    def __init__(self, header: Header, plan: bytes, build_log: tuple[LogLine, ...] = ()):
        import torch

        trt = _tensorrt()
        self._torch, self._trt, self._lock, self._contexts = torch, trt, threading.Lock(), {}
        self._index = torch.cuda.current_device()
        with log.capture() as lines, ctrl_c_waits():
            self._runtime = trt.Runtime(log.trt_logger(trt))
            self._engine = engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineMismatchError(
                "TensorRT does not accept this engine.",
                log.errors(lines),
                "Build it again from the ONNX model on this machine.",
            )
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        specs = {
            name: trt_build.spec(name, engine.get_tensor_dtype(name), engine.get_tensor_shape(name)) for name in names
        }
        inputs = tuple(specs[n] for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT)
        order = {spec.name: place for place, spec in enumerate(header.outputs)}  # 8.6 lists kept tensors first
        names.sort(key=lambda name: order.get(name, -1))
        outputs = tuple(specs[n] for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.OUTPUT)
        self._host_outputs = {
            spec.name for spec in outputs if engine.get_tensor_location(spec.name) == trt.TensorLocation.HOST
        }
        self._side = torch.cuda.Stream()
        self._nothing = self._allocate(_ALIGNMENT)  # an address for tensors without elements
        weights = header.weights_bytes or compat.weights_bytes(trt, engine) or _logged_weights(lines)
        dims = {spec.name: spec.dims for spec in header.inputs}  # a plan does not hold the names of dimensions
        inputs = tuple(dataclasses.replace(spec, dims=dims.get(spec.name, ())) for spec in inputs)
        header = dataclasses.replace(header, inputs=inputs, outputs=outputs, weights_bytes=weights)
        super().__init__(header, plan, build_log)

    @property
    def device(self) -> str:
        return f"cuda:{self._index}"

    def run(self, feeds: Mapping[str, Any], *, profile: int = 0, stream: Any = None) -> dict[str, Any]:
        """See `Engine.run`. Contiguous CUDA tensors, 256-byte aligned, are read in place, others copied."""
        torch = self._torch
        self._require_open()
        kind = check(self.inputs, self.profiles, feeds, profile)
        on_gpu = kind == "torch" and any(x.is_cuda for x in feeds.values())
        with self._lock, torch.cuda.device(self._index):
            state = self._context(profile)
            with self._work_on(stream, state.done) as work:
                inputs = {name: self._to_gpu(name, x) for name, x in feeds.items()}
                outputs = self._execute(state, inputs, work)
                if on_gpu:
                    return outputs
                if kind == "numpy":  # which has no bfloat16
                    outputs = {n: x.float() if x.dtype == torch.bfloat16 else x for n, x in outputs.items()}
                host = {
                    name: torch.empty(x.shape, dtype=x.dtype, pin_memory=True).copy_(x, non_blocking=True)
                    for name, x in outputs.items()
                }
                work.synchronize()
        # A copy, because pinned memory is scarce and the caller may keep every result.
        return {name: x.numpy().copy() if kind == "numpy" else x.clone() for name, x in host.items()}

    def capture(self, feeds: Mapping[str, Any], *, profile: int = 0) -> Captured:
        """See `Engine.capture`."""
        torch = self._torch
        self._require_open()
        check(self.inputs, self.profiles, feeds, profile)
        with self._lock, torch.cuda.device(self._index):
            torch.cuda.current_stream().synchronize()  # the caller's work on the feeds
            state = self._new_context(profile)
            with self._work_on(self._side, state.done) as work:
                inputs = {name: self._to_gpu(name, x).clone() for name, x in feeds.items()}
                self._set_shapes(state, inputs)
                outputs = {}
                for spec in self.outputs:
                    shape = state.output_shapes[spec.name]
                    if -1 in shape or spec.name in self._host_outputs:
                        raise UnsupportedError(
                            f"Output {spec.name!r} cannot be part of a CUDA graph.",
                            "Its shape depends on the data, or it lives on the host.",
                            "Use Engine.run, or end the model before this output.",
                        )
                    outputs[spec.name] = self._empty(shape, spec.dtype)
                self._set_addresses(state, {**inputs, **outputs})
                self._enqueue(state, work)  # in its first run TensorRT sets itself up, which is not to record
                work.synchronize()
                graph = torch.cuda.CUDAGraph()
                try:
                    with torch.cuda.graph(graph, stream=work, capture_error_mode="thread_local"):
                        self._enqueue(state, work)
                except RuntimeError as error:
                    raise UnsupportedError(
                        "This engine cannot be recorded as a CUDA graph.",
                        f"Some layer needs the CPU while it runs: {error}",
                        "Use Engine.run.",
                    ) from error

        # The graph uses the memory of the context, the inputs and the outputs by address: they live as long as it.
        def replay(keep=(state, inputs, outputs)) -> None:
            graph.replay()

        return Captured(inputs, outputs, replay)

    def run_profiled(self, feeds: Mapping[str, Any], profiler: Any, runs: int, *, profile: int = 0) -> None:
        """Run `runs` times, one after the other; TensorRT reports the time of each layer to `profiler`, an `IProfiler`.

        In a context of its own, since a profiler cannot be taken off again. The feeds must be ones that `run` takes.
        """
        self._require_open()
        state = self._new_context(profile)
        state.context.profiler = profiler
        stream = self._torch.cuda.Stream()
        with self._torch.cuda.stream(stream):
            inputs = {name: self._to_gpu(name, value) for name, value in feeds.items()}
            for _ in range(runs):
                self._execute(state, inputs, stream)
                stream.synchronize()

    def layers(self) -> tuple[Layer, ...]:
        """The layers of the first optimisation profile at its usual shapes, as TensorRT's inspector tells."""
        self._require_open()
        described = self._engine.create_engine_inspector()
        if self.profiles:  # without shapes the inspector knows neither dimensions nor formats nor dtypes
            state = self._new_context(0)
            for name, (_, usual, _) in self.profiles[0].shapes.items():
                state.context.set_input_shape(name, usual)
            described.execution_context = state.context
        return inspector.parse(described.get_engine_information(self._trt.LayerInformationFormat.JSON))

    def memory(self) -> Memory:
        """Weights (in whole MiB on 8.6), scratch memory of each execution context, and the plan."""
        self._require_open()
        return Memory(self._header.weights_bytes, compat.activation_bytes(self._engine), len(self._payload))

    def close(self) -> None:
        with self._lock:
            if self._engine is not None:
                self._torch.cuda.synchronize(self._index)
            self._contexts.clear()
            self._engine = None

    def _require_open(self) -> None:
        if self._engine is None:
            raise CourseError("This engine is closed.", "close() gave its memory back.", "Build or load it again.")

    def _context(self, profile: int) -> _Context:
        if profile not in self._contexts:
            self._contexts[profile] = self._new_context(profile)
        return self._contexts[profile]

    def _new_context(self, profile: int) -> _Context:
        with log.capture() as lines, ctrl_c_waits():
            context = self._engine.create_execution_context()
            ready = context is not None
            if ready and context.active_optimization_profile != profile:
                ready = context.set_optimization_profile_async(profile, self._side.cuda_stream)
                self._side.synchronize()
        if not ready:
            raise CourseError(
                f"No execution context for optimisation profile {profile}.",
                log.errors(lines),
                f"It needs {compat.activation_bytes(self._engine) / 1e6:.0f} MB of GPU memory: "
                "close other engines and processes.",
            )
        return _Context(context, self._torch.cuda.Event())

    @contextlib.contextmanager
    def _work_on(self, stream: Any, done) -> Iterator[Any]:
        """Yield the stream to use, current for torch, after the context's last work and the caller's stream.

        On the default stream TensorRT would synchronise the whole device, so a stream of the engine's own
        takes the work there, ordered before and after the caller's by events.
        """
        cuda = self._torch.cuda
        caller = (
            cuda.current_stream()
            if stream is None
            else stream
            if isinstance(stream, cuda.Stream)
            else cuda.ExternalStream(int(stream))
        )
        work = self._side if caller.cuda_stream == 0 else caller
        if work is not caller:
            work.wait_stream(caller)
        work.wait_event(done)
        with cuda.stream(work):
            yield work
        done.record(work)
        if work is not caller:
            caller.wait_stream(work)

    def _to_gpu(self, name: str, array: Any):
        torch = self._torch
        if isinstance(array, np.ndarray):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about read-only arrays; this one is only read
                array = torch.from_numpy(np.asarray(array, order="C"))
        array = array.detach()
        if not array.is_cuda:
            return array.contiguous().pin_memory().to(self.device, non_blocking=True)
        if array.get_device() != self._index:
            raise UnsupportedError(
                f"Input {name!r} is on {array.device}.",
                f"This engine is on {self.device}.",
                f'Feed {name}.to("{self.device}").',
            )
        array = array.contiguous()
        return array.clone() if array.data_ptr() % _ALIGNMENT else array

    def _execute(self, state: _Context, inputs: dict, work) -> dict:
        self._set_shapes(state, inputs)
        outputs = {}
        for spec in self.outputs:
            shape = state.output_shapes[spec.name]
            if -1 in shape:  # known only after the run: TensorRT asks for memory then
                self._allocator(state, spec.name).reset()
            else:
                outputs[spec.name] = self._empty(shape, spec.dtype, host=spec.name in self._host_outputs)
        self._set_addresses(state, {**inputs, **outputs})
        self._enqueue(state, work)
        for spec in self.outputs:
            if spec.name in state.allocators:
                outputs[spec.name] = self._filled(state.allocators[spec.name], spec.dtype)
            elif spec.name in self._host_outputs:
                work.synchronize()
                outputs[spec.name] = outputs[spec.name].to(self.device)
        return {spec.name: outputs[spec.name] for spec in self.outputs}

    def _empty(self, shape: Shape, dtype: np.dtype | str, host: bool = False):
        return self._torch.empty(shape, dtype=getattr(self._torch, str(dtype)), device="cpu" if host else self.device)

    def _allocate(self, size: int):
        return self._empty((size,), "uint8")

    def _allocator(self, state: _Context, name: str):
        if name not in state.allocators:
            state.allocators[name] = compat.output_allocator(self._trt, self._allocate)
            state.context.set_output_allocator(name, state.allocators[name])
        return state.allocators[name]

    def _filled(self, allocator, dtype: np.dtype | str):
        """The tensor in an allocator's buffer. TensorRT may have asked for more bytes than it filled."""
        if allocator.shape is None or allocator.buffer is None:
            raise CourseError(
                "An output has no shape after the run.",
                "TensorRT did not report the shape that it found.",
                'Read the Python logger "course.tensorrt".',
            )
        like = self._empty((), dtype)
        size = int(np.prod(allocator.shape, dtype=np.int64)) * like.element_size()
        filled = allocator.buffer[:size].view(like.dtype).reshape(allocator.shape)
        allocator.reset()  # the memory belongs to the result now
        return filled

    def _set_shapes(self, state: _Context, inputs: dict) -> None:
        shapes = {name: tuple(tensor.shape) for name, tensor in inputs.items()}
        if shapes == state.shapes:
            return
        state.shapes, reason = None, ""
        with log.capture() as lines:
            taken = all([state.context.set_input_shape(name, shape) for name, shape in shapes.items()])
            try:
                unknown = state.context.infer_shapes()
            except RuntimeError as error:
                unknown, reason = [], str(error)
        if reason or unknown or not taken:
            raise ShapeError(
                "TensorRT cannot work with the shapes "
                + ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
                + ".",
                f"Not specified enough: {', '.join(unknown)}." if unknown else log.errors(lines),
                "Check that the inputs belong together, with one batch size.",
            )
        state.output_shapes = {spec.name: tuple(state.context.get_tensor_shape(spec.name)) for spec in self.outputs}
        state.shapes = shapes

    def _set_addresses(self, state: _Context, tensors: dict) -> None:
        for name, tensor in tensors.items():
            state.context.set_tensor_address(name, tensor.data_ptr() or self._nothing.data_ptr())

    def _enqueue(self, state: _Context, work) -> None:
        with log.capture() as lines:
            good = state.context.execute_async_v3(work.cuda_stream)
        if not good:
            state.shapes = None
            causes = (a.error for a in state.allocators.values() if a.error is not None)
            raise CourseError(
                "TensorRT could not run the engine.",
                str(next(causes, log.errors(lines))),
                'Read the log "course.tensorrt". If memory is short, use a smaller batch.',
            )


def _logged_weights(lines: list[LogLine]) -> int | None:
    """Weights as 8.6 logs them while it reads a plan, in whole MiB; None if it says nothing or 0."""
    for line in lines:
        if match := re.search(r"in engine deserialization: CPU \S+, GPU \+(\d+)", line.text):
            return (int(match[1]) << 20) or None
    return None
