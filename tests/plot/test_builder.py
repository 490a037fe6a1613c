"""The figures of lessons 05 and 06: no text over text or off the edge, units on the axes."""

from __future__ import annotations

import pytest

from course import plot
from course.plot import builder as plot_builder
from course.profiling.trtexec import LayerTime, read_times
from course.profiling.trtexec_sample import times
from tests.plot.test_plot import texts

ROWS = [
    LayerTime(f"/layer{i}/layer{i}.{i}/downsample/downsample.{i}/Conv_output_0_nchwc", 20 * i, float(i), i / 120)
    for i in range(1, 16)
]
FIGURES = {
    "memory map": lambda: plot_builder.memory_map(
        [(0, 2, 0, 4_000_000), (1, 3, 4_000_000, 2_000_000), (3, 9, 0, 3_000_000)], bound=6_000_000
    ),
    "memory map without bound": lambda: plot_builder.memory_map(
        [(0, 50, 0, 57_800_000)], "Your memory plan for ResNet-50, batch 8"
    ),
    "bars": lambda: plot_builder.bars(
        {"your plan": 57.8, "a place for every tensor": 1362.0, "none": 0.0},
        "MB",
        "Memory, batch 8",
        "(less is better)",
    ),
    "bars of zero": lambda: plot_builder.bars({"a": 0.0}, "MB per run", "Nothing"),
    "tuning": lambda: plot_builder.tuning(
        {f"8 × 1024 × {i}² → 256, 1 × 1": {"direct": 1.0 + i, "columns": 9.5, "channels_last": 170.0} for i in range(6)}
    ),
    "slowest": lambda: plot_builder.slowest_layers(ROWS, 10, "The slowest layers (onnxruntime)"),
    "all layers": lambda: plot_builder.slowest_layers(ROWS[:3], 10),
    "timeline": lambda: plot_builder.timeline(read_times(times(1)), 6, "Six queries in trtexec (made-up numbers)"),
    "parts": lambda: plot_builder.parts(
        {
            "A: plain run": {"copies": 0.1, "compute": 0.6, "launch": 0.0, "unexplained": 0.4},
            "C: --noDataTransfers": {"copies": 0.0, "compute": 0.9, "launch": 0.1, "unexplained": 0.1},
        }
    ),
    "lifetimes": lambda: plot_builder.lifetimes([(4_000_000, 0, 2), (2_000_000, 1, 3), (3_000_000, 3, 9)]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_covers_another_or_leaves_the_figure(name: str) -> None:
    figure = FIGURES[name]()
    boxes = texts(figure)
    width, height = figure.bbox.width, figure.bbox.height
    items = list(boxes.items())
    for index, (text, (left, bottom, right, top)) in enumerate(items):
        assert left >= -1 and bottom >= -1 and right <= width + 1 and top <= height + 1, f"{text} leaves the figure"
        for other, b in items[index + 1 :]:
            apart = right <= b[0] + 1 or b[2] <= left + 1 or top <= b[1] + 1 or b[3] <= bottom + 1
            assert apart, f"{text!r} and {other!r} overlap"


@pytest.mark.parametrize("name", FIGURES)
def test_axes_have_units_and_the_figure_shows_itself(name: str) -> None:
    figure = FIGURES[name]()
    assert any(
        unit in label
        for axis in figure.axes
        for label in (axis.get_xlabel(), axis.get_ylabel())
        for unit in ("MB", "ms", "multiple")
    )
    assert (
        figure._repr_png_()
        and plot.png(figure).startswith(b"\x89PNG")
        and plot.svg(figure, "figure").startswith("<svg")
    )
