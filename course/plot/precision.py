"""Figures of the precision lesson: bits, range and step of formats, errors over layers, sums that stop growing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator

from course.plot import INK, MUTED, PALETTE, STYLE, Figure
from course.precision import FORMATS, Format

COLOURS = {"FP32": MUTED, "TF32": PALETTE[2], "FP16": PALETTE[1], "BF16": PALETTE[3]}
PARTS = (("sign", PALETTE[5]), ("exponent: how large", PALETTE[1]), ("mantissa: how exact", PALETTE[0]))


def bits(formats: Sequence[Format] = tuple(FORMATS.values())) -> Figure:
    """Each format as a row of boxes, one for each bit: sign, exponent, mantissa."""
    widest = max(format.bits for format in formats)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.75 + 0.5 * len(formats)), layout="constrained")
        axis = figure.subplots()
        axis.set(xlim=(-4.2, widest + 0.3), ylim=(len(formats) - 0.4, -1.25))
        axis.axis("off")
        for place, (text, colour) in zip((0, 5.5, 18.5), PARTS):
            axis.add_patch(Rectangle((place, -1.1), 0.84, 0.42, facecolor=colour))
            axis.text(place + 1.2, -0.89, text, va="center", fontsize=10)
        for row, format in enumerate(formats):
            axis.text(-0.5, row, format.name, ha="right", va="center")
            colours = [PARTS[0][1], *[PARTS[1][1]] * format.exponent, *[PARTS[2][1]] * format.mantissa]
            for column, colour in enumerate(colours):
                axis.add_patch(Rectangle((column + 0.06, row - 0.33), 0.88, 0.66, facecolor=colour))
            for start, count in ((1, format.exponent), (1 + format.exponent, format.mantissa)):
                axis.text(
                    start + count / 2,
                    row,
                    f"{count} bits",
                    ha="center",
                    va="center",
                    fontsize=9,
                    color="white",
                    bbox={"facecolor": INK, "edgecolor": "none", "pad": 1.5},
                )
    return figure


def ranges(formats: Sequence[Format] = tuple(FORMATS.values())) -> Figure:
    """Left: which sizes a format holds, subnormals pale. Right: the step from 1 to the next number. Log axes."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 1.5 + 0.5 * len(formats)), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[3, 2])
        for row, format in enumerate(formats):
            colour = COLOURS.get(format.name, PALETTE[4])
            limits = format.smallest_subnormal, format.smallest_normal, format.largest
            low, normal, high = np.log10(limits)
            left.barh(row, high - normal, left=normal, height=0.5, color=colour)
            left.barh(row, normal - low, left=low, height=0.5, color=colour, alpha=0.35)
            right.plot(np.log10(format.step), row, "o", color=colour, markersize=9)
            right.text(np.log10(format.step) + 0.35, row, f"1/{2**format.mantissa}", va="center", fontsize=9)
        for axis in (left, right):
            axis.set_yticks(range(len(formats)), [format.name for format in formats])
            axis.set_ylim(len(formats) - 0.5, -0.5)
        left.set_xticks([-45, -30, -15, 0, 15, 30], ["10⁻⁴⁵", "10⁻³⁰", "10⁻¹⁵", "1", "10¹⁵", "10³⁰"])
        left.set(xlabel="absolute value (pale: subnormal)", title="Range")
        right.set_xticks([-7, -5, -3, -1], ["10⁻⁷", "10⁻⁵", "10⁻³", "0.1"])
        right.set(xlim=(-8, -0.4), xlabel="relative step (left is finer)", title="Step")
    return figure


def layer_errors(errors: Mapping[str, Mapping[str, float]], title: str = "Error of each layer") -> Figure:
    """Relative error over the layers of a network, in their order, one line for each format. Log axis.

    Args:
        errors: format -> {layer: relative error}, as `course.precision.layer_errors` gives it.
    """
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "y"}):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axis = figure.subplots()
        longest = max(len(values) for values in errors.values())
        low, high = (limit(v for values in errors.values() for v in values.values()) for limit in (min, max))
        last = 0.0
        for name, values in sorted(errors.items(), key=lambda item: list(item[1].values())[-1]):
            y, colour = list(values.values()), COLOURS.get(name, PALETTE[4])
            marks = "s--" if name == "TF32" else "o-"  # it mostly lies on FP16
            axis.plot(range(1, len(y) + 1), y, marks, color=colour, markersize=4, linewidth=1)
            last = max(y[-1], last * max(high / low, 10) ** 0.07)  # names of lines that end together stand apart
            axis.text(longest + 1, last, name, va="center", color=colour)
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
        axis.minorticks_off()
        axis.set(
            xlabel="layer, in the order of the network",
            ylabel="relative error",
            title=title,
            xlim=(0, longest * 1.14),
            ylim=(low / 1.3, high * 1.3),
        )
    return figure


def running_sum(
    products: np.ndarray, sums: Mapping[str, np.ndarray], title: str = "A sum that stops growing"
) -> Figure:
    """Partial sums over the number of terms.

    Args:
        products: the terms, exact; their sum is drawn as a dashed line.
        sums: label -> partial sums, one for each term.
    """
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "both"}):
        figure = Figure(figsize=(6.8, 3.4), layout="constrained")
        axis = figure.subplots()
        terms = np.arange(1, len(products) + 1)
        axis.plot(terms, np.cumsum(products, dtype=np.float64), "--", color=INK, linewidth=1.2, label="exact")
        for (label, values), colour in zip(sums.items(), PALETTE[:1] + PALETTE[2:]):
            axis.plot(terms, values, color=colour, linewidth=2.4, alpha=0.8, label=label)
        axis.set(xlabel="terms added", ylabel="sum so far", title=title)
        axis.legend(frameon=False, loc="upper left")
    return figure
