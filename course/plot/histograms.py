"""Figures of quantisation: activations with the limits that calibrators choose, what clipping and rounding cost,
channels of a weight, and calibration sets beside each other.

Same style and colours as `course.plot`. Each function returns a Figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from course.plot import INK, MUTED, PALETTE, STYLE, Figure
from course.quantize import Histogram

DRAWN = 128
"""Bars of a histogram: its bins are merged to no more than this many."""
_BARS = "#9aa3ab"


def limits(
    histograms: Mapping[str, Histogram],
    chosen: Mapping[str, Mapping[str, float]],
    title: str = "What each calibrator clips",
) -> Figure:
    """Histogram of |x| of each tensor, counts on a log axis, and a line where each calibrator cuts it off.

    Args:
        histograms: title of a panel -> histogram of the tensor; the first channel is drawn.
        chosen: calibrator -> title of a panel -> largest magnitude that it covers; a panel may be missing.
    """
    with matplotlib.rc_context(STYLE):
        rows = -(-len(histograms) // 2)
        figure = Figure(figsize=(8.2, 1.15 + 2.15 * rows), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
        panels = figure.subplots(rows, 2, squeeze=False).ravel()
        for axis, (name, histogram) in zip(panels, histograms.items()):
            _bars(axis, histogram, _BARS)
            for (_calibrator, by_panel), colour, style in zip(chosen.items(), PALETTE[::-1], _STYLES):
                if name in by_panel:
                    axis.axvline(by_panel[name], color=colour, linewidth=2, linestyle=style)
            axis.set_title(name, fontsize=10)
            axis.set_xlabel("|x|", labelpad=1)
            axis.set_xlim(0, 1.03 * float(histogram.largest[0]))
        for axis in panels[len(histograms) :]:
            axis.set_visible(False)
        figure.supylabel("values in a bin (log)", fontsize=10)
        handles = [
            Line2D([], [], color=colour, linewidth=2, linestyle=style, label=calibrator)
            for calibrator, colour, style in zip(chosen, PALETTE[::-1], _STYLES)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9.5)
    return figure


_STYLES = ("-", (0, (5, 1.5)), "-.", (0, (1, 1)), "-", "--")
"""Lines that lie on each other stay visible."""


def trade_off(
    limits: Sequence[float],
    rounding: Sequence[float],
    clipping: Sequence[float],
    title: str = "Saturation against resolution",
) -> Figure:
    """Mean squared error over the limit of the range, in its two parts; the smallest sum is marked. Log axis.

    Args:
        limits: largest magnitudes that are covered, rising; the last covers everything.
        rounding, clipping: mean squared error of values inside and of values outside, for each limit.
    """
    limits, rounding, clipping = (np.asarray(one, np.float64) for one in (limits, rounding, clipping))
    total = rounding + clipping
    best = int(total.argmin())
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "both"}):
        figure = Figure(figsize=(7.2, 3.7), layout="constrained")
        axis = figure.subplots()
        for values, colour, label in (
            (clipping, PALETTE[3], "clipped values: saturation"),
            (rounding, PALETTE[1], "values inside: resolution"),
        ):
            seen = values > 0
            axis.plot(limits[seen], values[seen], color=colour, linewidth=2, label=label)
        axis.plot(limits, total, color=INK, linewidth=2.4, linestyle="--", label="both")
        axis.plot(limits[best], total[best], "o", color=INK, markersize=9)
        axis.annotate(
            f"least at {limits[best]:.3g}",
            (limits[best], total[best]),
            xytext=(8, -16),
            textcoords="offset points",
            fontsize=10,
        )
        axis.set_yscale("log")
        axis.set(
            xlabel=f"limit of the range (everything is inside at {limits[-1]:.3g})",
            ylabel="mean squared error",
            title=title,
            ylim=(total[best] / 6, total.max() * 2),
        )
        axis.yaxis.set_minor_locator(NullLocator())
        axis.legend(frameon=False, loc="upper center", fontsize=9.5)
    return figure


def channels(
    largest: Sequence[float],
    by_tensor: Sequence[float],
    by_channel: Sequence[float],
    title: str = "One scale for the tensor, or one for each channel",
) -> Figure:
    """Signal to quantisation noise of each channel of a weight over its largest magnitude, for both ways. Log axis.

    Args:
        largest: largest |w| of each channel. by_tensor, by_channel: SQNR of each channel in dB.
    """
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "both"}):
        figure = Figure(figsize=(7.2, 3.7), layout="constrained")
        axis = figure.subplots()
        shared = {"s": 26, "linewidths": 0, "alpha": 0.85}
        axis.scatter(largest, by_channel, color=PALETTE[1], label="a scale for each channel", marker="s", **shared)
        axis.scatter(largest, by_tensor, color=PALETTE[3], label="one scale for the tensor", **shared)
        axis.axhline(0, color=MUTED, linewidth=1)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set(xlabel="largest |w| of the channel", ylabel="SQNR in dB (higher is better)", title=title)
        bottom, top = axis.get_ylim()
        axis.set_ylim(bottom, top + 0.22 * (top - bottom))
        axis.legend(frameon=False, loc="upper left", ncols=2, fontsize=9.5)
    return figure


def overlay(
    histograms: Mapping[str, Histogram],
    limit: float,
    title: str,
    unit: str = "|x|",
) -> Figure:
    """Two or more histograms of one tensor, as shares of their values, and the limit that was chosen on the first.

    What lies to the right of the line is clipped; its share stands in the legend.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 3.5), layout="constrained")
        axis = figure.subplots()
        highest = max(float(one.largest[0]) for one in histograms.values())
        handles = []
        for (name, histogram), colour in zip(histograms.items(), (PALETTE[0], PALETTE[1], PALETTE[2], PALETTE[5])):
            edges, shares = _merged(histogram, highest)
            axis.stairs(np.maximum(shares, 1e-12), edges, color=colour, linewidth=2)
            above = clipped(histogram, limit)
            handles.append(Line2D([], [], color=colour, linewidth=2, label=f"{name}: {_percent(above)} clipped"))
        axis.axvline(limit, color=INK, linewidth=1.6, linestyle="--")
        axis.axvspan(limit, 1.03 * highest, color=PALETTE[3], alpha=0.08, linewidth=0)
        first = next(iter(histograms))
        handles.append(Line2D([], [], color=INK, linewidth=1.6, linestyle="--", label=f"limit from {first}"))
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g} %"))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.set(xlim=(0, 1.03 * highest), xlabel=unit, ylabel="share of the values", title=title)
        smallest = min(1 / int(one.total[0]) for one in histograms.values())
        axis.set_ylim(smallest, 1)
        axis.legend(handles=handles, frameon=False, loc="upper right", fontsize=9.5)
    return figure


