"""The words: what a tensor, a layer, a log line is, whatever the runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np

if TYPE_CHECKING:
    import onnx

Shape = tuple[int, ...]
OnnxSource = Union[str, Path, bytes, "onnx.ModelProto"]


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
class BuildProgress:
    """Where a build stands. A parent phase contains this one; `steps` is None where nobody can tell."""

    phase: str
    step: int
    steps: int | None
    seconds: float
    parent: str | None = None


@dataclass(frozen=True)
class Captured:
    """A CUDA graph. Copy data into `inputs`, call `replay()`, read `outputs`: torch tensors on the GPU."""

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    replay: Callable[[], None] = field(repr=False)
