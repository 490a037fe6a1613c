"""Figures of detectors: boxes on scenes, and the ways to deploy one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullLocator

from course.data.scenes import CLASSES
from course.plot import INK, MUTED, PALETTE, STYLE, Figure

if TYPE_CHECKING:
    from course.detection import Deployment
    from course.models.suppression import Detections

_MARKERS = ("o", "s", "^", "D")


def side_by_side(image: np.ndarray, found: Mapping[str, Detections], score: float = 0.5) -> Figure:
    """The same scene once for each detector, with the boxes that it is sure of and their class and score.

    Args:
        image: uint8 [H, W, 3], RGB. found: name -> detections, boxes in pixels of the image.
        score: lowest that is drawn, 0 to 1.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6 * len(found), 4.9), layout="constrained")
        for axis, (name, detections) in zip(np.ravel(figure.subplots(1, len(found), squeeze=False)), found.items()):
            axis.imshow(image)
            sure = detections.scores >= score
            count = int(sure.sum())
            axis.set(title=f"{name}: {count} box{'' if count == 1 else 'es'}", xticks=[], yticks=[])
            axis.grid(False)
            for box, label, value in zip(detections.boxes[sure], detections.labels[sure], detections.scores[sure]):
                _box(
                    axis,
                    box,
                    f"{CLASSES[label]} {100 * value:.0f} %",
                    PALETTE[int(label) % len(PALETTE)],
                    image.shape[:2],
                )
    return figure


def _box(axis, box: np.ndarray, words: str, colour: str, size: tuple[int, int]) -> None:
    left, top, right, bottom = np.clip(box, 0, [size[1], size[0]] * 2)
    axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="white", linewidth=3.4))
    axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=2))
    near_right = left > 0.62 * size[1]  # the words must stay inside the picture
    axis.text(
        right if near_right else left,
        max(top, 0.045 * size[0]),
        words,
        color=INK,
        fontsize=8,
        va="bottom",
        ha="right" if near_right else "left",
        bbox={"facecolor": "white", "edgecolor": colour, "linewidth": 1, "pad": 1.2, "alpha": 0.85},
    )


def deployments(ways: Sequence[Deployment], frames_per_s: float, budget_ms: float) -> Figure:
    """Each way to deploy as a dot: time from frame to boxes (waiting for the batch included) against mAP.

    Args:
        frames_per_s: from all cameras together. budget_ms: what the time may be; beyond it the figure is grey.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 4.2), layout="constrained")
        axis = figure.subplots()
        kinds = list(dict.fromkeys((way.precision, way.decode) for way in ways))
        batches = sorted({way.batch for way in ways})
        for way in ways:
            x, y = way.total_ms(frames_per_s), 100 * way.map50_95
            axis.scatter(
                x,
                y,
                s=95,
                color=PALETTE[kinds.index((way.precision, way.decode)) % len(PALETTE)],
                marker=_MARKERS[batches.index(way.batch) % len(_MARKERS)],
                zorder=3,
                edgecolor="white",
            )
        highest = max([way.total_ms(frames_per_s) for way in ways] + [budget_ms])
        axis.axvspan(budget_ms, 4 * highest, color=MUTED, alpha=0.15, linewidth=0)
        axis.axvline(budget_ms, color=INK, linewidth=1.2)
        figure.suptitle("Ways to deploy: right of the line is too late", x=0.01, ha="left", fontweight="bold")
        axis.text(
            budget_ms, 1.01, f"budget {budget_ms:g} ms", transform=axis.get_xaxis_transform(), fontsize=10, ha="center"
        )
        axis.set_xscale("log")
        lowest = min(way.total_ms(frames_per_s) for way in ways)
        axis.set(
            xlim=(0.7 * lowest, 1.5 * highest),
            ylabel="mAP in %",
            xlabel="ms from frame to boxes: wait + p99 (logarithmic; left is faster)",
        )
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # 10, 20, 50, 100 ...: they never touch
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.locator_params(axis="y", nbins=5)
        low, high = axis.get_ylim()
        axis.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
        for size in sorted({way.size for way in ways}):
            values = [100 * way.map50_95 for way in ways if way.size == size]
            axis.text(1.02, float(np.mean(values)), f"{size} px", transform=axis.get_yaxis_transform(), va="center")
        for index, (precision, decode) in enumerate(kinds):
            axis.scatter([], [], s=80, color=PALETTE[index % len(PALETTE)], label=f"{precision}, decoded {decode}")
        for index, batch in enumerate(batches):
            axis.scatter([], [], s=80, color=MUTED, marker=_MARKERS[index % len(_MARKERS)], label=f"batch {batch}")
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    return figure
