"""The figures of the course: one style, colours that colour-blind readers can tell apart, units everywhere.

Each function takes measured data and returns a matplotlib Figure: show it in a notebook, save it with
`png(figure)`, or put it into a page with `svg(figure)`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.patches import FancyBboxPatch

if TYPE_CHECKING:
    from course.bench import Samples
    from course.engine.types import Layer
from course.text import number

# Okabe and Ito, Color Universal Design (2008): distinct with every kind of colour blindness.
PALETTE = ("#E69F00", "#0072B2", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
INK, MUTED, LINE = "#1b1f24", "#687078", "#d5d9de"

GREY = "#59626a"  # the same in light and dark, for white text on it

STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.major.size": 0,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "grid.color": LINE,
    "axes.axisbelow": True,
    "figure.facecolor": "white",
    "axes.facecolor": "none",
    "savefig.dpi": 150,
    "svg.fonttype": "none",
}

# By kind: multiply-accumulate, activation, elementwise, normalisation. Others are grey.
OPERATOR_COLOURS = {
    "Conv": PALETTE[1],
    "Gemm": PALETTE[1],
    "MatMul": PALETTE[1],
    "Relu": PALETTE[3],
    "Clip": PALETTE[3],
    "Sigmoid": PALETTE[3],
    "Add": PALETTE[2],
    "Mul": PALETTE[2],
    "BatchNormalization": PALETTE[5],
}


class Figure(MatplotlibFigure):
    """A figure that shows itself as the last line of a notebook cell, without pyplot and its global state."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        width, height = self.get_size_inches()  # shown at 100 px per inch, drawn with 150: sharp on fine screens
        return png(self), {"width": round(100 * width), "height": round(100 * height)}


def latency(groups: Mapping[str, Sequence[Samples]], title: str = "Time per run") -> Figure:
    """Every sample as a dot, the median (p50) as a bar, p90 and p99 as ticks. Milliseconds.

    Args:
        groups: one panel per entry, e.g. {"batch 1": [engine, pytorch]}; each panel has its own scale from 0.
    """
    with matplotlib.rc_context(STYLE):
        heights = [len(samples) for samples in groups.values()]
        figure = Figure(figsize=(6.4, 0.8 + sum(0.85 + 0.62 * n for n in heights)), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
        panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=[n + 0.6 for n in heights])
        for axis, (name, samples) in zip(panels.flat, groups.items()):
            _latency_panel(axis, name, samples)
        panels[-1, 0].set_xlabel("ms per run, left is faster (bar: p50, ticks: p90, p99)")
    return figure


def _latency_panel(axis, name: str, samples: Sequence[Samples]) -> None:
    limit = 1.15 * max(s.p99 for s in samples)
    spread = np.random.default_rng(0)
    for row, s in enumerate(samples):
        colour = _colour(row, samples)
        size, alpha = (14, 0.8) if len(s.milliseconds) < 60 else (7, 0.45)
        shown = s.milliseconds[s.milliseconds <= limit]
        axis.scatter(
            shown,
            row + 0.16 + spread.uniform(-0.13, 0.13, len(shown)),
            s=size,
            color=colour,
            alpha=alpha,
            linewidths=0,
            rasterized=len(shown) > 400,
        )  # as SVG each dot costs 60 bytes
        axis.plot([s.p50, s.p99], [row + 0.16] * 2, color=INK, linewidth=1)
        axis.plot([s.p50] * 2, [row - 0.04, row + 0.36], color=INK, linewidth=3, solid_capstyle="butt")
        for percentile in (s.p90, s.p99):
            axis.plot([percentile] * 2, [row + 0.07, row + 0.25], color=INK, linewidth=1.2)
        beyond = len(s.milliseconds) - len(shown)
        note = f"p50 {number(s.p50)} ms · p90 {number(s.p90)} ms · p99 {number(s.p99)} ms"
        axis.text(
            0.006 * limit,
            row - 0.2,
            note + (f" · {beyond} beyond the axis" if beyond else ""),
            fontsize=9,
            color=MUTED,
            va="center",
        )
    axis.set_yticks([row + 0.1 for row in range(len(samples))], [s.label for s in samples])
    axis.set(xlim=(0, limit), ylim=(len(samples) - 0.4, -0.45), title=name)


