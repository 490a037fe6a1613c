"""What every runtime's engine can do."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from course.engine import container
from course.engine.container import Header
from course.engine.types import Captured, Layer, LogLine, Memory
from course.files import atomic_write


class Engine(abc.ABC):
    """A built model. Close it, or use it in a `with` block, to give its memory back at once."""

    def __init__(self, header: Header, payload: bytes, build_log: tuple[LogLine, ...] = ()):
        self._header, self._payload, self.build_log = header, payload, build_log

    runtime = property(lambda self: self._header.runtime, doc='"tensorrt", "onnxruntime" or "rtx".')
    runtime_version = property(lambda self: self._header.runtime_version, doc="Such as 8.6.0.")
    precision = property(lambda self: self._header.precision, doc="What it was built for.")
    inputs = property(lambda self: self._header.inputs, doc="tuple[TensorSpec, ...]")
    outputs = property(lambda self: self._header.outputs, doc="tuple[TensorSpec, ...]")
    profiles = property(lambda self: self._header.profiles, doc="tuple[Profile, ...]; empty if static.")
    build_seconds = property(lambda self: self._header.build_seconds, doc="Seconds that the build took.")
    onnx_sha256 = property(lambda self: self._header.onnx_sha256, doc="Of the ONNX given to `build`.")
    plan = property(lambda self: self._payload, doc="bytes: what `save_plan` writes.")

    @property
    @abc.abstractmethod
    def device(self) -> str:
        """Where it runs: "cuda:0", "cpu", or "none" for a build-only engine."""

    @abc.abstractmethod
    def run(self, feeds: Mapping[str, Any], *, profile: int = 0, stream: Any = None) -> dict[str, Any]:
        """Run once.

        Args:
            feeds: input name -> array, all NumPy arrays or all torch tensors. CUDA tensors are used in place.
            profile: index of the optimisation profile.
            stream: a `torch.cuda.Stream`; None is torch's current stream. With CUDA tensors the call returns
                before the GPU is done, as every torch operation does.

        Returns: output name -> array, of the kind that was fed. (NumPy has no bfloat16: it becomes float32.)

        Raises:
            ShapeError, DtypeError, ProfileError: an input does not fit; names it, what it is and what it
                should be.
        """

    @abc.abstractmethod
    def capture(self, feeds: Mapping[str, Any], *, profile: int = 0) -> Captured:
        """Record a CUDA graph for the shapes of `feeds`, in its own execution context and buffers.

        Raises:
            UnsupportedError: no GPU, or an output whose shape depends on the data.
        """

    @abc.abstractmethod
    def layers(self) -> tuple[Layer, ...]:
        """The layers that really run, after fusion."""

    @abc.abstractmethod
    def memory(self) -> Memory:
        """What the engine needs, in bytes."""

    @abc.abstractmethod
    def close(self) -> None:
        """Give the memory back. The engine cannot run afterwards; calling it twice is fine."""

    def save(self, path: str | Path) -> Path:
        """Write the engine with its description. `load` takes it on this kind of GPU and runtime version."""
        return container.write(path, self._header, self._payload)

    def save_plan(self, path: str | Path) -> Path:
        """Write only what the runtime reads (a TensorRT plan for trtexec or C++; ONNX for ONNX Runtime)."""
        return atomic_write(path, self._payload)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        def words(specs):
            return ", ".join(f"{s.name} {s.dtype} {list(s.shape)}" for s in specs)

        return (
            f"<Engine {self.runtime} {self.runtime_version} on {self.device}, {self.precision}: "
            f"{words(self.inputs)} -> {words(self.outputs)}>"
        )
