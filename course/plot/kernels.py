"""Figures of CUDA kernels, drawn from the accesses that the CPU checker recorded: who touches what, and what a warp's
request fetches.

Same style and colours as `course.plot`. Each function returns a Figure.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.patches import Rectangle

from course.kernels import Trace
from course.plot import INK, LINE, MUTED, PALETTE, STYLE, Figure

LINE_BYTES, SECTOR, WARP = 128, 32, 32
_UNUSED = "#c4cad0"


def owners(traces: Mapping[str, Trace], buffer: str, elements: int, size: int = 4) -> Figure:
    """Which thread touches which element: a cell an element, 32 in a row, with its thread's number in the colour of the
    block. An element that nobody touches stays empty.

    Args:
        traces: title of a panel -> record of one call.
        elements: how many to draw, from the first. size: bytes of one.
    """
    rows = -(-elements // 32)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(8.2, 0.5 + len(traces) * (0.5 + 0.235 * rows)), layout="constrained")
        panels = figure.subplots(len(traces), 1, squeeze=False).ravel()
        for axis, (title, trace) in zip(panels, traces.items()):
            at = trace.of(buffer)
            element, order = np.unique(trace.offset[at] // size, return_index=True)  # the first access of each
            found = {int(e): (int(trace.thread[i]), int(trace.block[i])) for e, i in zip(element, at[order])}
            for index in range(elements):
                x, y = index % 32, index // 32
                if index not in found:
                    axis.add_patch(Rectangle((x, y), 1, 1, facecolor="none", edgecolor=LINE, linewidth=0.6))
                    continue
                thread, block = found[index]
                colour = PALETTE[(1, 0, 2, 3, 4, 5)[block % 6]]
                axis.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", linewidth=0.6))
                axis.text(x + 0.5, y + 0.5, thread, color=_ink(colour), ha="center", va="center", fontsize=6.2)
            axis.set(xlim=(0, 32), ylim=(rows, 0), xticks=[], title=title)
            axis.set_yticks(np.arange(rows) + 0.5, [f"{buffer}[{32 * row}]" for row in range(rows)], fontsize=8)
            axis.tick_params(axis="y", length=0)
            axis.spines["bottom"].set_visible(False)
        figure.supxlabel("in a cell: the thread's number; colour: its block", fontsize=9.5, color=MUTED)
    return figure


def requests(traces: Mapping[str, Trace], buffer: str, rows: int = 8, line: Mapping[str, int] | None = None) -> Figure:
    """What the first warp's first request to a buffer fetches: 128 bytes a row, with the lanes that use them.

    A cell is 4 bytes, or less if the access is narrower; its number is the lane. Grey cells belong to sectors of 32 bytes
    that are fetched, but not used by this request.

    Args:
        traces: title of a panel -> record of one call.
        rows: 128-byte rows to draw, from the buffer's beginning.
        line: title -> source line of the access; without it the first access to the buffer counts.
    """
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(8.2, 0.5 + len(traces) * (0.55 + 0.2 * rows)), layout="constrained")
        panels = figure.subplots(len(traces), 1, squeeze=False).ravel()
        for axis, (title, trace) in zip(panels, traces.items()):
            lanes, offsets, size = first_request(trace, buffer, (line or {}).get(title))
            sectors = np.unique(np.concatenate([offsets // SECTOR, (offsets + size - 1) // SECTOR]))
            useful = len(np.unique(offsets)) * size
            axis.set_title(
                f"{title}: {len(sectors)} sectors = {SECTOR * len(sectors)} bytes fetched, {useful} used", fontsize=11
            )
            _memory(axis, sectors, rows)
            _lanes(axis, lanes, offsets, size)
            axis.set(xlim=(0, LINE_BYTES), ylim=(rows, 0))
            axis.set_xticks(range(0, LINE_BYTES + 1, SECTOR))
            axis.set_yticks(np.arange(rows) + 0.5, [f"+{LINE_BYTES * row}" for row in range(rows)], fontsize=8)
            axis.tick_params(axis="x", length=0, labelsize=8)
            axis.spines["bottom"].set_visible(False)
        figure.supxlabel(
            "bytes, 128 in a row; number: lane; grey: fetched, not used by this request", fontsize=9.5, color=MUTED
        )
    return figure


def first_request(trace: Trace, buffer: str, line: int | None = None) -> tuple[np.ndarray, np.ndarray, int]:
    """Lanes and offsets in bytes of the first request of block 0's warp 0 to a buffer, and the size of an access.

    Raises:
        KeyError: the trace has no such buffer. ValueError: warp 0 did not touch it.
    """
    at = trace.of(buffer)
    at = at[(trace.block[at] == 0) & (trace.thread[at] < WARP)]
    if line is not None:
        at = at[trace.line[at] == line]
    if not len(at):
        raise ValueError(f"warp 0 of block 0 does not touch {buffer}")
    at = at[trace.site[at] == trace.site[at[0]]]
    lanes, first = np.unique(trace.thread[at], return_index=True)
    return lanes, trace.offset[at[first]], int(trace.size[at[0]])


def _memory(axis, sectors: np.ndarray, rows: int) -> None:
    """Boxes of the sectors: grey if fetched, empty if not."""
    for sector in range(rows * LINE_BYTES // SECTOR):
        x, y = SECTOR * sector % LINE_BYTES, SECTOR * sector // LINE_BYTES
        colour = _UNUSED if sector in sectors else "none"
        axis.add_patch(Rectangle((x, y + 0.06), SECTOR, 0.88, facecolor=colour, edgecolor=LINE, linewidth=0.7))


def _lanes(axis, lanes: np.ndarray, offsets: np.ndarray, size: int) -> None:
    for lane, offset in zip(lanes.tolist(), offsets.tolist()):
        x, y = offset % LINE_BYTES, offset // LINE_BYTES
        colour = PALETTE[1] if lane % 2 == 0 else PALETTE[4]
        axis.add_patch(Rectangle((x, y + 0.06), size, 0.88, facecolor=colour, edgecolor="white", linewidth=0.5))
        if size >= 4:
            axis.text(x + size / 2, y + 0.5, lane, color=_ink(colour), ha="center", va="center", fontsize=6.2)


def _ink(colour: str) -> str:
    """White or dark, whichever reads better on the colour."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 150 else INK


