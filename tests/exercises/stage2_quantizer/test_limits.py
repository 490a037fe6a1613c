"""Exercise hand-limits: all test images decide, unless the first few show a clear loss."""

from __future__ import annotations

import numpy as np
import pytest

from course.exercises.stage2_quantizer import quantisation_by_hand as judge

SIZES = [part.stop - part.start for part in judge.TESTED]


@pytest.mark.parametrize(
    ("gains", "tested", "better"),
    [((-20.0, 3.0), SIZES[0], False), ((2.0, 2.0), sum(SIZES), True), ((2.0, -3.0), sum(SIZES), False)],
    ids=["a clear loss", "a gain", "a gain on the first images only"],
)
def test_all_images_decide_unless_the_first_show_a_clear_loss(gains, tested, better, monkeypatch):
    noise = [np.random.default_rng(part).normal(0, 1, size) for part, size in enumerate(SIZES)]
    monkeypatch.setattr(judge, "quantize", lambda model, found: None)
    monkeypatch.setattr(judge, "_sqnr", lambda model, part: noise[part] + gains[part])
    monkeypatch.setattr(judge, "_of_min_max", lambda part: np.zeros(SIZES[part]))
    gain, images = judge._gain({})
    assert images == tested and (gain.low > 0) is better
