"""Figures of INT8: one residual block in several engines, what placements cost, noise along the layers, two ranges in one scale.

Same style and colours as `course.plot`. Each function returns a Figure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.patches import FancyBboxPatch

from course.plot import GREY, INK, MUTED, OPERATOR_COLOURS, PALETTE, STYLE, Figure
from course.text import number

if TYPE_CHECKING:
    from course.quantize.trial import Trial

TYPE_COLOURS = {"int8": PALETTE[2], "float16": PALETTE[3], "float32": PALETTE[5]}
_BETWEEN = re.compile(r" \+ |, |[()]")


def block(
    engines: Mapping[str, Sequence[Mapping]],
    prefix: str = "/layer2/layer2.1/",
    notes: Mapping[str, str] | None = None,
    title: str = "One residual block in several engines",
) -> Figure:
    """The layers that a block became: a frame is a layer, boxes are its ONNX nodes, a word is what it writes.

    Args:
        engines: name -> rows of the inspector with "name", "inputs" and "outputs" (name, dtype, format).
        prefix: of the block's ONNX nodes. notes: name -> a few words for the right end.
    """
    notes = notes or {}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 0.95 + 0.66 * len(engines)), layout="constrained")
        axis = figure.subplots()
        axis.set(xlim=(0, 15.4), ylim=(len(engines) - 0.5, -0.85), title=title)
        axis.axis("off")
        written: set[str] = set()
        for row, (name, layers) in enumerate(engines.items()):
            axis.text(0, row, name, fontsize=9.5, va="center", fontweight="bold")
            rows = [layer for layer in layers if _inside(layer["name"], prefix)]
            _block_row(axis, row, rows, prefix)
            written |= {layer["outputs"][0][1] for layer in rows}
            axis.text(15.35, row, notes.get(name, ""), fontsize=9.5, va="center", ha="right")
        axis.text(2.75, -0.72, "frame: one layer.   arrow: it writes", color=MUTED, fontsize=9, va="center")
        for column, kind in enumerate(kind for kind in TYPE_COLOURS if kind in written):
            colour = TYPE_COLOURS[kind]
            axis.text(7.75 + 1.45 * column, -0.72, kind, color=colour, fontsize=9, fontweight="bold", va="center")
    return figure


def _inside(name: str, prefix: str) -> list[str]:
    """The block's nodes in a layer's name; none for a layer that only moves data for another one."""
    if name.startswith("Reformatting CopyNode"):
        return []
    return [node for node in _BETWEEN.split(name) if node.startswith(prefix)]


def _block_row(axis, row: int, layers: Sequence[Mapping], prefix: str) -> None:
    x = 2.75
    for layer in layers:
        labels = [_label(node.removeprefix(prefix)) for node in _inside(layer["name"], prefix)]
        width = 1.02 * len(labels) + 0.2
        axis.add_patch(
            FancyBboxPatch(
                (x, row - 0.33),
                width,
                0.66,
                facecolor="none",
                edgecolor=INK,
                linewidth=1.2,
                boxstyle="round,pad=0,rounding_size=0.12",
            )
        )
        for column, (label, colour) in enumerate(labels):
            axis.add_patch(
                FancyBboxPatch(
                    (x + 0.14 + 1.02 * column, row - 0.23),
                    0.94,
                    0.46,
                    facecolor=colour,
                    edgecolor="none",
                    boxstyle="round,pad=0,rounding_size=0.08",
                )
            )
            axis.text(x + 0.61 + 1.02 * column, row, label, color="white", fontsize=8, ha="center", va="center")
        x += width
        kind = layer["outputs"][0][1]
        axis.annotate(
            "",
            (x + 0.42, row),
            (x + 0.03, row),
            arrowprops={"arrowstyle": "-|>", "color": TYPE_COLOURS.get(kind, GREY), "linewidth": 2},
        )
        x += 0.45


def _label(node: str) -> tuple[str, str]:
    """What a node is called in its box, and the box's colour."""
    if node.endswith("_QuantizeLinear"):
        return "round", GREY
    kind = node.rpartition("/")[2]
    return {"Relu": "ReLU", "Conv": node.partition("/")[0]}.get(kind, kind), OPERATOR_COLOURS.get(kind, GREY)


def ladder(trials: Sequence[Trial], title: str = "Times as fast as FP16") -> Figure:
    """One bar for each trial that has a time, with its interval; the line at 1 is FP16."""
    timed = [one for one in trials if one.ratio is not None]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 1.2 + 0.46 * max(1, len(timed))), layout="constrained")
        axis = figure.subplots()
        for row, one in enumerate(timed):
            ratio, low, high = one.ratio
            axis.barh(row, ratio, height=0.66, color=PALETTE[2] if low > 1 else PALETTE[3])
            axis.plot([low, high], [row, row], color=INK, linewidth=2)
            words = f"{ratio:.2f}, {number(one.ms)} ms ({one.source})"
            axis.text(max(ratio, 1) + 0.03, row, words, va="center", fontsize=9.5)
        axis.axvline(1, color=INK, linewidth=1.2, linestyle="--")
        axis.set_yticks(range(len(timed)), [one.name for one in timed])
        highest = max((one.ratio[0] for one in timed), default=1)
        axis.set(
            xlim=(0, 1.45 * max(1, highest)), xlabel="times as fast as FP16 (dashed), right is faster", title=title
        )
        axis.invert_yaxis()
    return figure
