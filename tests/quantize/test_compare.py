"""Paired differences: the interval holds the true mean as often as it says, and pairing makes it narrow."""

from __future__ import annotations

import numpy as np
import pytest

from course.errors import ShapeError
from course.quantize import calibration_from, paired, recorded_cache


def test_an_interval_holds_the_true_difference_about_95_times_in_100():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        base = rng.normal(20, 8, 40)
        one = paired(base + 1.5 + rng.normal(0, 2, 40), base, rounds=400)
        inside += one.low <= 1.5 <= one.high
    assert 0.88 < inside / 200 < 0.99


def test_what_makes_an_image_hard_for_both_drops_out():
    rng = np.random.default_rng(1)
    base = rng.normal(20, 8, 40)
    found = base + rng.normal(1, 0.5, 40)
    together, apart = paired(found, base), paired(rng.permutation(found), base)
    assert together.low > 0.5 and together.high - together.low < (apart.high - apart.low) / 5
    assert str(paired(base + 1, base)) == "+1.0 (+1.0 to +1.0)"


@pytest.mark.parametrize("found, base", [([1.0, 2.0], [1.0]), ([], []), ([[1.0]], [[1.0]])])
def test_measurements_of_other_images_are_refused(found, base):
    with pytest.raises(ShapeError, match="image by image"):
        paired(found, base)


def test_the_recorded_cache_is_an_entropy_calibration_of_resnet50():
    cache = recorded_cache()
    assert cache.algorithm == "EntropyCalibration2" and len(calibration_from(cache).scales) > 120
    assert 2.5 < calibration_from(cache).amax("image") < 2.7  # (1 - 0.406) / 0.225 = 2.64 is the largest pixel
