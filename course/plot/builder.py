"""Figures of what a builder does and what a run costs: memory plans, tuning tables, bars, timelines.

Same style and colours as `course.plot`. Each function returns a Figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.patches import Patch, Rectangle

from course.plot import GREY, INK, LINE, MUTED, PALETTE, STYLE, Figure
from course.profiling.trtexec import LayerTime, Trace
from course.text import number

STEP_COLOURS = {
    "H2D copy": PALETTE[4],
    "GPU compute": PALETTE[1],
    "D2H copy": PALETTE[2],
    "launch": PALETTE[0],
    "unexplained": "#b6bcc2",
    "copies": PALETTE[4],
    "compute": PALETTE[1],
}


def memory_map(
    blocks: Sequence[tuple[int, int, int, int]], title: str = "Memory plan", bound: int | None = None
) -> Figure:
    """Every tensor as a rectangle: when it lives (x), where it lies (y).

    Args:
        blocks: (first step, last step, address in bytes, size in bytes), steps inclusive.
        bound: bytes that no plan can do without; drawn as a line.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 3.9), layout="constrained")
        axis = figure.subplots()
        for index, (first, last, address, size) in enumerate(blocks):
            axis.add_patch(
                Rectangle(
                    (first - 0.5, address / 1e6),
                    last - first + 1,
                    size / 1e6,
                    linewidth=0.6,
                    facecolor=PALETTE[index % len(PALETTE)],
                    edgecolor="white",
                )
            )
        peak = max(address + size for _, _, address, size in blocks)
        axis.set(
            xlim=(-0.6, max(last for _, last, _, _ in blocks) + 0.6),
            ylim=(0, 1.18 * max(peak, bound or 0) / 1e6),
            xlabel="step: which layer runs",
            ylabel="address in MB",
            title=title,
        )
        if bound is not None:
            axis.axhline(bound / 1e6, color=INK, linewidth=1.2, linestyle="--")
        note = f"highest address {number(peak / 1e6)} MB"
        note += f" · dashed: {number(bound / 1e6)} MB live at once" if bound is not None else ""
        axis.text(0.99, 0.97, note, transform=axis.transAxes, ha="right", va="top", fontsize=9.5, color=INK)
        axis.grid(True, axis="y")
        axis.grid(False, axis="x")
    return figure


