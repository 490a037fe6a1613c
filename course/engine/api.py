"""The words a notebook needs: build an engine from ONNX, run it, look inside it, keep it.

    profile = Profile.batch("model.onnx", 1, 8, 32)
    engine = build("model.onnx", BuildConfig(precision="fp16", profiles=(profile,)))
    logits = engine.run({"image": pixels})["logits"]

The same lines run on TensorRT (a GPU) and on ONNX Runtime (a CPU). `runtime="rtx"` builds with TensorRT-RTX
on a CPU and shows what its parser and its fusion make of the model, but cannot run it.
"""

from __future__ import annotations

from pathlib import Path

from course.engine import container, registry
from course.engine.base import Engine
from course.engine.config import BuildConfig
from course.engine.types import Layer, OnnxSource
from course.errors import UnsupportedError


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
    return {name: registry.module(name).why_not() for name in registry.names()}


def _runtime(name: str, note: str = ""):
    known = registry.names()
    if name == "auto":
        return registry.module("onnxruntime" if registry.module("tensorrt").why_not() else "tensorrt")
    if name not in known:
        raise UnsupportedError(
            f"There is no runtime {name!r}.", f"The course knows {', '.join(known)}.", 'Use one of these, or "auto".'
        )
    if reason := registry.module(name).why_not():
        raise UnsupportedError(
            f"The runtime {name!r} does not work here. {note}".rstrip(),
            reason,
            'Run `course doctor`, or use runtime="auto".',
        )
    return registry.module(name)
