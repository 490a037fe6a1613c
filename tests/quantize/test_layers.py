"""Noise layer by layer, and the table of precisions."""

from __future__ import annotations

import numpy as np
import pytest

from course.engine import BuildConfig, build
from course.errors import CourseError, ShapeError
from course.quantize import calibrate, layer_noise, precision_table, quantize, sqnr_db, tensors_to_calibrate
from course.quantize.activations import inner_tensors
from tests.quantize import quantize_zoo as zoo

NET = zoo.residual_net()
LAYERS = [
    "conv",
    "block0.conv1",
    "block0.conv2",
    "block0.conv3",
    "block0.down",
    "block1.conv1",
    "block1.conv2",
    "block1.conv3",
    "fc",
]


@pytest.fixture(scope="module")
def given():
    return calibrate(NET, zoo.images(32), "min-max", tensors_to_calibrate(NET))


def test_noise_alone_is_that_of_a_model_with_one_layer_quantised(given):
    """Against the slow way: for each layer a model in which all others are excluded."""
    x = zoo.images(8, seed=3)
    found = layer_noise(NET, given, x, batch=3)
    assert [row.node for row in found] == LAYERS
    outputs = [row.tensor for row in found]
    exact = inner_tensors(NET, outputs)({"image": x})
    for row in found:
        one = quantize(NET, given, exclude=[name for name in LAYERS if name != row.node])
        slow = sqnr_db(exact[row.tensor], inner_tensors(one, [row.tensor])({"image": x})[row.tensor])
        assert row.alone == pytest.approx(slow, abs=0.05), row.node
    whole = inner_tensors(quantize(NET, given), outputs)({"image": x})
    for row in found:
        assert row.gathered == pytest.approx(sqnr_db(exact[row.tensor], whole[row.tensor]), abs=0.3), row.node


def test_noise_gathers_through_the_depth(given):
    found = layer_noise(NET, given, zoo.images(8, seed=3))
    assert found[0].alone == pytest.approx(found[0].gathered, abs=0.05), "nothing comes before the first layer"
    assert all(row.gathered < row.alone - 1 for row in found[5:-1])
    assert found[-1].gathered > found[-2].gathered, "averaging takes noise out again"
    assert all(25 < row.alone < 50 for row in found)
    assert "dB alone" in str(found[0]) and found[-1].kind == "Gemm"


def test_a_guilty_layer_is_found_and_excluding_it_helps(given):
    bad = {**given.scales, "block0.relu2_out": given.scales["block0.relu2_out"] * 40}
    found = layer_noise(NET, bad, zoo.images(8))
    guilty = min(found, key=lambda row: row.alone)
    assert guilty.node == "block0.conv3" and guilty.alone < 12
    assert layer_noise(NET, bad, zoo.images(8), exclude=guilty.node)[-1].gathered > found[-1].gathered + 6


def test_progress_and_no_data(given):
    heard = []
    layer_noise(NET, given, zoo.images(4), batch=2, progress=lambda part, words: heard.append(part))
    assert heard == [0.5, 1.0]
    with pytest.raises(CourseError, match="no data to measure"):
        layer_noise(NET, given, [])


def test_weights_alone(given):
    found = layer_noise(NET, {}, zoo.images(4), "weights")
    both = layer_noise(NET, given, zoo.images(4))
    assert all(only.alone > with_input.alone for only, with_input in zip(found, both))


def test_the_table_of_precisions(given):
    x, int8 = zoo.images(40, seed=8), quantize(NET, given, int8_weights=True)
    labels = zoo.answers(NET, x).argmax(1)
    labels[:10] = (labels[:10] + 1) % 16
    config = dict(runtime="onnxruntime", profiles=(zoo.PROFILE,))
    with (
        build(NET, BuildConfig(**config)) as fp32,
        build(NET, BuildConfig("fp16", **config)) as fp16,
        build(int8, BuildConfig("int8", **config)) as quantised,
    ):
        rows = precision_table({"FP32": fp32, "FP16": fp16, "INT8": quantised}, x, labels, {"FP32": NET, "INT8": int8})
    assert [row.name for row in rows] == ["FP32", "FP16", "INT8"]
    assert rows[0].top1 == 0.75 and rows[0].agreement == 1 and rows[0].runtime == "onnxruntime"
    assert rows[1].agreement >= 0.975 and 0.85 <= rows[2].agreement <= 1
    assert rows[1].plan_bytes < 0.65 * rows[0].plan_bytes and rows[2].plan_bytes < 0.5 * rows[0].plan_bytes
    assert rows[2].onnx_bytes == len(int8.SerializeToString(deterministic=True)) and rows[1].onnx_bytes is None
    with build(NET, BuildConfig(**config)) as fp32:
        with pytest.raises(ShapeError):
            precision_table({"FP32": fp32}, x, labels[1:])
        with pytest.raises(CourseError, match="nothing to run"):
            precision_table({"FP32": fp32}, [], labels)
    with pytest.raises(CourseError, match="No engine"):
        precision_table({}, x, labels)


def test_agreement_is_of_classes_not_of_accuracy(given):
    """Two engines that are equally right, on other images."""

    class Fixed:
        inputs = outputs = (type("Spec", (), {"name": "image"})(),)
        runtime = "fixed"

        def __init__(self, classes):
            self.logits = np.eye(4, dtype=np.float32)[classes]

        def run(self, feed):
            return {"image": self.logits}

        def memory(self):
            return type("Memory", (), {"plan_bytes": 1})()

    rows = precision_table(
        {"a": Fixed([0, 1, 2, 2]), "b": Fixed([0, 1, 0, 3])}, np.zeros((4, 1), np.float32), np.array([0, 1, 2, 3])
    )
    assert [(row.top1, row.agreement) for row in rows] == [(0.75, 1.0), (0.75, 0.5)]
