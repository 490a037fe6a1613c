"""A detector's answers: in which form they come, and how far they are from the reference's.

A file may end before the decoding (one output, raw) or after it (two outputs, boxes and scores). Both become boxes
and scores before anything is compared, so that both are judged alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autograder.rejected import Rejected
from course.data.metrics import mean_average_precision
from course.data.postprocess import BINS, STRIDES, decode_numpy
from course.data.scenes import CLASSES, Scene

if TYPE_CHECKING:
    from course.models.suppression import Detections

CHANNELS = 4 * BINS + len(CLASSES)
"""Of the raw output, for each anchor point: the logits of four distances, then of the classes."""
GROUPS = 8
FORMS = {
    "raw": "raw output; PyTorch eager gave raw output, too: no decoding on either side",
    "decoded": "decoded boxes; PyTorch eager decoded them, too",
}
_WANTED = (
    f"either one output [batch, {CHANNELS}, A] (raw), or boxes [batch, A, 4] and scores [batch, A, {len(CLASSES)}]"
)


@dataclass(frozen=True)
class Answer:
    """boxes: float32 [N, A, 4], x1 y1 x2 y2 in pixels of the input; scores: float32 [N, A, 20], 0 to 1."""

    boxes: np.ndarray
    scores: np.ndarray

    def __getitem__(self, part: slice) -> Answer:
        """The answer for some of the images."""
        return Answer(self.boxes[part], self.scores[part])

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.boxes).all() and np.isfinite(self.scores).all())


@dataclass(frozen=True)
class Error:
    """Root mean squares of the differences: boxes relative to the reference's widths and heights, scores to the
    reference's scores around their mean. Infinite for another shape, NaN or infinity."""

    boxes: float
    scores: float

    @property
    def worst(self) -> float:
        return max(self.boxes, self.scores)

    def __str__(self) -> str:
        boxes, scores = (
            f"{100 * part:.2g} %" if part >= 1e-4 else "below 0.01 %" for part in (self.boxes, self.scores)
        )
        return f"boxes {boxes}, scores {scores}"


def form_of(facts: Mapping) -> str:
    """ "raw" or "decoded": what the file's outputs say (`facts` of `onnx_guard`).

    Raises:
        Rejected: it is neither.
    """
    if "NonMaxSuppression" in facts["operators"]:
        raise Rejected(
            "Non-maximum suppression is inside the graph.",
            "The grader suppresses boxes itself, in the same way for everyone.",
            "Export course.models.yolo() itself, without WithNMS.",
        )
    if len(facts["outputs"]) not in (1, 2):
        raise Rejected(
            f"The file has {len(facts['outputs'])} outputs: {', '.join(facts['outputs'])[:200]}.",
            f"A detector has {_WANTED}.",
            "Export course.models.yolo() with decode=True or decode=False, and nothing more.",
        )
    return ("raw", "decoded")[len(facts["outputs"]) - 1]


def anchors(size: tuple[int, int]) -> int:
    """Boxes before suppression of an input of (height, width) pixels."""
    return sum((size[0] // stride) * (size[1] // stride) for stride in STRIDES)


def read(outputs: Sequence[np.ndarray], images: int, size: tuple[int, int]) -> Answer:
    """The answer in a run's outputs, which are known by their shapes: their names and order do not matter.

    Args:
        outputs: of a run on `images` images of `size` (height, width) pixels.

    Raises:
        Rejected: the shapes are those of no detector's output; says which one was wanted.
    """
    count, shapes = anchors(size), [tuple(array.shape) for array in outputs]
    with np.errstate(over="ignore"):
        outputs = [np.asarray(array, np.float32) for array in outputs]
    if shapes == [(images, CHANNELS, count)]:
        (raw,) = outputs
        if not np.isfinite(raw).all():  # decoding would hide some of them
            raw = np.full_like(raw, np.nan)
        return Answer(*decode_numpy(raw, size))
    by_shape = dict(zip(shapes, outputs))
    boxes, scores = (images, count, 4), (images, count, len(CLASSES))
    if len(outputs) == 2 and set(shapes) == {boxes, scores}:
        return Answer(by_shape[boxes], by_shape[scores])
    shown = " and ".join(str(list(shape)) for shape in shapes) or "nothing"
    raise Rejected(
        f"For {images} images of {size[0]}x{size[1]} px the file answers {shown}.",
        f"Wanted is {_WANTED}, with A = {count} here. {_why(shapes, images, count)}".strip(),
        "Export course.models.yolo() with decode=True or decode=False, and nothing more.",
    )


def _why(shapes: list[tuple[int, ...]], images: int, count: int) -> str:
    """The mistake that these shapes point to."""
    classes = len(CLASSES)
    if any(0 in shape for shape in shapes):
        return "An output is empty."
    if any(shape[:1] != (images,) for shape in shapes):
        return f"The batch size of an output is not the {images} of the input."
    turned = {(images, count, CHANNELS), (images, 4, count), (images, classes, count)}
    if any(shape in turned for shape in shapes):
        return "The last two dimensions are the wrong way round."
    if shapes in ([(images, count, 4 + classes)], [(images, 4 + classes, count)]):
        return "Boxes and scores are joined in one output."
    if all(len(shape) == 3 and shape[-1] in (4, classes) for shape in shapes):
        return f"There are {' and '.join(str(shape[1]) for shape in shapes)} boxes for each image, not {count}."
    return ""


def error_of(answer: Answer, wanted: Answer) -> Error:
    """How far an answer is from the reference's."""
    if answer.boxes.shape != wanted.boxes.shape or answer.scores.shape != wanted.scores.shape or not answer.finite:
        return Error(math.inf, math.inf)
    sides = wanted.boxes[..., 2:] - wanted.boxes[..., :2]
    with np.errstate(over="ignore"):  # a difference too large for float32 is an infinite error
        return Error(
            _rms(answer.boxes - wanted.boxes) / max(_rms(sides), 1e-9),
            _rms(answer.scores - wanted.scores) / max(_rms(wanted.scores - wanted.scores.mean()), 1e-9),
        )


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def noise_of_drop(answer: Sequence[Detections], wanted: Sequence[Detections], scenes: Sequence[Scene]) -> float:
    """Half of the 95 % interval of the mAP lost, paired by scene: a jackknife that leaves out one of eight groups at
    a time (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, ch. 11), with Student's t for seven degrees
    of freedom. mAP is no mean over scenes, so the interval of a mean would not do.

    Infinite with fewer than two scenes a group, or where a part holds no object.
    """
    if len(scenes) < 2 * GROUPS:
        return math.inf
    member, lost = np.arange(len(scenes)) % GROUPS, []
    for group in range(GROUPS):
        kept = np.flatnonzero(member != group)
        part = [scenes[i] for i in kept]
        ours, theirs = (mean_average_precision([found[i] for i in kept], part).map50_95 for found in (answer, wanted))
        lost.append(theirs - ours)
    spread = float(np.std(lost))
    return math.inf if math.isnan(spread) else 2.365 * math.sqrt(GROUPS - 1) * spread
