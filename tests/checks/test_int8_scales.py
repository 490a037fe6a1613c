"""The judge's side of a calibration: which scales of TensorRT's own are those of its images."""

from __future__ import annotations

import re
import struct
from types import SimpleNamespace

import numpy as np
import pytest

from autograder.checks import builds, int8_scripts, probe
from autograder.checks.base import OpenHere
from autograder.checks.int8_scripts import MOST_OFF_TENSORRT, Calibration


@pytest.fixture(scope="module")
def calibrated() -> Calibration:
    """All images came, and the cache is TensorRT's: the scales of the judge are not in the box."""
    rng = np.random.default_rng(1)
    images = rng.random((17, 3, 32, 32), np.float32)
    found = Calibration(probe.network(rng, images.shape[1:]), images, 3)
    found({"call": "batches", "algorithm": "MinMaxCalibration"}, list(images[:15].reshape(5, 3, 3, 32, 32)))
    return found


def cache_of(calibration: Calibration) -> str:
    return calibration._scales([calibration.images[: calibration.whole]]).decode()


def test_scales_of_these_images_are_right(calibrated):
    cache = cache_of(calibrated)
    assert calibrated.off(cache.encode()) == 1
    assert calibrated.most_off(cache.encode()) == MOST_OFF_TENSORRT


def test_digits_without_leading_zeros_and_scales_of_zero_do_not_spoil_a_cache(calibrated):
    cache = cache_of(calibrated) + "(Unnamed Layer* 10) [Constant]_output: 0\n"
    assert calibrated.off(cache.encode()) == 1


def test_each_scale_counts_and_each_tensor_has_one(calibrated):
    """Six of twelve names, two of them absurd, once had full marks: the median of the rest was judged."""
    head, *lines = cache_of(calibrated).splitlines()
    half = lines[: (len(lines) + 1) // 2]
    assert calibrated.off("\n".join([head, *half]).encode()) == float("inf")

    def times(line: str, factor: float) -> str:
        name, digits = line.split(": ")
        scale = struct.unpack(">f", bytes.fromhex(digits))[0]
        return f"{name}: {struct.pack('>f', scale * factor).hex()}"

    absurd = "\n".join([head, times(lines[0], 100), *lines[1:]])
    assert calibrated.off(absurd.encode()) == pytest.approx(100, rel=1e-3)


@pytest.mark.parametrize("cache", [b"none", b"TRT-8600-MinMaxCalibration\nimage\n", b"\xff\xfe"])
def test_what_is_no_cache_is_infinitely_off(calibrated, cache):
    assert calibrated.off(cache) == float("inf")


def test_the_first_entropy_calibrator_has_scales_behind_fusions_only(calibrated):
    """As TensorRT 8.6.0 wrote them on a GPU: 12 of 22 tensors of a network had one."""
    text = cache_of(calibrated)
    fused = re.sub(r"(?m)^\S*conv\S*_out: .*\n", "", text)
    assert fused != text and calibrated.off(fused.encode()) == float("inf")
    calibrated.algorithm = "EntropyCalibration"
    try:
        assert calibrated.off(fused.encode()) < float("inf")
    finally:
        calibrated.algorithm = "MinMaxCalibration"


def test_a_machine_without_anything_to_try_scripts_with_leaves_them_open(monkeypatch):
    """Learners once lost these points where the grader's machine lacked TensorRT-RTX."""
    monkeypatch.setattr(builds, "available_runtimes", lambda: {"rtx": "It is not installed."})
    with pytest.raises(OpenHere, match="pip install tensorrt_rtx"):
        int8_scripts.open_box(SimpleNamespace(lane="cpu"))
