"""What one run of `course first` found: plain values, which the report tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from course.bench import Comparison, Samples
    from course.data.cifar10 import Images
    from course.engine import Layer
    from course.export import Parity


@dataclass(frozen=True)
class Contestant:
    """One way to run the model. PyTorch has no layers, build time or memory of an engine: those stay empty.

    `predictions` int64 [N]: the class it gave each image.
    """

    label: str
    predictions: np.ndarray
    runtime: str = ""
    version: str = ""
    device: str = "cpu"
    build_seconds: float = 0.0
    timing_cache: bool = False  # built with kernel timings of an earlier build
    plan_bytes: int = 0
    weights_bytes: int | None = None
    activation_bytes: int | None = None
    layers: Sequence[Layer] = ()


@dataclass(frozen=True)
class Speed:
    """Interleaved timings at one batch size: by label, each contestant (a) against PyTorch eager (b).

    `others`: the part of the machine's CPU time, 0 to 1, that other programs used meanwhile.
    """

    batch: int
    comparisons: Mapping[str, Comparison]
    others: float = 0.0

    @property
    def samples(self) -> list[Samples]:
        """Of every contestant, PyTorch eager last."""
        pairs = list(self.comparisons.values())
        return [*(pair.a for pair in pairs), pairs[0].b]


@dataclass(frozen=True)
class Onnx:
    """The exported graph. `nodes` are its operators in order."""

    bytes: int
    opset: int
    exporter: str
    seconds: float
    cached: bool
    nodes: Sequence[Layer]


@dataclass(frozen=True)
class Conversion:
    """Everything that one run of `course first` measured. Times are in seconds unless named otherwise."""

    model: str
    parameters: int
    parameter_bytes: int
    modules: int
    onnx: Onnx
    parity: Parity
    images: Images
    images_source: str  # in words
    why_cpu: str  # in words; "" on a GPU
    contestants: Sequence[Contestant]  # the main engine first, PyTorch eager last
    speeds: Sequence[Speed]
    rtx: Contestant | None  # what TensorRT-RTX makes of the graph on a machine without GPU
    rtx_note: str  # why it is not there
    machine: dict
    seconds: dict[str, float]  # by step

    @property
    def engine(self) -> Contestant:
        return self.contestants[0]

    @property
    def pytorch(self) -> Contestant:
        return self.contestants[-1]

    def correct(self, contestant: Contestant) -> int:
        return int((contestant.predictions == self.images.labels).sum())

    def agreeing(self, contestant: Contestant) -> int:
        return int((contestant.predictions == self.pytorch.predictions).sum())
