"""From frames to boxes: `course.detection` and the figures of `course.plot.boxes`."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from course import bench, detection, plot
from course.data.scenes import scene
from course.engine import BuildProgress
from course.models.suppression import Detections
from course.models.yolo import decode_numpy
from course.plot import boxes as plot_boxes

SCENES = {64: [scene(seed, 64) for seed in range(2)], 96: [scene(seed, 96) for seed in range(2)]}


class Engine:
    """Stands for a built detector: gives the same raw output, or its boxes and scores, for any frames."""

    precision = "fp32"

    def __init__(self, form: str):
        self.form, self.profiles = form, []

    def run(self, feeds, *, profile=0):
        x = feeds["image"]
        self.profiles.append((profile, x.shape))
        anchors = sum((x.shape[2] // s) * (x.shape[3] // s) for s in (8, 16, 32))
        raw = np.full((len(x), 84, anchors), -8.0, np.float32)
        raw[:, 70, 5] = 4.0
        if self.form == "raw":
            return {"raw": raw}
        boxes, scores = decode_numpy(raw, x.shape[2:])
        return {"boxes": boxes, "scores": scores}


def way(batch: int, times: list[float], size: int = 320, decode: str = "inside") -> detection.Deployment:
    samples = bench.Samples("x", "cpu", "CPU", np.array(times), items=batch)
    return detection.Deployment("fp32", size, batch, decode, samples, 0.8)


def test_both_forms_give_the_same_detections():
    x = detection.frames(SCENES[64])
    assert x.shape == (2, 3, 64, 64) and x.dtype == np.float32 and 0 <= x.min() and x.max() <= 1
    (raw, _), (decoded, _) = (detection.detect(Engine(form), x, score=0.5) for form in ("raw", "decoded"))
    assert raw.labels.tolist() == decoded.labels.tolist() == [6]
    np.testing.assert_array_equal(raw.boxes, decoded.boxes)


def test_every_engine_is_measured_at_every_size_in_its_profile():
    engines = {"inside": Engine("decoded"), "fp16 outside": Engine("raw")}
    ways = detection.measure(engines, SCENES, batches=(1, 2), max_seconds=1)
    assert [(w.size, w.batch, w.decode) for w in ways] == [
        (size, batch, place) for place in ("inside", "outside") for size in (64, 96) for batch in (1, 2)
    ]
    assert all(w.samples.items == w.batch and len(w.samples.milliseconds) > 1 for w in ways)
    for engine in engines.values():
        assert {(p, shape[2]) for p, shape in engine.profiles} == {(0, 64), (1, 96)}


def test_the_first_frame_of_a_batch_waits_for_the_others():
    assert [way(batch, [1.0]).wait_ms(20) for batch in (1, 2, 4)] == [0, 50, 150]
    few, many = way(2, [10.0, 30.0]), way(2, [10.0] * 99 + [1000.0] + [10.0] * 100)
    assert few.slow_ms == 30 and few.total_ms(20) == 80, "few samples: the slowest, not a p99 between them"
    assert many.slow_ms < 1000
    text = detection.table([few, many], 20)
    assert "wait + p99" in text and "fewer than 100 samples" in text


def test_progress_is_told_now_and_then(capsys):
    hear = detection.tell("timing", every_s=0.0)
    for news in (0.5, BuildProgress("Time kernels", 3, 60, 1.0), BuildProgress("Serialise", 0, None, 2.0)):
        assert hear(news) is True
    assert [line.split("s  ")[1] for line in capsys.readouterr().out.splitlines()] == [
        "timing: 50 %",
        "timing: time kernels, 3 of 60",
        "timing: serialise",
    ]
    seldom = detection.tell("timing")
    assert seldom(0.1) and not capsys.readouterr().out
    heard = []
    detection.measure({"inside": Engine("raw")}, SCENES, batches=(1,), max_seconds=0.5, progress=heard.append)
    assert heard and heard == sorted(heard) and heard[-1] <= 1


@pytest.mark.parametrize("budget", [1.0, 100.0, 5000.0])
def test_the_figure_of_deployments_shows_the_budget_wherever_it_lies(budget):
    ways = [
        way(batch, [20.0 * batch], size, decode)
        for batch in (1, 2, 4)
        for size in (320, 416)
        for decode in ("inside", "outside")
    ]
    data = plot.png(plot_boxes.deployments(ways, 20, budget))
    assert Image.open(io.BytesIO(data)).width > 800


def test_boxes_are_drawn_beside_each_other_also_where_there_are_none():
    some = Detections(
        np.array([[5, 5, 40, 40], [50, 0, 64, 20]], np.float32), np.float32([0.9, 0.2]), np.array([3, 19])
    )
    none = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    figure = plot_boxes.side_by_side(SCENES[64][0].image, {"PyTorch": some, "engine": none})
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["PyTorch: 1 box", "engine: 0 boxes"]
    assert Image.open(io.BytesIO(plot.png(figure))).width > 1000