def clipped(histogram: Histogram, limit: float) -> float:
    """Share of the values (0 to 1) whose bin lies above `limit`."""
    counts = histogram.magnitudes()[0]
    first = int(np.ceil(limit / float(histogram.widths[0]) - 1e-9))
    return float(counts[first:].sum() / max(1, counts.sum()))


def spread(
    sets: Mapping[str, Sequence[float]],
    wanted: float,
    title: str,
    unit: str = "limit of the range",
) -> Figure:
    """One dot for each calibration set, a row for each kind of set: how far apart do sets of one kind lie?

    Args:
        sets: kind, such as "8 images" -> the value that each set of it gave. wanted: drawn as a line.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 1.2 + 0.42 * len(sets)), layout="constrained")
        axis = figure.subplots()
        for row, values in enumerate(sets.values()):
            axis.plot(values, [row] * len(values), "o", color=PALETTE[1], markersize=9, alpha=0.55, markeredgewidth=0)
        axis.axvline(wanted, color=INK, linewidth=1.4, linestyle="--")
        axis.set_yticks(range(len(sets)), list(sets))
        axis.set(ylim=(len(sets) - 0.5, -0.5), xlabel=unit, title=title)
    return figure


def intervals(
    rows: Mapping[str, tuple[float, float, float]],
    unit: str,
    title: str,
    zero: str = "",
) -> Figure:
    """A dot with its 95 % interval for each entry, and the number beside it.

    Args:
        rows: name -> (value, low, high).
        zero: what a value of 0 means, written at a line there; none if empty.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 1.1 + 0.4 * len(rows)), layout="constrained")
        axis = figure.subplots()
        low, high = min(row[1] for row in rows.values()), max(row[2] for row in rows.values())
        low, high = (min(low, 0), max(high, 0)) if zero else (low, high)
        room = max(high - low, 1e-9)
        for place, (value, bottom, top) in enumerate(rows.values()):
            colour = PALETTE[1]
            axis.plot([bottom, top], [place, place], color=colour, linewidth=2.4, solid_capstyle="butt")
            axis.plot(value, place, "o", color=colour, markersize=8)
            axis.text(high + 0.05 * room, place, f"{value:.1f}  ({bottom:.1f} to {top:.1f})", va="center", fontsize=9.5)
        if zero:
            axis.axvline(0, color=INK, linewidth=1.2, linestyle="--")
        axis.set_yticks(range(len(rows)), list(rows))
        axis.set(xlim=(low - 0.05 * room, high + 0.42 * room), ylim=(len(rows) - 0.5, -0.5))
        axis.set(xlabel=unit + (f" (dashed: {zero})" if zero else ""), title=title)
        axis.locator_params(axis="x", nbins=6)
    return figure


def pictures(rows: Mapping[str, np.ndarray], title: str) -> Figure:
    """Rows of images under each other: what goes into a network.

    Args:
        rows: name -> uint8 [N, H, W, 3], RGB; the same N for all.
    """
    count = max(len(images) for images in rows.values())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 0.55 + 1.05 * len(rows)), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
        panels = figure.subplots(len(rows), count, squeeze=False)
        for line, (name, images) in zip(panels, rows.items()):
            for axis, image in zip(line, images):
                axis.imshow(image)
            for axis in line:
                axis.set(xticks=[], yticks=[])
                axis.grid(False)
                axis.spines[:].set_visible(False)
            line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
    return figure


def _bars(axis, histogram: Histogram, colour: str) -> None:
    edges, shares = _merged(histogram, float(histogram.largest[0]))
    counts = shares * float(histogram.total[0])
    axis.stairs(np.maximum(counts, 0.5), edges, fill=True, color=colour)
    axis.set_yscale("log")
    axis.yaxis.set_minor_locator(NullLocator())
    axis.set_ylim(0.5, None)


def _merged(histogram: Histogram, highest: float) -> tuple[np.ndarray, np.ndarray]:
    """Edges and shares of at most DRAWN bars of |x| from 0 to `highest`."""
    width = float(histogram.widths[0])
    used = min(histogram.bins, int(np.ceil(highest / width)))
    together = max(1, -(-used // DRAWN))
    counts = histogram.magnitudes()[0]
    bars = -(-used // together)
    padded = np.zeros(bars * together)
    padded[: min(len(counts), len(padded))] = counts[: len(padded)]
    return width * together * np.arange(bars + 1), padded.reshape(bars, together).sum(1) / max(1, counts.sum())


def _percent(share: float) -> str:
    return "nothing" if share == 0 else f"{100 * share:.2g} %"
