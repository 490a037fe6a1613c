"""Figures of load tests: throughput against the tail, the batches that formed, and latencies over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator

from course.plot import INK, MUTED, PALETTE, STYLE, Figure
from course.serving import Load

_MS = FuncFormatter(lambda value, _: f"{value:g}")


def tail(
    series: Mapping[str, Sequence[Load]], limit_ms: float | None = None, title: str = "Throughput against p99"
) -> Figure:
    """p99 in ms over answers/s, one line for each series, its loads in the order in which they ran. Log axis for ms.

    Args:
        series: name -> loads, for instance of `sweep`.
        limit_ms: a limit for p99, drawn as a dashed line.
    """
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "both"}):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        axis = figure.subplots()
        for (name, loads), colour in zip(series.items(), PALETTE[1:] + PALETTE[:1]):
            x, y = [load.rate for load in loads], [load.p99 for load in loads]
            axis.plot(x, y, "o-", color=colour, linewidth=1.6, markersize=6, label=name)
            for load, left, up in zip(loads, x, y):
                if load.failed:  # a short tail is no merit where requests were refused
                    axis.annotate(
                        f"{100 * load.failed / load.sent:.0f} % failed",
                        (left, up),
                        xytext=(6, -10),
                        textcoords="offset points",
                        fontsize=8.5,
                        color=colour,
                    )
        if limit_ms is not None:
            axis.axhline(limit_ms, color=INK, linestyle="--", linewidth=1)
            axis.text(
                0.995, limit_ms, f"limit {limit_ms:g} ms", transform=axis.get_yaxis_transform(), va="bottom", ha="right"
            )
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(_MS)
        axis.minorticks_off()
        axis.set(xlabel="answers/s (right is more)", ylabel="p99 in ms (down is better)", title=title)
        axis.set_xlim(left=0)
        axis.legend(frameon=False, loc="best")
    return figure


def batches(loads: Sequence[Load], title: str = "Batches that formed") -> Figure:
    """For each load, the share of requests that were answered in a batch of each size.

    A request, not a call, is what is counted: one call with a batch of 8 weighs as much as eight of batch 1.
    """
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "y"}):
        figure = Figure(figsize=(7.2, 0.9 + 1.25 * len(loads)), layout="constrained")
        axes = figure.subplots(len(loads), 1, squeeze=False, sharex=True)[:, 0]
        largest = max((max(load.server.batches, default=1) for load in loads), default=1)
        for axis, load in zip(axes, loads):
            total = max(sum(size * count for size, count in load.server.batches.items()), 1)
            sizes = list(load.server.batches)
            axis.bar(
                sizes, [100 * size * load.server.batches[size] / total for size in sizes], color=PALETTE[1], width=0.8
            )
            axis.set_xlim(0.3, largest + 0.7)
            mean = load.server.mean_batch
            axis.axvline(mean, color=PALETTE[3], linewidth=1.5, linestyle="--")
            axis.set_title(f"{load.label}: mean {mean:.1f}, {load.server.executions:,} calls", fontsize=10)
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))
            axis.locator_params(axis="y", nbins=3)
        axes[-1].set_xlabel("batch size (dashed: mean)")
        axes[-1].xaxis.get_major_locator().set_params(integer=True)
        figure.supylabel("share of the requests", fontsize=11)
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
    return figure


def latencies(load: Load, title: str = "Each request") -> Figure:
    """Every request as a dot: when it was due, how long its answer took. Failures are crosses at the top. Log axis."""
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "y"}):
        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        axis = figure.subplots()
        good = load.records[load.records["status"] == 200]
        bad = load.records[load.records["status"] != 200]
        milliseconds = (good["done"] - good["due"]) * 1e3
        axis.scatter(good["due"], milliseconds, s=8, color=PALETTE[1], alpha=0.5, linewidths=0, rasterized=True)
        if len(bad):
            top = milliseconds.max(initial=1) * 1.5
            axis.scatter(
                bad["due"], np.full(len(bad), top), s=24, color=PALETTE[3], marker="x", label=f"{len(bad)} failed"
            )
            axis.legend(frameon=False, loc="lower right")
        for percent, name in ((50, "p50"), (99, "p99")) if len(good) else ():
            value = load.percentile(percent)
            axis.axhline(value, color=MUTED, linewidth=1)
            axis.text(
                1.005, value, f"{name} {value:.3g}", transform=axis.get_yaxis_transform(), va="center", fontsize=9
            )
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(_MS)
        axis.minorticks_off()
        axis.set(xlabel="due, s from the start", ylabel="latency in ms", title=title, xlim=(0, load.seconds))
    return figure
