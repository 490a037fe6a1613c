"""The timeline of stages: bars follow each other, and a stage has one colour in every row."""

from __future__ import annotations

from course.plot import png
from course.plot.stages import timeline


def test_bars_follow_each_other_and_a_stage_keeps_its_colour():
    figure = timeline({"a": {"decode": 3.0, "compute": 2.0}, "b": {"compute": 4.0}})
    bars = [bar for bar in figure.axes[0].patches if bar.get_width() > 0]
    assert [(bar.get_x(), bar.get_width()) for bar in bars] == [(0, 3), (3, 2), (0, 4)]
    assert bars[1].get_facecolor() == bars[2].get_facecolor() != bars[0].get_facecolor()
    assert png(figure).startswith(b"\x89PNG")
