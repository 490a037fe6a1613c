"""One run of a TensorRT engine by the raw API: buffers on both sides, a context, a stream.

`cudart` is `cuda.bindings.runtime` or the stand-in of `course.serving.here`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from course.engine import log
from course.engine.trt import features
from course.serving.words import ServingError


class CaptureError(ServingError):
    """A run of this engine cannot be recorded as a CUDA graph."""


def checked(cudart: Any, answer: tuple, doing: str) -> Any:
    """What a call of CUDA gave, without its error: nothing, one value, or a tuple.

    Raises:
        ServingError: the call gave an error; names it in CUDA's own words.
    """
    error, *values = answer
    if int(error):
        raise ServingError(
            f"{doing} failed.",
            f"CUDA error {int(error)}, {text(cudart.cudaGetErrorName(error))}: {text(cudart.cudaGetErrorString(error))}.",
            "Look at the calls before it: an error of work that was queued shows only at a later call.",
        )
    return values[0] if len(values) == 1 else tuple(values) or None


def text(answer: tuple) -> str:
    return bytes(answer[1]).decode()


@dataclass(frozen=True)
class Spec:
    """A tensor of an engine: shape with -1 for what is open, and its NumPy type."""

    name: str
    is_input: bool
    shape: tuple[int, ...]
    dtype: np.dtype


def specs(engine: Any) -> tuple[Spec, ...]:
    """Inputs and outputs of an `ICudaEngine`.

    Raises:
        ServingError: a type that NumPy does not have.
    """
    found = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        kind = features.DTYPES.get(engine.get_tensor_dtype(name).name, "")
        if kind not in np.sctypeDict:
            raise ServingError(
                f"{name!r} is of type {engine.get_tensor_dtype(name).name}.",
                "NumPy has no such type.",
                "Let the network end in FP32 or FP16.",
            )
        is_input = engine.get_tensor_mode(name).name == "INPUT"
        found.append(Spec(name, is_input, tuple(engine.get_tensor_shape(name)), np.dtype(kind)))
    return tuple(found)


def batch_range(engine: Any, found: Sequence[Spec], profile: int) -> tuple[int, int]:
    """Smallest and largest batch of a profile."""
    first = next(spec for spec in found if spec.is_input)
    if first.shape[0] >= 0:
        return first.shape[0], first.shape[0]
    low, _, high = engine.get_tensor_profile_shape(first.name, profile)
    return tuple(low)[0], tuple(high)[0]


class Buffer:
    """A tensor twice: `host`, a NumPy array in page-locked memory, and `device`, an address on the GPU."""

    def __init__(self, cudart: Any, shape: Sequence[int], dtype: np.dtype, is_input: bool):
        self._cudart, self.is_input = cudart, is_input
        self.bytes = max(int(np.prod(shape)) * dtype.itemsize, 1)
        self._row = self.bytes // shape[0] if shape else 0
        self.device = int(checked(cudart, cudart.cudaMalloc(self.bytes), f"Taking {self.bytes} bytes on the GPU"))
        self._host = int(checked(cudart, cudart.cudaMallocHost(self.bytes), f"Page-locking {self.bytes} bytes"))
        memory = (ctypes.c_uint8 * self.bytes).from_address(self._host)
        self.host = np.frombuffer(memory, dtype, int(np.prod(shape))).reshape(shape)
        self.host[...] = 0

    def copy(self, stream: Any, rows: int) -> None:
        """Queue the copy of an input's first rows to the GPU, of an output's from it."""
        size = self._row * rows or self.bytes
        kinds = self._cudart.cudaMemcpyKind
        if self.is_input:
            sides = self.device, self._host, size, kinds.cudaMemcpyHostToDevice
        else:
            sides = self._host, self.device, size, kinds.cudaMemcpyDeviceToHost
        checked(self._cudart, self._cudart.cudaMemcpyAsync(*sides, stream), "Queueing a copy")

    def close(self) -> None:
        self._cudart.cudaFree(self.device)
        self._cudart.cudaFreeHost(self._host)


class Run:
    """A context with its stream and buffers for up to `size` rows: what is enqueued, with a graph or without one.

    context: an `IExecutionContext`; stream: a `cudaStream_t` of its own; buffers: tensor -> Buffer.
    """

    def __init__(self, cudart: Any, engine: Any, size: int, profile: int = 0):
        self._cudart, self._specs, self.buffers, self.stream = cudart, specs(engine), {}, None
        with log.capture() as lines:
            self.context = engine.create_execution_context()
        if self.context is None:
            raise ServingError(
                "There is no execution context.", log.errors(lines), "Free GPU memory, or use fewer graphs."
            )
        self.stream = checked(cudart, cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking), "Making a stream")
        try:
            if profile:
                self._require(self.context.set_optimization_profile_async(profile, int(self.stream)), "profile", lines)
                self.wait()
            self.set_size(size)
            for spec in self._specs:
                shape = tuple(self.context.get_tensor_shape(spec.name))
                if -1 in shape:
                    raise CaptureError(
                        f"The shape of {spec.name!r} is known only after the run.",
                        "It depends on the data. A graph has fixed shapes.",
                        "End the model before the layer that makes it, or run without a graph.",
                    )
                self.buffers[spec.name] = buffer = Buffer(cudart, shape, spec.dtype, spec.is_input)
                self.context.set_tensor_address(spec.name, buffer.device)
        except BaseException:
            self.close()
            raise

    def set_size(self, size: int) -> None:
        """Rows of the next run, at most those it was made for. TensorRT then sets itself up anew in that run."""
        with log.capture() as lines:
            for spec in self._specs:
                if spec.is_input and spec.shape[:1] != (size,):
                    good = self.context.set_input_shape(spec.name, (size, *spec.shape[1:]))
                    self._require(good, f"batch size {size}", lines)
        self._rows = size

    def enqueue(self, copies: bool = True) -> None:
        """Inputs to the GPU, the engine, outputs back: on the stream, which somebody else waits for.

        Args:
            copies: without them the engine alone.

        Raises:
            CaptureError: the engine refused while the stream records.
            ServingError: it refused.
        """
        for buffer in self.buffers.values() if copies else ():
            if buffer.is_input:
                buffer.copy(self.stream, self._rows)
        with log.capture() as lines:
            good = self.context.execute_async_v3(int(self.stream))
        if not good and int(self._cudart.cudaStreamIsCapturing(self.stream)[1]):
            raise CaptureError(
                "The run cannot be recorded as a CUDA graph.",
                self._why(lines),
                "Run once before the capture. If it still fails, go on without a graph: some layer needs the CPU.",
            )
        self._require(good, "these inputs", lines)
        for buffer in self.buffers.values() if copies else ():
            if not buffer.is_input:
                buffer.copy(self.stream, self._rows)

    def wait(self) -> None:
        checked(self._cudart, self._cudart.cudaStreamSynchronize(self.stream), "The run")

    def hosts(self, inputs: bool) -> dict[str, np.ndarray]:
        return {spec.name: self.buffers[spec.name].host for spec in self._specs if spec.is_input == inputs}

    def close(self) -> None:
        for buffer in self.buffers.values():
            buffer.close()
        self.buffers.clear()
        if self.stream is not None:
            self._cudart.cudaStreamDestroy(self.stream)
            self.stream = None

    def _require(self, good: bool, what: str, lines: list) -> None:
        if not good:
            raise ServingError(
                f"The engine does not take {what}.", self._why(lines), "Stay inside its optimisation profile."
            )

    def _why(self, lines: list) -> str:
        return log.errors(lines) if lines else getattr(self.context, "refusal", "") or "Nothing was logged."