def bars(values: Mapping[str, float], unit: str, title: str, note: str = "") -> Figure:
    """One horizontal bar per entry with its number; the first has a colour of its own.

    Args:
        note: after the unit on the axis, such as "(less is better)".
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 1.0 + 0.46 * len(values)), layout="constrained")
        axis = figure.subplots()
        highest = max(values.values()) or 1.0
        for row, (_name, value) in enumerate(values.items()):
            axis.barh(row, value, height=0.68, color=PALETTE[0] if row == 0 else PALETTE[1])
            axis.text(value + 0.012 * highest, row, f"{number(value)} {unit}", va="center", fontsize=10)
        axis.set_yticks(range(len(values)), list(values))
        axis.set(xlim=(0, 1.3 * highest), xlabel=f"{unit} {note}".strip(), title=title)
        axis.locator_params(axis="x", nbins=5)
        axis.invert_yaxis()
    return figure


def tuning(times: Mapping[str, Mapping[str, float]], title: str = "Which implementation wins?") -> Figure:
    """For each shape the time of each implementation, as a multiple of the fastest; the fastest is marked.

    Args:
        times: shape in words -> implementation -> ms. Every shape has the same implementations.
    """
    names = list(next(iter(times.values())))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 1.5 + 0.22 * len(times) * (len(names) + 0.8)), layout="constrained")
        axis = figure.subplots()
        slowest = max(max(by_name.values()) / min(by_name.values()) for by_name in times.values())
        limit = min(6.0, slowest)
        row, ticks = 0.0, []
        for by_name in times.values():
            fastest = min(by_name.values())
            ticks.append(row + (len(names) - 1) / 2)
            for index, name in enumerate(names):
                ratio = by_name[name] / fastest
                wins = by_name[name] == fastest
                axis.barh(row, min(ratio, limit), height=0.82, color=PALETTE[index])
                text = f"{number(by_name[name])} ms" + (", fastest" if wins else f", × {number(ratio)}")
                axis.text(
                    min(ratio, limit) + 0.06,
                    row,
                    text,
                    va="center",
                    fontsize=8.5,
                    fontweight="bold" if wins else "normal",
                )
                row += 1
            row += 0.8
        axis.set_yticks(ticks, list(times))
        cut = " (cut at 6)" if slowest > limit else ""
        axis.set(xlim=(0, 1.32 * limit), xlabel=f"time as a multiple of the fastest{cut}", title=title)
        axis.invert_yaxis()
        figure.legend(
            handles=[Patch(color=PALETTE[i], label=name) for i, name in enumerate(names)],
            loc="outside lower center",
            ncols=len(names),
            frameon=False,
            fontsize=9.5,
        )
    return figure


def slowest_layers(rows: Sequence[LayerTime], count: int = 10, title: str = "The slowest layers") -> Figure:
    """The `count` layers that take most time; the share of the others stands below."""
    ordered = sorted(rows, key=lambda row: -row.mean_ms)
    shown, rest = ordered[:count], ordered[count:]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 1.3 + 0.36 * len(shown)), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
        axis = figure.subplots()
        highest = shown[0].mean_ms or 1.0
        for place, row in enumerate(shown):
            axis.barh(place, row.mean_ms, height=0.7, color=PALETTE[1])
            axis.text(
                row.mean_ms + 0.012 * highest,
                place,
                f"{number(row.mean_ms)} ms, {100 * row.share:.1f} %",
                va="center",
                fontsize=9,
            )
        axis.set_yticks(range(len(shown)), [_end_of(row.name) for row in shown], fontsize=9)
        others = f"; {len(rest)} other layers: {100 * sum(row.share for row in rest):.0f} %" if rest else ""
        axis.set(xlim=(0, 1.35 * highest), xlabel=f"ms per run{others}")
        axis.locator_params(axis="x", nbins=5)
        axis.invert_yaxis()
    return figure


def timeline(trace: Trace, queries: int = 6, title: str = "When each query copies and computes") -> Figure:
    """The first queries of a trace, one row each: copy in, compute, copy out. Milliseconds."""
    count = min(queries, len(trace.compute_start))
    steps = {
        "H2D copy": (trace.h2d_start, trace.h2d_end),
        "GPU compute": (trace.compute_start, trace.compute_end),
        "D2H copy": (trace.d2h_start, trace.d2h_end),
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 1.4 + 0.36 * count), layout="constrained")
        axis = figure.subplots()
        begin = float(trace.h2d_start[0])
        for name, (start, end) in steps.items():
            for row in range(count):
                axis.barh(row, end[row] - start[row], left=start[row] - begin, height=0.66, color=STEP_COLOURS[name])
        axis.set_yticks(range(count), [f"query {row + 1}" for row in range(count)])
        axis.set(xlabel="ms", title=title)
        axis.invert_yaxis()
        figure.legend(
            handles=[Patch(color=STEP_COLOURS[name], label=name) for name in steps],
            loc="outside lower center",
            ncols=3,
            frameon=False,
            fontsize=9.5,
        )
    return figure


def parts(runs: Mapping[str, Mapping[str, float]], title: str = "Where a script's time goes") -> Figure:
    """One stacked bar per run: its parts in ms, with names from STEP_COLOURS (others are grey)."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 1.3 + 0.5 * len(runs)), layout="constrained")
        axis = figure.subplots()
        used: dict[str, str] = {}
        highest = max(sum(by_part.values()) for by_part in runs.values())
        for row, by_part in enumerate(runs.values()):
            left = 0.0
            for name, ms in by_part.items():
                used[name] = STEP_COLOURS.get(name, GREY)
                axis.barh(row, ms, left=left, height=0.66, color=used[name], edgecolor="white", linewidth=0.5)
                left += ms
            axis.text(left + 0.012 * highest, row, f"{number(left)} ms", va="center", fontsize=10)
        axis.set_yticks(range(len(runs)), list(runs))
        axis.set(xlim=(0, 1.18 * highest), xlabel="ms per query", title=title)
        axis.invert_yaxis()
        figure.legend(
            handles=[Patch(color=colour, label=name) for name, colour in used.items()],
            loc="outside lower center",
            ncols=max(1, len(used)),
            frameon=False,
            fontsize=9.5,
        )
    return figure


def lifetimes(tensors: Sequence[tuple[int, int, int]], title: str = "Bytes alive at each step") -> Figure:
    """Sum of the sizes of the tensors that are alive at each step.

    Args:
        tensors: (size in bytes, first step, last step), steps inclusive.
    """
    steps = max(last for _, _, last in tensors) + 1
    live = [sum(size for size, first, last in tensors if first <= step <= last) / 1e6 for step in range(steps)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 2.6), layout="constrained")
        axis = figure.subplots()
        axis.bar(range(steps), live, width=0.9, color=PALETTE[1])
        top = max(live)
        axis.axhline(top, color=INK, linewidth=1, linestyle="--")
        axis.text(steps - 0.5, top * 1.03, f"at most {number(top)} MB", ha="right", va="bottom", fontsize=9.5)
        axis.set(
            xlim=(-0.6, steps - 0.4), ylim=(0, 1.2 * top), title=title, xlabel="step: which layer runs", ylabel="MB"
        )
        axis.grid(True, axis="y", color=LINE)
        axis.grid(False, axis="x")
        axis.tick_params(colors=MUTED, labelcolor=INK)
    return figure


def _end_of(name: str, length: int = 44) -> str:
    """A layer's name without what all of them have; its end tells more than its beginning."""
    name = name.removesuffix("_nchwc").removesuffix("_output_0")
    return name if len(name) <= length else "…" + name[-length + 1 :]
