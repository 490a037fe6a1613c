"""Accuracy: top-1 of a classifier, COCO's mean average precision of a detector (by pycocotools)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from course.data.scenes import CLASSES, Scene
from course.errors import CourseError, ShapeError, UnsupportedError


class Found(Protocol):
    """Detections of one image, as `course.models.yolo.Detections` holds them."""

    boxes: np.ndarray  # [D, 4] x1 y1 x2 y2 in pixels of the scene
    scores: np.ndarray  # [D]
    labels: np.ndarray  # [D], 0 to 19


@dataclass(frozen=True)
class MAP:
    """Mean average precision, 0 to 1. NaN where there is no object to find.

    map50_95: mean over IoU 0.50, 0.55 ... 0.95 and over classes (COCO's main number); map50: at IoU 0.50.
    per_class: class name -> mean over the ten IoU thresholds; NaN for a class without objects.
    """

    map50_95: float
    map50: float
    per_class: Mapping[str, float]


def top1(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share (0 to 1) of rows of logits [N, C] whose largest value is at the label [N]. NaN is wrong.

    Raises:
        ShapeError: the two do not fit, or N is 0.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise ShapeError(
            "Top-1 accuracy cannot be computed.",
            f"Logits have shape {logits.shape}, labels {labels.shape}; expected (N, C) and (N,), N at least 1.",
            "Pass one row of logits for each label.",
        )
    right = (logits.argmax(1) == labels) & ~np.isnan(logits).any(1)
    return float(right.mean())


def mean_average_precision(predictions: Sequence[Found], scenes: Sequence[Scene]) -> MAP:
    """COCO's mAP of detections against scenes, at most 100 detections an image.

    Args:
        predictions: for each scene what was found in it, boxes in pixels of the scene; may be empty.
        scenes: the truth, in the same order.

    Raises:
        ShapeError: another number of predictions than scenes, or arrays of one image that do not fit.
        CourseError: a label that is no class, or a number that is not finite.
        UnsupportedError: pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise UnsupportedError(
            "mAP cannot be computed.", f"pycocotools does not import: {error}.", "Run `pip install pycocotools`."
        ) from error
    if len(predictions) != len(scenes):
        raise ShapeError(
            "mAP cannot be computed.",
            f"There are {len(predictions)} predictions for {len(scenes)} scenes.",
            "Pass one prediction for each scene, an empty one where nothing was found.",
        )
    truth, found = [], []
    for image, (prediction, scene) in enumerate(zip(predictions, scenes)):
        _check(image, prediction)
        for (x, y, width, height), label in zip(_corner_and_size(scene.boxes), scene.labels):
            truth.append(
                {
                    "id": len(truth) + 1,
                    "image_id": image,
                    "category_id": int(label),
                    "iscrowd": 0,
                    "bbox": [x, y, width, height],
                    "area": width * height,
                }
            )
        boxes = _corner_and_size(prediction.boxes)
        for box, score, label in zip(boxes, prediction.scores, prediction.labels):
            found.append({"image_id": image, "category_id": int(label), "score": float(score), "bbox": box})
    per_class = dict.fromkeys(CLASSES, float("nan"))
    if not truth:
        return MAP(float("nan"), float("nan"), per_class)
    if not found:
        per_class.update({CLASSES[label]: 0.0 for label in {t["category_id"] for t in truth}})
        return MAP(0.0, 0.0, per_class)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": i} for i in range(len(scenes))],
            "annotations": truth,
            "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES)],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        # Not COCO's other eleven combinations of object size and limit, whose numbers nobody reads here.
        evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ["all"]
        evaluation.params.maxDets = evaluation.params.maxDets[-1:]
        evaluation.evaluate()
        evaluation.accumulate()
    # [10 IoU thresholds, 101 recalls, classes, object sizes (all), limits (100 detections)]
    precision = evaluation.eval["precision"][:, :, :, 0, 0]
    precision = np.where(precision < 0, np.nan, precision)  # COCO marks classes without objects by -1
    per_class = {name: float(precision[:, :, label].mean()) for label, name in enumerate(CLASSES)}
    return MAP(float(np.nanmean(precision)), float(np.nanmean(precision[0])), per_class)


def _corner_and_size(boxes: np.ndarray) -> list[list[float]]:
    """x1 y1 x2 y2 -> x1 y1 width height, COCO's form."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).tolist()


def _check(image: int, found: Found) -> None:
    boxes, scores, labels = (np.asarray(x) for x in (found.boxes, found.scores, found.labels))
    if boxes.shape != (len(scores), 4) or labels.shape != scores.shape or scores.ndim != 1:
        raise ShapeError(
            f"The prediction for scene {image} cannot be scored.",
            f"Boxes are {boxes.shape}, scores {scores.shape}, labels {labels.shape}; expected (D, 4), (D,) and (D,).",
            "Pass what course.models.yolo.nms returns.",
        )
    if len(labels) and not (0 <= labels.min() and labels.max() < len(CLASSES)):
        raise CourseError(
            f"The prediction for scene {image} cannot be scored.",
            f"Its labels go from {labels.min()} to {labels.max()}; the classes are 0 to {len(CLASSES) - 1}.",
            "Use the labels of the course's detector.",
        )
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise CourseError(
            f"The prediction for scene {image} cannot be scored.",
            "A box or a score is NaN or infinite.",
            "Look for an overflow in the engine, for example in float16.",
        )
