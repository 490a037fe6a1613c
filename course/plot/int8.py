"""Figures of INT8: one residual block in several engines, what placements cost, noise along the layers, two ranges in one scale.

Same style and colours as `course.plot`. Each function returns a Figure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.patches import FancyBboxPatch

from course.plot import GREY, INK, MUTED, OPERATOR_COLOURS, PALETTE, STYLE, Figure
from course.text import number

if TYPE_CHECKING:
    from course.detection import Accuracy
    from course.quantize import LayerNoise
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


def two_ranges(values: Mapping[str, np.ndarray], scale: float, title: str = "Two ranges, one scale") -> Figure:
    """Magnitudes of several arrays on one log axis, and what a scale makes 0: all that lies below half a step.

    Args:
        values: name -> array; exact zeros are left out. scale: of the tensor that holds all of them.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 3.3), layout="constrained")
        axis = figure.subplots()
        magnitudes = {name: np.abs(array[array != 0]) for name, array in values.items()}
        low = min(array.min() for array in magnitudes.values())
        high = max(127 * scale, *(array.max() for array in magnitudes.values()))
        edges = np.geomspace(max(low, 1e-6 * high), 1.3 * high, 90)
        for (name, array), colour in zip(magnitudes.items(), (PALETTE[0], PALETTE[1], PALETTE[2])):
            counts = np.histogram(array, edges)[0] / len(array)
            axis.stairs(counts, edges, color=colour, linewidth=2, label=f"{name}, up to {number(float(array.max()))}")
        axis.axvspan(edges[0], scale / 2, color=PALETTE[3], alpha=0.1, linewidth=0)
        axis.axvline(scale / 2, color=INK, linewidth=1.4, linestyle="--", label=f"half a step, {number(scale / 2)}")
        axis.set_xscale("log")
        axis.set(xlabel="magnitude (all left of the dashed line becomes 0)", ylabel="share of the values", title=title)
        axis.legend(frameon=False, loc="upper left", fontsize=9.5)
    return figure


def noise(
    layers: Sequence[LayerNoise], named: int = 3, title: str = "Noise of each layer, through the depth"
) -> Figure:
    """SQNR over the position in the network: each layer alone, and with all the noise that has gathered before it.

    Args:
        layers: in the order of the network. named: how many of those with the most noise of their own are named, at most 5.
    """
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "both"}):
        figure = Figure(figsize=(8.2, 3.9), layout="constrained")
        axis = figure.subplots()
        places = range(len(layers))
        alone, gathered = [one.alone for one in layers], [one.gathered for one in layers]
        axis.plot(
            places, gathered, color=PALETTE[3], linewidth=2, label="gathered: with the noise of all layers before"
        )
        axis.plot(places, alone, "o", color=PALETTE[1], markersize=6, label="alone: exact inputs")
        worst = sorted(places, key=lambda place: alone[place])[:named]
        for place, marker in zip(worst, "s^Dvp"):
            label = layers[place].node.removesuffix("/Conv")
            axis.plot(place, alone[place], marker, color=INK, markersize=8, linestyle="none", label=label)
        axis.set(xlabel="layer, in the order of the network", ylabel="SQNR in dB (higher is better)", title=title)
        bottom, top = axis.get_ylim()
        axis.set_ylim(bottom, top + 0.4 * (top - bottom))
        axis.legend(frameon=False, loc="upper right", ncols=2, fontsize=9)
    return figure


def gains(rows: Sequence[Accuracy], title: str) -> Figure:
    """mAP and SQNR of the boxes, a pair of bars for each version of a detector."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 1.2 + 0.42 * len(rows)), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
        left, right = figure.subplots(1, 2, sharey=True)
        for axis, values, colour, unit in (
            (left, [one.boxes_db for one in rows], PALETTE[1], "boxes: SQNR in dB"),
            (right, [100 * one.map50_95 for one in rows], PALETTE[2], "mAP in %"),
        ):
            shown = [value if np.isfinite(value) else 0.0 for value in values]
            axis.barh(range(len(rows)), shown, height=0.62, color=colour)
            for place, value in enumerate(values):
                words = f"{value:.1f}" if np.isfinite(value) else "exact"
                axis.text(max(0.0, shown[place]), place, f" {words}", va="center", fontsize=9.5)
            axis.set(xlabel=unit, xlim=(min(0.0, *shown), 1.2 * max(1.0, *shown)))
        left.set_yticks(range(len(rows)), [one.name for one in rows])
        left.invert_yaxis()
    return figure
