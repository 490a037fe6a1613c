"""top-1 and mAP: known answers, an independent implementation, empty cases, honest errors."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from course.data.metrics import mean_average_precision, top1
from course.data.scenes import CLASSES, Scene, scene
from course.errors import CourseError, ShapeError, UnsupportedError
from course.models.suppression import Detections

BLANK = np.zeros((320, 320, 3), np.uint8)


def truth(boxes: list, labels: list) -> Scene:
    return Scene(BLANK, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64))


def found(boxes: list, scores: list, labels: list) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(labels, np.int64)
    )


def test_top1():
    logits = np.array([[0.1, 0.9], [2.0, -1.0], [3.0, 4.0], [5.0, np.nan]])
    assert top1(logits, np.array([1, 0, 0, 0])) == 0.5


@pytest.mark.parametrize(
    "logits, labels", [(np.zeros((0, 3)), np.zeros(0)), (np.zeros((2, 3)), np.zeros(3)), (np.zeros(3), np.zeros(3))]
)
def test_top1_refuses_what_does_not_fit(logits, labels):
    with pytest.raises(ShapeError, match="Next step"):
        top1(logits, labels)


def test_the_truth_itself_scores_one(capsys):
    scenes = [scene(seed, 160) for seed in range(10)]
    result = mean_average_precision([Detections(s.boxes, np.ones(len(s.labels)), s.labels) for s in scenes], scenes)
    assert result.map50_95 == pytest.approx(1.0) and result.map50 == pytest.approx(1.0)
    assert list(result.per_class) == list(CLASSES)
    assert capsys.readouterr().out == ""  # pycocotools is not heard


def test_a_box_that_is_a_little_off():
    """IoU is 0.8: right at 0.50 to 0.80 (7 of 10 thresholds), wrong above."""
    result = mean_average_precision([found([[0, 0, 80, 100]], [0.9], [2])], [truth([[0, 0, 100, 100]], [2])])
    assert result.map50 == pytest.approx(1.0)
    assert result.map50_95 == pytest.approx(0.7)
    assert result.per_class["pullover"] == pytest.approx(0.7)
    assert math.isnan(result.per_class["frog"])


def test_one_of_two_objects_found():
    """Precision is 1 up to recall 0.5: 51 of COCO's 101 recall marks."""
    result = mean_average_precision(
        [found([[0, 0, 100, 100]], [0.9], [0])], [truth([[0, 0, 100, 100], [200, 200, 300, 300]], [0, 0])]
    )
    assert result.map50_95 == pytest.approx(51 / 101)


def test_the_wrong_class_is_not_found():
    result = mean_average_precision([found([[0, 0, 100, 100]], [0.9], [1])], [truth([[0, 0, 100, 100]], [0])])
    assert result.map50_95 == 0.0


def test_nothing_found_and_nothing_to_find():
    empty = found([], [], [])
    result = mean_average_precision([empty], [truth([[0, 0, 9, 9]], [4])])
    assert result.map50_95 == result.map50 == result.per_class["coat"] == 0.0
    assert math.isnan(result.per_class["shirt"])
    result = mean_average_precision([found([[0, 0, 9, 9]], [0.5], [4]), empty], [truth([], [])] * 2)
    assert math.isnan(result.map50_95) and math.isnan(result.map50)
    assert math.isnan(mean_average_precision([], []).map50_95)


def test_an_independent_implementation_agrees():
    from tools.assets.detector_loss import progress_map

    rng = np.random.default_rng(0)
    scenes, predictions = [scene(seed, 160) for seed in range(30)], []
    for s in scenes:
        boxes = np.concatenate([s.boxes + rng.normal(0, spread, s.boxes.shape) for spread in (3, 8)])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)  # COCO ignores a box inside out
        labels = np.concatenate([np.where(rng.random(len(s.labels)) < 0.8, s.labels, 7), s.labels])
        scores = rng.random(len(labels))
        order = np.argsort(-scores)
        predictions.append(Detections(boxes[order].astype(np.float32), scores[order], labels[order]))
    both, at_half = progress_map(predictions, scenes)
    result = mean_average_precision(predictions, scenes)
    assert 0.1 < result.map50_95 < 0.9
    assert result.map50_95 == pytest.approx(both, abs=1e-6)
    assert result.map50 == pytest.approx(at_half, abs=1e-6)


@pytest.mark.parametrize(
    "prediction, message",
    [
        (found([[0, 0, 9, 9]], [0.5, 0.4], [1]), "cannot be scored"),
        (found([[0, 0, 9, 9]], [0.5], [20]), "the classes are 0 to 19"),
        (found([[0, 0, 9, float("nan")]], [0.5], [1]), "NaN"),
        (found([[0, 0, 9, 9]], [float("inf")], [1]), "NaN or infinite"),
    ],
)
def test_predictions_that_cannot_be_scored(prediction, message):
    with pytest.raises(CourseError, match=message) as caught:
        mean_average_precision([prediction], [truth([[0, 0, 9, 9]], [1])])
    assert "scene 0" in str(caught.value)


def test_every_scene_needs_a_prediction():
    with pytest.raises(ShapeError, match="1 predictions for 2 scenes"):
        mean_average_precision([found([], [], [])], [truth([], []), truth([], [])])


def test_without_pycocotools(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("pycocotools")] + ["pycocotools"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UnsupportedError, match="pip install pycocotools"):
        mean_average_precision([], [])
