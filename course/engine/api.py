"""The words a notebook needs: build an engine from ONNX, run it, look inside it, keep it.

    profile = Profile.batch("model.onnx", 1, 8, 32)
    engine = build("model.onnx", BuildConfig(precision="fp16", profiles=(profile,)))
    logits = engine.run({"image": pixels})["logits"]

The same lines run on TensorRT (a GPU) and on ONNX Runtime (a CPU). `runtime="rtx"` builds with TensorRT-RTX
on a CPU and shows what its parser and its fusion make of the model, but cannot run it.
"""
from __future__ import annotations

import abc
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union

import numpy as np

from course.errors import BuildError, UnsupportedError

if TYPE_CHECKING:
    import onnx

    from course.engine.container import Header

Shape = tuple[int, ...]
Precision = Literal["fp32", "tf32", "fp16", "int8"]
PRECISIONS = ("fp32", "tf32", "fp16", "int8")
RUNTIMES = ("tensorrt", "onnxruntime", "rtx")
OnnxSource = Union[str, Path, bytes, "onnx.ModelProto"]


@dataclass(frozen=True)
class Profile:
    """The shapes that an engine accepts: the smallest, the usual and the largest of each dynamic input.

    TensorRT tunes its kernels for the usual one and refuses shapes outside the range.
    Inputs without a dynamic dimension need no entry.

    Args:
        shapes: input name -> (min, opt, max).

    Raises:
        ProfileError: an entry is not three shapes of whole numbers.
    """

    shapes: Mapping[str, tuple[Shape, Shape, Shape]]

    def __post_init__(self) -> None:
        from course.engine.profiles import tidy

        object.__setattr__(self, "shapes", tidy(self.shapes))

    @staticmethod
    def batch(onnx: OnnxSource, min: int, opt: int, max: int) -> Profile:
        """Profile in which only the batch varies: dimension 0 of every input that leaves it open.

        Raises:
            ProfileError: the model has no open batch dimension, or leaves another dimension open too.
        """
        from course.engine.profiles import batch_profile

        return batch_profile(onnx, min, opt, max)


@dataclass(frozen=True)
class BuildProgress:
    """Where a build stands. A parent phase contains this one; `steps` is None where nobody can tell."""

    phase: str
    step: int
    steps: int | None
    seconds: float
    parent: str | None = None


