"""The figures of calibration: no text over text or off the edge, units on the axes; what is called clipped is clipped."""

from __future__ import annotations

import numpy as np
import pytest

from course import plot
from course.plot import histograms as plot_histograms
from course.quantize import histogram
from tests.plot.test_plot import texts

RNG = np.random.default_rng(0)
LONG_TAIL = histogram(np.maximum(RNG.laplace(0, 2, 40_000), 0).astype(np.float32))
NARROW = histogram(np.maximum(RNG.laplace(0, 0.5, 40_000), 0).astype(np.float32))
FOUR = dict(
    zip(("the image", "layer1.1, first ReLU", "layer2.0, skip side", "layer3.5, ReLU"), [LONG_TAIL, NARROW] * 2)
)
METHODS = ("min-max", "entropy", "TensorRT 8.6.0 (H200)", "yours")
FIGURES = {
    "limits": lambda: plot_histograms.limits(
        FOUR, {one: dict.fromkeys(FOUR, 2.0 + at) for at, one in enumerate(METHODS)}
    ),
    "limits of one": lambda: plot_histograms.limits({"a tensor": LONG_TAIL}, {"min-max": {"a tensor": 3.0}}),
    "trade-off": lambda: plot_histograms.trade_off([1, 2, 4, 8], [0.01, 0.02, 0.08, 0.3], [2, 0.2, 0.01, 0.0]),
    "channels": lambda: plot_histograms.channels(10 ** RNG.uniform(-2, 0, 64), RNG.uniform(-2, 30, 64), [40.0] * 64),
    "overlay": lambda: plot_histograms.overlay({"photographs": NARROW, "surfaces": LONG_TAIL}, 3.0, "Two domains"),
    "spread": lambda: plot_histograms.spread({"8 images": [1, 3, 2], "64 images": [2.1, 2.2]}, 2.0, "Limits"),
    "intervals": lambda: plot_histograms.intervals(
        {"entropy": (3.4, 2.0, 4.8), "TensorRT 8.6.0 (H200)": (3.7, 2.2, 5.1), "worse": (-2.0, -3.0, -1.0)},
        "dB more than min-max",
        "The answers in INT8",
        "min-max",
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_covers_another_or_leaves_the_figure(name: str) -> None:
    figure = FIGURES[name]()
    width, height = figure.bbox.width, figure.bbox.height
    items = list(texts(figure).items())
    for index, (text, (left, bottom, right, top)) in enumerate(items):
        assert left >= -1 and bottom >= -1 and right <= width + 1 and top <= height + 1, f"{text} leaves the figure"
        for other, b in items[index + 1 :]:
            apart = right <= b[0] + 1 or b[2] <= left + 1 or top <= b[1] + 1 or b[3] <= bottom + 1
            assert apart, f"{text!r} and {other!r} overlap"


@pytest.mark.parametrize("name", FIGURES)
def test_axes_are_labelled_and_the_figure_shows_itself(name: str) -> None:
    figure = FIGURES[name]()
    assert any(axis.get_xlabel() for axis in figure.axes)
    assert figure._repr_png_() and plot.svg(figure, "figure").startswith("<svg")


def test_the_share_that_a_limit_clips_is_that_of_the_values():
    values = np.arange(1000, dtype=np.float32) / 100  # bins of 16 / 4096 hold one each
    for limit in (0.5, 2.0, 9.0):
        assert plot_histograms.clipped(histogram(values), limit) == pytest.approx((values >= limit).mean(), abs=2e-3)
    assert plot_histograms.clipped(histogram(values), 16.0) == 0
