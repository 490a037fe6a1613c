"""Figures of the lessons on TensorRT's API: its objects, how long they live, and what a first layer sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.patches import FancyBboxPatch

from course.plot import INK, LINE, MUTED, PALETTE, STYLE, Figure

BUILD, RUN, DATA = PALETTE[1], PALETTE[2], PALETTE[3]

# name -> (column, row, colour, what it is)
_OBJECTS = {
    "Logger": (0, 1, MUTED, "gets every message"),
    "Builder": (1, 0, BUILD, "starts a build"),
    "Network": (2, 0, BUILD, "layers and weights"),
    "Config": (2, 1, BUILD, "how to build it"),
    "plan": (3, 0.5, DATA, "bytes: a file"),
    "Runtime": (1, 2, RUN, "reads plans"),
    "Engine": (2, 2, RUN, "weights on the GPU"),
    "Context": (3, 2, RUN, "shapes, addresses"),
}
_ARROWS = (
    ("Logger", "Builder"),
    ("Builder", "Network"),
    ("Builder", "Config"),
    ("Network", "plan"),
    ("Config", "plan"),
    ("Logger", "Runtime"),
    ("Runtime", "Engine"),
    ("Engine", "Context"),
)


def objects() -> Figure:
    """Which object makes which: the build above, the run below, the plan between them."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 3.9), layout="constrained")
        axis = figure.subplots()
        axis.set(xlim=(-0.1, 3.98), ylim=(2.75, -0.75), title='Eight objects: an arrow means "makes"')
        axis.axis("off")
        axis.text(0.98, -0.52, "build: slow, once", color=BUILD, fontsize=10)
        axis.text(0.98, 2.62, "run: fast, many times", color=RUN, fontsize=10)
        axis.axhline(1.5, 0.25, 0.98, color=LINE, linewidth=1)
        for start, end in _ARROWS:
            _arrow(axis, start, end)
        axis.annotate(
            "",
            (2.42, 1.72),
            (3.42, 0.8),
            arrowprops={"arrowstyle": "->", "color": DATA, "linestyle": "--", "connectionstyle": "arc3,rad=-0.1"},
        )
        axis.text(3.12, 1.32, "is read again", color=DATA, fontsize=9, ha="left", va="center")
        for name, (column, row, colour, what) in _OBJECTS.items():
            axis.add_patch(
                FancyBboxPatch(
                    (column, row - 0.27),
                    0.8,
                    0.54,
                    facecolor=colour,
                    edgecolor="none",
                    boxstyle="round,pad=0,rounding_size=0.06",
                )
            )
            axis.text(column + 0.4, row - 0.07, name, color="white", ha="center", va="center", fontweight="bold")
            axis.text(column + 0.4, row + 0.15, what, color="white", ha="center", va="center", fontsize=7.5)
    return figure


def _arrow(axis, start: str, end: str) -> None:
    (x0, y0, *_), (x1, y1, *_) = _OBJECTS[start], _OBJECTS[end]
    axis.annotate("", (x1 - 0.02, y1), (x0 + 0.82, y0), arrowprops={"arrowstyle": "->", "color": MUTED})


def lifetimes() -> Figure:
    """From which step to which each object must live: one bar each."""
    steps = ("define", "configure", "build", "save\nthe plan", "read\nthe plan", "run", "run\nagain")
    bars = {  # first and last step, inclusive
        "Logger": (0, 6, MUTED),
        "weights (NumPy)": (0, 2, BUILD),
        "Builder": (0, 2, BUILD),
        "Network": (0, 2, BUILD),
        "Config, profile": (1, 2, BUILD),
        "plan": (2, 4, DATA),
        "Runtime": (4, 6, RUN),
        "Engine": (4, 6, RUN),
        "Context": (5, 6, RUN),
        "buffers, stream": (5, 6, RUN),
    }
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(7.6, 3.7), layout="constrained")
        axis = figure.subplots()
        for row, (first, last, colour) in enumerate(bars.values()):
            axis.barh(row, last - first + 0.9, left=first - 0.45, height=0.62, color=colour)
        axis.set_yticks(range(len(bars)), bars)
        axis.set_xticks(range(len(steps)), steps)
        axis.xaxis.tick_top()
        for edge in np.arange(0.5, 6.5):
            axis.axvline(edge, color=LINE, linewidth=0.8, zorder=0)
        axis.set(xlim=(-0.55, 6.55), ylim=(len(bars) - 0.4, -0.6))
        axis.spines["bottom"].set_visible(False)
        axis.tick_params(axis="x", length=0)
        figure.suptitle("Which object must live until when", x=0.01, ha="left", fontweight="bold", fontsize=12)
    return figure


def feature_maps(image: np.ndarray, features: Mapping[str, np.ndarray], channels: Sequence[int]) -> Figure:
    """What some channels hold, one row for each runtime, beside the picture that went in.

    Args:
        image: uint8 [H, W, 3] RGB.
        features: label -> float [C, h, w]; all rows of one channel share one scale, from 0 (white) to their largest.
        channels: which channels to show.
    """
    rows = len(features)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(7.6, 1.3 * rows + 0.6), layout="constrained")
        axes = figure.subplots(rows, 1 + len(channels), squeeze=False)
        for row, (label, values) in enumerate(features.items()):
            for column, axis in enumerate(axes[row]):
                axis.set(xticks=[], yticks=[])
                for spine in axis.spines.values():
                    spine.set_visible(False)
                if column == 0:
                    axis.imshow(image, interpolation="nearest")
                    axis.set_ylabel(label, color=INK, fontsize=10)
                    continue
                channel = channels[column - 1]
                top = max(float(other[channel].max()) for other in features.values()) or 1.0
                axis.imshow(values[channel], cmap="Greys", vmin=0, vmax=top, interpolation="nearest")
                if row == 0:
                    axis.set_title(f"channel {channel}", fontsize=10, fontweight="normal", loc="center")
        axes[0, 0].set_title("input", fontsize=10, fontweight="normal", loc="center")
        figure.suptitle(
            "What the three layers make of one picture (darker: larger)",
            x=0.01,
            ha="left",
            fontweight="bold",
            fontsize=12,
        )
    return figure