def throughput(
    groups: Mapping[str, Sequence[Samples]], items: Mapping[str, int], title: str = "Throughput", unit: str = "images/s"
) -> Figure:
    """Items per second at the median time, one bar per contestant.

    Args:
        groups: as for `latency`.
        items: how many items one run of each group handles (its batch size).
    """
    with matplotlib.rc_context(STYLE):
        height = 1.3 + sum(0.35 + 0.42 * len(samples) for samples in groups.values())
        figure = Figure(figsize=(6.4, height), layout="constrained")
        axis = figure.subplots()
        labels, positions, row = [], [], 0.0
        fastest = max(items[name] / s.p50 * 1e3 for name, samples in groups.items() for s in samples)
        for name, samples in groups.items():
            for index, s in enumerate(samples):
                rate = items[name] / s.p50 * 1e3
                axis.barh(row, rate, height=0.72, color=_colour(index, samples))
                axis.text(rate + 0.012 * fastest, row, f"{number(rate)} {unit}", va="center", fontsize=10)
                labels.append(f"{s.label}, {name}")
                positions.append(row)
                row += 1
            row += 0.5
        axis.set_yticks(positions, labels)
        axis.set(xlim=(0, 1.42 * fastest), xlabel=f"{unit} = batch size / p50 (right is faster)")
        axis.locator_params(axis="x", nbins=5)
        axis.invert_yaxis()
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
    return figure


def fusion(
    before: Sequence[Layer],
    after: Sequence[Layer],
    rows: int = 10,
    title: str = "ONNX nodes and the layers they became",
) -> Figure:
    """How nodes group into kernels: each line is a layer of the engine and the ONNX nodes whose work it does.

    Args:
        before: the ONNX nodes (`network_layers`); their `kind` is the operator.
        after: the engine's layers, in order; the first `rows` are drawn.
    """
    drawn = after[:rows]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 1.15 + 0.46 * len(drawn)), layout="constrained")
        axis = figure.subplots()
        axis.set(xlim=(0, 10), ylim=(len(drawn) - 0.4, -1.0), title=title)
        axis.axis("off")
        axis.text(0, -0.75, "ONNX nodes", color=MUTED, fontsize=10)
        axis.text(6.1, -0.75, "one layer of the engine", color=MUTED, fontsize=10)
        for row, layer in enumerate(drawn):
            _chips(axis, row, [kind for kind, _ in nodes_of(layer, before)])
            axis.annotate("", (6.05, row), (5.55, row), arrowprops={"arrowstyle": "->", "color": MUTED})
            _box(axis, 6.15, row, 3.8, _shorten(layer.kind or layer.name, 27), "none", INK, edge=MUTED)
        if len(after) > rows:
            axis.text(
                0, len(drawn) - 0.42, f"… and {len(after) - rows} more layers", color=MUTED, va="top", fontsize=10
            )
            axis.set_ylim(len(drawn) + 0.1, -1.0)
    return figure


def nodes_of(layer: Layer, before: Sequence[Layer]) -> list[tuple[str, str]]:
    """Operator and name of each ONNX node that a layer does the work of, in the order of the graph."""
    place = {node.name: (index, node.kind) for index, node in enumerate(before)}
    found = sorted((*place.get(name, (len(before), "?")), name) for name in layer.onnx_nodes)
    return [(kind, name) for _, kind, name in found]


def _chips(axis, row: int, names: list[str]) -> None:
    """The operators of one layer, left to right, each the same width; too many become a count."""
    if not names:
        axis.text(0.05, row, "none: added by the engine", color=MUTED, va="center", fontsize=9.5)
        return
    shown = names if len(names) <= 3 else [*names[:2], f"+{len(names) - 2}"]
    for column, name in enumerate(shown):
        _box(axis, 1.8 * column, row, 1.68, _shorten(name, 12), OPERATOR_COLOURS.get(name, GREY), "white")


def _box(axis, x: float, row: float, width: float, text: str, fill: str, ink: str, edge: str = "none"):
    axis.add_patch(
        FancyBboxPatch(
            (x + 0.06, row - 0.3),
            width - 0.12,
            0.6,
            facecolor=fill,
            edgecolor=edge,
            boxstyle="round,pad=0,rounding_size=0.12",
            linewidth=1,
        )
    )
    axis.text(x + width / 2, row, text, color=ink, fontsize=9.5, ha="center", va="center")


def _colour(index: int, samples: Sequence[Samples]) -> str:
    """The last contestant, which is the baseline, has the same colour in every figure."""
    return PALETTE[(len(samples) - 1 - index) % len(PALETTE)]


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def png(figure: Figure) -> bytes:
    """The figure as a PNG file's bytes, on white."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure, name: str) -> str:
    """The figure as an <svg> element for an HTML page: it takes the page's text colour, so dark mode works.

    The page must define the CSS variables --muted and --line. `name` keeps ids of several figures apart.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    opening, rest = text[text.index("<svg") :].split(">", 1)  # no XML prologue: this is part of a page
    opening = re.sub(r' (width|height|xmlns(:xlink)?)="[^"]*"', "", opening)  # the page decides the size
    text = opening + ">" + re.sub(r"<metadata>.*?</metadata>", "", rest, flags=re.DOTALL)
    return text.replace(INK, "currentColor").replace(MUTED, "var(--muted)").replace(LINE, "var(--line)")