def banks(requests: Mapping[str, np.ndarray], rows: int = 8) -> Figure:
    """Which bank of shared memory each lane of one request asks, 4 bytes a lane: 32 banks from left to right, a row for
    128 bytes. Lanes one below the other ask the same bank for different words, and wait for one another.

    Args:
        requests: title of a panel -> offsets in bytes [lanes].
    """
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(8.2, 0.5 + len(requests) * (0.55 + 0.2 * rows)), layout="constrained")
        panels = figure.subplots(len(requests), 1, squeeze=False).ravel()
        for axis, (title, offsets) in zip(panels, requests.items()):
            words = offsets // 4
            busiest = max(len(set(words[words % 32 == bank].tolist())) for bank in range(32))
            axis.set_title(f"{title}: {busiest} pass{'es' if busiest > 1 else ''}", fontsize=11)
            for bank in range(32):
                asked = len(set(words[words % 32 == bank].tolist()))
                colour = PALETTE[3] if asked > 1 else PALETTE[1]
                axis.add_patch(Rectangle((bank, 0), 1, rows, facecolor="none", edgecolor=LINE, linewidth=0.6))
                for lane in np.flatnonzero(words % 32 == bank):
                    y = words[lane] // 32
                    axis.add_patch(Rectangle((bank, y), 1, 0.94, facecolor=colour, edgecolor="white", linewidth=0.5))
                    axis.text(bank + 0.5, y + 0.47, int(lane), color="white", ha="center", va="center", fontsize=6.2)
            axis.set(xlim=(0, 32), ylim=(rows, 0))
            axis.set_xticks(np.arange(0, 32, 4) + 0.5, range(0, 32, 4), fontsize=8)
            axis.set_yticks(np.arange(rows) + 0.5, [f"+{LINE_BYTES * row}" for row in range(rows)], fontsize=8)
            axis.tick_params(length=0)
            axis.spines["bottom"].set_visible(False)
        figure.supxlabel("bank; number: lane; orange: a bank that must give several words", fontsize=9.5, color=MUTED)
    return figure
