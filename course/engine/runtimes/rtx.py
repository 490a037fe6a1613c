"""TensorRT-RTX on a CPU: the real ONNX parser, profile checks and fusion of the TensorRT family; no running.

It builds an engine for RTX cards and writes every fused kernel into its log; a GPU is needed only to run it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from course.engine import log
from course.engine.base import Engine
from course.engine.config import BuildConfig
from course.engine.container import Header
from course.engine.trt import build as trt_build
from course.engine.types import Captured, Layer, LogLine, Memory, TensorInfo
from course.errors import BuildError, UnsupportedError

_PRODUCT = "TensorRT-RTX"
_LAYER = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>.*?), Inputs: \[(?P<inputs>.*?)\], "
    r"Constants: \[.*\], Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<tactic>.*?), "
    r"StreamId: .*?Metadata: (?P<metadata>.*)$"
)
_TENSOR = re.compile(
    r"\{ Name: (?P<name>.*?), (?:Location: \w+, )?Dimensions: \[(?P<dims>[^\]]*)\].*?"
    r"Datatype: (?P<dtype>\w+)(?:, Format: (?P<format>.*?))? \}"
)
_DTYPES = {
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Int8": "int8",
    "Int32": "int32",
    "Int64": "int64",
    "Bool": "bool",
    "UInt8": "uint8",
    "FP8": "float8",
}


def why_not() -> str | None:
    """None if TensorRT-RTX can be used here, else the reason."""
    try:
        import tensorrt_rtx  # noqa: F401
    except ModuleNotFoundError as error:
        return f"It is not installed (`pip install tensorrt_rtx`). [{error}]"
    except Exception as error:  # a missing or broken library can fail in any way
        return f"It is installed, but does not load: {error}"
    return None


def build(onnx, config: BuildConfig) -> Engine:
    """Build on the CPU. See `course.engine.build`."""
    import tensorrt_rtx as trt

    with log.capture() as notes:
        if config.timing_cache is not None:
            log.record("INFO", "TensorRT-RTX keeps no timing cache: it tunes where the engine runs.")
    built = trt_build.build_plan(trt, _PRODUCT, onnx, dataclasses.replace(config, timing_cache=None))
    header = Header(
        "rtx",
        trt.__version__,
        config.precision,
        built.inputs,
        built.outputs,
        config.profiles,
        built.model.sha256,
        built.seconds,
        _logged_bytes(built.log, "Total Weights Memory"),
    )
    return RtxEngine(header, built.plan, (*notes, *built.log))


def load(path, header: Header, payload: bytes) -> Engine:
    """Refuses: an RTX engine runs on RTX cards only."""
    raise UnsupportedError(
        f"{path} is a TensorRT-RTX engine and cannot be loaded here.",
        "The course uses TensorRT-RTX to build and to look inside, not to run.",
        'Build the ONNX model again with runtime="auto" to run it on this machine.',
    )


def network_layers(onnx) -> tuple[Layer, ...]:
    """The parsed network. See `course.engine.network_layers`."""
    import tensorrt_rtx as trt

    return trt_build.parsed_layers(trt, _PRODUCT, onnx)


class RtxEngine(Engine):
    """A build-only engine."""

    device = "none"

    def run(self, feeds: Mapping[str, Any], *, profile: int = 0, stream: Any = None) -> dict[str, Any]:
        raise _build_only("run")

    def capture(self, feeds: Mapping[str, Any], *, profile: int = 0) -> Captured:
        raise _build_only("record a CUDA graph")

    def layers(self) -> tuple[Layer, ...]:
        """The kernels, from the listing that the build wrote into its log."""
        for line in self.build_log:
            if line.text.startswith("Layers:\n"):
                rows = [_layer(row) for row in line.text.splitlines() if row.startswith("Name: ")]
                return tuple(row for row in rows if row.inputs or row.outputs)  # no stream signals
        raise BuildError(
            "TensorRT-RTX did not list the layers of this engine.",
            "Its log has no list of layers; this version writes another kind of log.",
            "Use the TensorRT-RTX version that pyproject.toml names.",
        )

    def memory(self) -> Memory:
        return Memory(
            self._header.weights_bytes, _logged_bytes(self.build_log, "Total Activation Memory"), len(self._payload)
        )

    def close(self) -> None:
        """Nothing to give back."""


def _build_only(what: str) -> UnsupportedError:
    return UnsupportedError(
        f"A TensorRT-RTX engine cannot {what} here.",
        "The course uses TensorRT-RTX on the CPU, to build and to look inside.",
        'Build with runtime="auto" to run the model on this machine.',
    )


def _logged_bytes(lines: tuple[LogLine, ...], label: str) -> int | None:
    found = [match for line in lines if (match := re.match(rf"{label}: (\d+) bytes", line.text))]
    return int(found[-1][1]) if found else None


def _layer(row: str) -> Layer:
    match = _LAYER.match(row)
    if match is None:
        return Layer(row.split(", LayerType")[0].removeprefix("Name: "), "")
    return Layer(
        match["name"],
        match["kind"],
        _tensors(match["inputs"]),
        _tensors(match["outputs"]),
        tuple(trt_build.ONNX_LAYER.findall(match["metadata"])),
        match["tactic"].strip(),
    )


def _tensors(text: str) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(
            m["name"],
            _DTYPES.get(m["dtype"], m["dtype"].lower()),
            tuple(int(dim) for dim in m["dims"].split(",") if dim.strip()),
            m["format"] or "",
        )
        for m in _TENSOR.finditer(text)
    )