@dataclass(frozen=True)
class BuildConfig:
    """How to build an engine.

    Args:
        precision: "fp32" (TF32 off), "tf32", "fp16" (may keep single layers in FP32), "int8" (from a
            calibrator where the runtime has implicit INT8, else from Q/DQ nodes in the model; other layers
            may use FP16 where the runtime chooses precisions, and stay as written elsewhere).
        profiles: one or more; needed as soon as an input has a dynamic dimension.
        optimization_level: 0 (quick build) to 5 (long search); None is the runtime's default.
        timing_cache: file that remembers measured kernels between builds; ours, not one of trtexec's.
        calibrator: a TensorRT `IInt8Calibrator`; its memory should come from torch.
        tactic_sources: kernel libraries TensorRT may use, such as {"CUBLAS", "CUDNN"}; empty is none, None is
            its default without the libraries that do not work on this machine.
        workspace_bytes: scratch memory that a kernel may ask for.
        keep_outputs: inner tensors to return as well; a kept tensor cannot be fused away.
        progress: called during the build; return False to cancel. TensorRT 8.6 cannot stop in the middle:
            there the build is over first, also after Ctrl-C.
        runtime: "auto" is TensorRT where it works, else ONNX Runtime.

    Raises:
        BuildError: a value is out of range.
    """

    precision: Precision = "fp32"
    profiles: tuple[Profile, ...] = ()
    optimization_level: int | None = None
    timing_cache: Path | None = None
    calibrator: object | None = None
    tactic_sources: frozenset[str] | None = None
    workspace_bytes: int = 1 << 30
    keep_outputs: tuple[str, ...] = ()
    progress: Callable[[BuildProgress], bool] | None = None
    runtime: Literal["auto", "tensorrt", "onnxruntime", "rtx"] = "auto"

    def __post_init__(self) -> None:
        tidy = {
            "profiles": _several(self.profiles, Profile),
            "keep_outputs": _several(self.keep_outputs, str),
            "timing_cache": None if self.timing_cache is None else Path(self.timing_cache),
            "tactic_sources": None if self.tactic_sources is None else frozenset(self.tactic_sources),
        }
        for name, value in tidy.items():
            object.__setattr__(self, name, value)
        checks = {
            "precision": (self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
            "runtime": (self.runtime in ("auto", *RUNTIMES), f"one of auto, {', '.join(RUNTIMES)}"),
            "optimization_level": (self.optimization_level in (None, *range(6)), "None or 0, 1, 2, 3, 4, 5"),
            "workspace_bytes": (self.workspace_bytes >= 0, "a number of bytes, 0 or more"),
            "profiles": (all(isinstance(p, Profile) for p in self.profiles), "a tuple of Profile"),
        }
        for name, (good, wanted) in checks.items():
            if not good:
                raise BuildError(f"BuildConfig({name}={getattr(self, name)!r}) is not possible.",
                                 f"It must be {wanted}.", f"Change {name} and build again.")


@dataclass(frozen=True)
class TensorSpec:
    """An input or output.

    `dtype` is a NumPy dtype or "bfloat16"; -1 in `shape` is a dynamic dimension. `dims` has the ONNX name of each
    dimension, "" without one (outputs: empty): dimensions of one name must have one size.
    """

    name: str
    dtype: np.dtype | str
    shape: Shape
    dims: tuple[str, ...] = ()


@dataclass(frozen=True)
class TensorInfo:
    """A tensor between layers, as far as the runtime tells: dtype "" and shape None are unknown."""

    name: str
    dtype: str = ""
    shape: Shape | None = None
    format: str = ""


@dataclass(frozen=True)
class Layer:
    """One layer: of the network before fusion, or of the engine after it (then about one kernel).

    `precision` is the dtype of its weights, else of its first output; "" where the runtime does not tell.
    """

    name: str
    kind: str
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()
    onnx_nodes: tuple[str, ...] = ()
    tactic: str = ""
    precision: str = ""


@dataclass(frozen=True)
class Memory:
    """Bytes. None where the runtime does not say."""

    weights_bytes: int | None
    activation_bytes: int | None
    plan_bytes: int


@dataclass(frozen=True)
class LogLine:
    """One line of a runtime's log. Severity: INTERNAL_ERROR, ERROR, WARNING, INFO or VERBOSE."""

    severity: str
    text: str


@dataclass(frozen=True)
class Captured:
    """A CUDA graph. Copy data into `inputs`, call `replay()`, read `outputs`: torch tensors on the GPU."""

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    replay: Callable[[], None] = field(repr=False)


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
        from course.engine import container

        return container.write(path, self._header, self._payload)

    def save_plan(self, path: str | Path) -> Path:
        """Write only what the runtime reads (a TensorRT plan for trtexec or C++; ONNX for ONNX Runtime)."""
        from course.files import atomic_write

        return atomic_write(path, self._payload)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        def words(specs):
            return ", ".join(f"{s.name} {s.dtype} {list(s.shape)}" for s in specs)

        return (f"<Engine {self.runtime} {self.runtime_version} on {self.device}, {self.precision}: "
                f"{words(self.inputs)} -> {words(self.outputs)}>")


def _several(value: Any, kind: type) -> tuple:
    return (value,) if isinstance(value, kind) else tuple(value)


def build(onnx: OnnxSource, config: BuildConfig = BuildConfig()) -> Engine:
    """Build an engine from an ONNX model: a path, the file's bytes, or a ModelProto.

    Raises:
        MissingFileError, ParseError: the model cannot be read, or a node in it cannot be taken.
        ProfileError: a profile is missing or does not fit the model.
        BuildError: the build failed or was cancelled.
        UnsupportedError: this runtime cannot do what `config` asks.
    """
    return _runtime(config.runtime).build(onnx, config)


def load(path: str | Path, *, onnx: OnnxSource | None = None) -> Engine:
    """Read an engine that `Engine.save` wrote. An engine is program code: load only files that you trust.

    Args:
        onnx: the model it should come from; its hash is compared.

    Raises:
        MissingFileError, DamagedFileError: no such file, or not a whole engine file.
        EngineMismatchError: built for another TensorRT, another GPU architecture or another model.
        UnsupportedError: its runtime cannot run on this machine.
    """
    from course.engine import container

    header, payload = container.read(path)
    if onnx is not None:
        from course.engine import graph

        container.require_same_model(path, header, graph.read(onnx))
    return _runtime(header.runtime, f"{path} was built for it.").load(path, header, payload)


def network_layers(onnx: OnnxSource, runtime: str = "auto") -> tuple[Layer, ...]:
    """The layers before any fusion: of TensorRT's parsed network, or the ONNX nodes on ONNX Runtime.

    Raises: as `build` does while it reads and parses.
    """
    return _runtime(runtime).network_layers(onnx)


def available_runtimes() -> dict[str, str | None]:
    """Runtime name -> None if it works here, else the reason why not."""
    return {name: _module(name).why_not() for name in RUNTIMES}


def _module(name: str):
    return importlib.import_module(f"course.engine.runtimes.{name}")


def _runtime(name: str, note: str = ""):
    if name == "auto":
        return _module("onnxruntime" if _module("tensorrt").why_not() else "tensorrt")
    if name not in RUNTIMES:
        raise UnsupportedError(f"There is no runtime {name!r}.", f"The course knows {', '.join(RUNTIMES)}.",
                               "Use one of these, or \"auto\".")
    if reason := _module(name).why_not():
        raise UnsupportedError(f"The runtime {name!r} does not work here. {note}".rstrip(), reason,
                               "Run `course doctor`, or use runtime=\"auto\".")
    return _module(name)
