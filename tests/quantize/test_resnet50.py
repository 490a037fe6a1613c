"""The course's ResNet-50 on real images: calibrated, quantised, run; against ONNX Runtime's and TensorRT's own scales."""

from __future__ import annotations

import contextlib
import io
import lzma
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization.calibrate import HistogramCollector

from course.data import cifar10, metrics, preprocess
from course.engine import BuildConfig, Profile, available_runtimes, build
from course.quantize import (
    calibration_from,
    collect,
    entropy_onnxruntime,
    explain_placement,
    histogram,
    method,
    parses_on,
    percentile,
    quantize,
    scales,
    sqnr_db,
    tensors_to_calibrate,
)
from course.quantize.activations import inner_tensors
from course.quantize.trt_cache import parse_cache

pytestmark = pytest.mark.slow
CALIBRATION, TEST = 32, 24


@pytest.fixture(scope="module")
def model(resnet50_onnx) -> Path:
    return resnet50_onnx


@pytest.fixture(scope="module")
def calibration_images() -> np.ndarray:
    return preprocess.classifier(cifar10.images("calibration").pixels[:CALIBRATION])


@pytest.fixture(scope="module")
def histograms(model, calibration_images):
    return collect(model, calibration_images, tensors_to_calibrate(model))


@pytest.mark.serial  # the minute is one of two cores
def test_calibrating_128_images_fits_into_a_minute(histograms):
    """Measured on fewer images."""
    assert len(histograms.tensors) == 53 and histograms["image"].total[0] == CALIBRATION * 3 * 224 * 224
    print(f"{histograms.seconds / CALIBRATION * 1000:.0f} ms an image")
    assert histograms.seconds / CALIBRATION * 128 < 60


def test_top1_of_int8_is_within_a_point(model, histograms):
    """Calibration and test images are of different splits. 24 images have a step of four points: none may be lost."""
    images = cifar10.images("public")
    x, labels = preprocess.classifier(images.pixels[:TEST]), images.labels[:TEST]
    config = dict(runtime="onnxruntime", profiles=(Profile.batch(model, 1, 8, 8),))

    def logits(source) -> np.ndarray:
        with build(source, BuildConfig(**config)) as engine:
            return np.concatenate([engine.run({"image": x[i : i + 8]})["logits"] for i in range(0, TEST, 8)])

    exact, rounded = logits(model), logits(quantize(model, scales(histograms, "entropy")))
    assert metrics.top1(exact, labels) - metrics.top1(rounded, labels) <= 0.01
    assert 10 < sqnr_db(exact, rounded) < 40, "it is quantised"


def test_one_file_for_all_versions(model, histograms):
    int8 = quantize(model, scales(histograms, "entropy"))
    onnx.checker.check_model(int8, full_check=True)
    versions = {"8.6", "10", "11", *(["RTX"] if available_runtimes()["rtx"] is None else [])}
    assert parses_on(int8) == {version: () for version in versions}
    assert [finding.kind for finding in explain_placement(int8)] == ["quantised alone", "skip dequantised"]


def test_entropy_agrees_with_tensorrts_own_calibrator(histograms):
    """TensorRT 8.6.0's scales of the same network, from 256 images. Here are 32, which reach less far: limits are lower."""
    recorded = Path(__file__).with_name("recorded") / "resnet50_entropy_calibration.cache.xz"
    theirs = calibration_from(parse_cache(lzma.decompress(recorded.read_bytes()).decode())).scales
    names = [name for name in histograms.tensors if "relu" in name]
    assert len(names) == 47 and set(names) <= set(theirs)

    def ratios(name: str, step: int = 1) -> np.ndarray:
        chosen = method(name)
        return np.array([chosen(histograms[tensor]).amax[0] / 127 / theirs[tensor] for tensor in names[::step]])

    found = ratios("entropy")
    print("entropy:", np.percentile(found, [5, 25, 50, 75, 95]).round(3))
    assert np.median(found) == pytest.approx(1, abs=0.1) and (np.abs(found - 1) < 0.2).mean() > 0.8
    assert np.median(ratios("min-max")) > 1.2, "it clips"
    assert np.median(ratios("entropy-onnxruntime", 6)) < 0.5, (
        "one that counts the zeros of a ReLU has nothing to do with it"
    )


def test_onnxruntimes_scales_on_the_same_activations(model):
    """Without help: each with its own histogram of the same values."""
    names = ["/layer2/layer2.1/relu_1/Relu_output_0", "/layer4/layer4.0/downsample/downsample.0/Conv_output_0"]
    x = preprocess.classifier(cifar10.images("calibration").pixels[:4])
    values = inner_tensors(onnx.load(model), names)({"image": x})
    for name in names:
        one = histogram(values[name], bins=2048)  # ONNX Runtime takes seconds for 4096
        used = int(np.ceil(float(one.largest[0]) / one.widths[0]))
        for ours, tool in (
            (entropy_onnxruntime(one), HistogramCollector("entropy", False, 2 * used, 128, 0, "same")),
            (percentile(one, 99.99), HistogramCollector("percentile", True, 4096, 0, 99.99, "same")),
        ):
            with contextlib.redirect_stdout(io.StringIO()):
                tool.collect({"x": [values[name]]})
                low, high = tool.compute_collection_result()["x"][:2]
            assert ours.amax[0] == pytest.approx(max(-float(low), float(high)), rel=0.02), (name, tool.method)
