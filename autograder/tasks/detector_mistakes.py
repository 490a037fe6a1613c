"""Which mistake a detector's wrong answers show: each usual one is tried on the reference and compared.

Only words come from here, never points.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from autograder.tasks.detector_answers import Answer, error_of
from course.data.preprocess import IMAGENET_MEAN, IMAGENET_STD

CLOSE = 0.05
"""Relative error below which two answers are taken as the same: FP16 costs below 0.01, another network above 0.3."""
_MEAN, _STD = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))

INPUTS: tuple[tuple[str, Callable[[np.ndarray], np.ndarray]], ...] = (
    ("divided by 255 inside the file; the grader feeds 0 to 1 already", lambda x: x / 255),
    ("multiplied by 255 inside the file; the detector takes 0 to 1", lambda x: x * 255),
    (
        "normalised with ImageNet's mean and deviation inside the file; this detector takes 0 to 1",
        lambda x: (x - _MEAN) / _STD,
    ),
    ("moved to -1 to 1 inside the file; this detector takes 0 to 1", lambda x: 2 * x - 1),
    ("with red and blue exchanged; this detector takes RGB", lambda x: x[:, ::-1]),
)
"""What the file may have done to the image: the words end "PyTorch's answers for the image ..."."""


def _boxes_as(wanted: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Other ways to write the same boxes."""
    near, far = wanted[..., :2], wanted[..., 2:]
    scale = np.float32([size[1], size[0]])
    return {
        "centre, width and height": np.concatenate([(near + far) / 2, far - near], -1),
        "corner, width and height": np.concatenate([near, far - near], -1),
        "y before x": wanted[..., [1, 0, 3, 2]],
        "parts of the image's side, 0 to 1": np.concatenate([near / scale, far / scale], -1),
    }


def mistake(
    answer: Answer,
    wanted: Answer,
    x: np.ndarray,
    answers: Callable[[np.ndarray], Answer],
    elements: tuple[int, int],
) -> str:
    """One sentence on what is wrong; for finite answers of the right shape.

    Args:
        x: float32 [N, 3, H, W], the images. answers: the reference's answer to images; it is asked for two.
        elements: numbers in the file's tensors and in the reference's weights.
    """
    for words, boxes in _boxes_as(wanted.boxes, x.shape[2:]).items():
        if error_of(Answer(answer.boxes, wanted.scores), Answer(boxes, wanted.scores)).boxes < CLOSE:
            return f"The boxes are right, but written as {words}; wanted are x1 y1 x2 y2 in pixels."
    with np.errstate(over="ignore"):
        squashed = Answer(wanted.boxes, 1 / (1 + np.exp(-answer.scores)))
        twice = Answer(wanted.boxes, 1 / (1 + np.exp(-wanted.scores)))
    if error_of(squashed, wanted).scores < CLOSE:
        return "The scores are logits: the sigmoid that makes them 0 to 1 is missing."
    if error_of(Answer(wanted.boxes, answer.scores), twice).scores < CLOSE:
        return "The scores went through the sigmoid twice."
    few = slice(0, 2)
    for words, change in INPUTS:
        if error_of(answer[few], answers(np.ascontiguousarray(change(x[few])))).worst < CLOSE:
            return f"These are PyTorch's answers for the image {words}."
    ours, theirs = elements
    text = "These are the answers of another network"
    if not 0.7 < ours / theirs < 1.5:
        return f"{text}: the file holds {ours / 1e6:.1f} million numbers, the shipped detector {theirs / 1e6:.1f}."
    if answer.scores.max(initial=0.0) < 0.2 < wanted.scores.max(initial=0.0):
        return f"{text}, which is sure of nothing: random weights find no object (yolo(None) has them)."
    return f"{text}: {error_of(answer, wanted)} from PyTorch's."


def why_wrong(answer: Answer, wanted: Answer, *args) -> str:
    """Why an answer of the right shape is wrong; arguments as for `mistake`."""
    if not answer.finite:
        bad = int((~np.isfinite(answer.boxes)).sum() + (~np.isfinite(answer.scores)).sum())
        return f"The boxes and scores hold {bad:,} values that are NaN or infinite."
    return mistake(answer, wanted, *args)
