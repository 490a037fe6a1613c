"""The figures of INT8's accuracy: no text over text or off the edge, units on the axes."""

from __future__ import annotations

import numpy as np
import pytest

from course import plot
from course.detection import Accuracy
from course.plot import int8 as plot_int8
from course.quantize import LayerNoise
from tests.plot.test_plot import texts

RNG = np.random.default_rng(0)
LAYERS = [
    LayerNoise(
        f"/stage{depth // 8}/chain.{depth}/body/Conv", "Conv", f"t{depth}", 20 + 25 * RNG.random(), 25 - depth / 5
    )
    for depth in range(63)
]
ROWS = [
    Accuracy("float", 0.83, float("inf"), float("inf"), 0.99),
    Accuracy("pairs on inputs and skips", 0.81, 26.0, 12.0, 0.99),
    Accuracy("saturated", 0.0, -3.0, 0.0, 0.0),
]
FIGURES = {
    "two ranges": lambda: plot_int8.two_ranges(
        {"boxes, px": RNG.uniform(0, 320, 5000), "scores": RNG.beta(0.3, 8, 5000)}, scale=4.0
    ),
    "noise": lambda: plot_int8.noise(LAYERS),
    "gains": lambda: plot_int8.gains(ROWS, "What each cure brings"),
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


def test_what_a_scale_makes_zero_is_left_of_half_a_step():
    axis = FIGURES["two ranges"]().axes[0]
    assert "half a step, 2.00" in [text.get_text() for text in axis.get_legend().get_texts()]
    assert any(np.allclose(line.get_xdata(), 2.0) for line in axis.lines)
