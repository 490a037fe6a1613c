"""The kinds of check as data: what each measures and which part of the points a measured value earns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Union


@dataclass(frozen=True)
class Ramp:
    """Which part of the points a measured value earns: none at `zero`, all at `full`, linear between.

    `zero` above `full` means that less is better (an error). `dead_band`, in the unit of the value, is what
    noise may cost: the value is moved in the learner's favour to the end of its confidence interval, but by
    no more than that.
    """

    zero: float
    full: float
    dead_band: float = 0.0

    def share(self, value: float, low: float | None = None, high: float | None = None) -> float:
        """0 to 1; NaN earns 0. `low`, `high`: the interval of `value`; without one it is taken as it is."""
        if math.isnan(value):
            return 0.0
        sign = 1 if self.full > self.zero else -1
        best = high if sign > 0 else low
        room = 0.0 if best is None or math.isnan(best) else min(max(0.0, sign * (best - value)), self.dead_band)
        share = (value + sign * room - self.zero) / (self.full - self.zero)
        return min(1.0, max(0.0, share))

    def text(self, unit: str = "", scale: float = 1.0) -> str:
        word = "at least" if self.full > self.zero else "at most"
        way = "up from" if self.full > self.zero else "below"
        return f"all points for {word} {self.full * scale:.4g}{unit}, some {way} {self.zero * scale:.4g}{unit}"


@dataclass(frozen=True)
class DynamicBatch:
    """The graph has one float32 input with an open batch dimension, and runs at several batch sizes.

    sample: shape of one sample. batches: sizes that are tried; one more is drawn between 2 and `largest`.
    max_error: largest relative error of the answers (see `Accuracy`) at any of them.
    """

    sample: tuple[int, ...] = (3, 224, 224)
    batches: tuple[int, ...] = (1, 5)
    largest: int = 12
    max_error: float = 0.1
    runtime: str = "onnxruntime"


@dataclass(frozen=True)
class Accuracy:
    """The engine gives the reference's answers on labelled images that nobody saw before.

    The worst of the three ramps decides.

    agreement: part of the images whose top class is the reference's.
    drop: by how much fewer images it gets right than the reference (0.01 is one point of accuracy).
    error: root mean square of the logits' difference, relative to that of the reference's logits around their
        mean. Another network may agree on the class; it never has the same logits.
    images: how many, in self-check; hidden_images: in grading.
    min_float16: least part of the engine's layers that must put out float16 (TensorRT only); 0 asks nothing.
    """

    precision: str
    agreement: Ramp
    drop: Ramp
    error: Ramp
    images: int = 64
    hidden_images: int = 192
    batch: int = 16
    runtime: str = "auto"
    min_float16: float = 0.0


@dataclass(frozen=True)
class Speed:
    """How many times as fast as the reference in PyTorch eager the engine is; the worst batch size decides.

    sizes: sides of the square images in px, for a network that takes any; the worst decides. A detector is
        compared with PyTorch in the same form: raw output with raw output, decoded boxes with decoded boxes.

    Both run in one process, in turns: on a GPU timed by CUDA events, on a CPU by CPU time on one thread each
    (there a crowded machine would otherwise decide). A time counts only if every answer of the timed runs is
    right: relative error (as in `Accuracy`) at most `max_error` and the same class for at least
    `min_agreement` of the images.

    ratio: one ramp for all batch sizes, or one for each of them.
    rounds, max_seconds: of timing, per batch size.
    """

    precision: str
    batches: tuple[int, ...]
    ratio: Ramp | Mapping[int, Ramp]
    max_error: float = 0.1
    min_agreement: float = 0.9
    rounds: int = 30
    max_seconds: float = 10.0
    warmup_s: float = 0.3
    runtime: str = "auto"
    sizes: tuple[int, ...] = ()

    def ramp(self, batch: int) -> Ramp:
        return self.ratio if isinstance(self.ratio, Ramp) else self.ratio[batch]

    def text(self) -> str:
        if isinstance(self.ratio, Ramp):
            return self.ratio.text()
        return "; ".join(f"batch {batch}: {self.ramp(batch).text()}" for batch in self.batches)


@dataclass(frozen=True)
class DynamicShape:
    """The graph of a detector has one float32 input [batch, 3, height, width], open but for the channels, and
    runs at several shapes.

    shapes: (batch, height, width) that are tried, in px. One more is drawn: a batch from 2 to `largest`, a
        height and another width, multiples of `step` from `lowest` to `highest` px.
    max_error: largest relative error of the answers (see `Detection`) at any of them.
    """

    shapes: tuple[tuple[int, int, int], ...] = ((1, 320, 320), (2, 416, 416))
    largest: int = 5
    lowest: int = 192
    highest: int = 416
    step: int = 32
    max_error: float = 0.1
    runtime: str = "onnxruntime"


@dataclass(frozen=True)
class Detection:
    """The engine finds what the reference finds, on scenes that nobody saw before. The worst ramp at the worst
    size decides.

    drop: by how much its mAP (COCO, IoU 0.5 to 0.95) is lower than the reference's on the same scenes (0.005
        is half a point). Non-maximum suppression is the grader's own, the same for both.
    error: the larger of two numbers, over all boxes before suppression: root mean square of the coordinates'
        difference relative to that of the reference's widths and heights, and of the scores' difference
        relative to that of the reference's scores around their mean. Another detector may have the same mAP;
        it never has the same boxes and scores.
    sizes: sides of the square scenes in px. scenes, hidden_scenes: how many of each size, in self-check and in
        grading; multiples of `batch`.
    min_float16: as in `Accuracy`.
    least_map: what the reference itself must reach, else the comparison would show nothing.
    """

    precision: str
    drop: Ramp
    error: Ramp
    sizes: tuple[int, ...] = (320, 416)
    scenes: int = 64
    hidden_scenes: int = 128
    batch: int = 8
    runtime: str = "auto"
    min_float16: float = 0.0
    least_map: float = 0.5


Params = Union[DynamicBatch, Accuracy, Speed, DynamicShape, Detection]
KINDS = {
    DynamicBatch: "onnx_dynamic_batch",
    Accuracy: "accuracy",
    Speed: "speed",
    DynamicShape: "onnx_dynamic_shape",
    Detection: "detection",
}
TASKS: dict[str, frozenset[type]] = {
    "classifier": frozenset((DynamicBatch, Accuracy, Speed)),
    "detector": frozenset((DynamicShape, Detection, Speed)),
}
"""What a network is for, and the kinds of check that can judge it."""
