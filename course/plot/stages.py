"""A request on a timeline: what each stage of a service took, one row for each service or request."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib

from course.plot import INK, PALETTE, STYLE, Figure


def timeline(rows: Mapping[str, Mapping[str, float]], title: str = "One request") -> Figure:
    """Stages one after the other, as bars from left to right.

    Args:
        rows: label -> stage -> milliseconds, in the order in which they run. A stage has one colour in all rows.
    """
    stages = list(dict.fromkeys(stage for spans in rows.values() for stage in spans))
    longest = max(sum(spans.values()) for spans in rows.values())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 1.5 + 0.55 * len(rows)), layout="constrained")
        axis = figure.subplots()
        for row, spans in enumerate(rows.values()):
            begin = 0.0
            for stage, taken in spans.items():
                colour = PALETTE[stages.index(stage) % len(PALETTE)]
                axis.barh(row, taken, left=begin, height=0.62, color=colour, edgecolor="white")
                if taken > 0.06 * longest:
                    axis.text(begin + taken / 2, row, f"{taken:.1f}", ha="center", va="center", color=INK, fontsize=9)
                begin += taken
            axis.text(begin + 0.01 * longest, row, f"{begin:.1f} ms", va="center", fontsize=9)
        for index, stage in enumerate(stages):
            axis.barh(0, 0, color=PALETTE[index % len(PALETTE)], label=stage)
        axis.set_yticks(range(len(rows)), list(rows))
        axis.set(
            xlim=(0, 1.15 * longest), ylim=(len(rows) - 0.4, -0.6), xlabel="ms from the request's start", title=title
        )
        axis.legend(frameon=False, ncols=len(stages), loc="upper center", bbox_to_anchor=(0.5, -0.35 / len(rows) - 0.2))
    return figure
