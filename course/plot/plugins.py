"""Figures of the lessons on plugins: which method TensorRT calls when."""

from __future__ import annotations

import matplotlib
from matplotlib.patches import FancyBboxPatch

from course.plot import INK, LINE, MUTED, PALETTE, STYLE, Figure

CREATOR, PLUGIN = PALETTE[3], PALETTE[1]

# title, what happens, methods (of the creator first), how often
_PHASES = (
    (
        "network",
        "the parser meets the node",
        ("getFieldNames", "createPlugin"),
        ("clone", "getNbOutputs"),
        "once a node",
    ),
    (
        "build",
        "which sizes, types, formats?",
        (),
        (
            "getOutputDataType",
            "getOutputDimensions",
            "supportsFormatCombination",
            "configurePlugin",
            "getWorkspaceSize",
            "initialize",
            "enqueue, timed",
        ),
        "many times",
    ),
    (
        "save",
        "the plan is written",
        (),
        ("getPluginType", "getPluginVersion", "getSerializationSize", "serialize"),
        "once",
    ),
    ("load", "another process", ("deserializePlugin",), ("initialize", "clone"), "once an engine, a context"),
    ("run", "with a shape", (), ("configurePlugin, new shape", "enqueue"), "each time"),
    ("end", "engine and contexts go", (), ("terminate", "destroy"), "once an object"),
)


def life_cycle() -> Figure:
    """From the network to the end: a box a phase, in it the methods that TensorRT calls; colours: creator and plugin."""
    width, gap = 2.3, 0.18
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(9.6, 5.1), layout="constrained")
        axis = figure.subplots()
        axis.axis("off")
        axis.set(xlim=(-0.05, 3 * (width + gap)), ylim=(7.95, -0.1))
        for number, (title, what, creator, plugin, often) in enumerate(_PHASES):
            row, column = divmod(number, 3)
            x, y = column * (width + gap), row * 4.75
            height = 4.35 if row == 0 else 2.55
            axis.add_patch(
                FancyBboxPatch(
                    (x, y), width, height, facecolor="none", edgecolor=LINE, boxstyle="round,pad=0,rounding_size=0.08"
                )
            )
            axis.text(x + 0.1, y + 0.3, f"{number + 1}  {title}", color=INK, fontweight="bold", va="center")
            axis.text(x + width - 0.1, y + 0.3, often, color=MUTED, fontsize=8, va="center", ha="right")
            axis.text(x + 0.1, y + 0.68, what, color=MUTED, fontsize=9, va="center")
            for place, name in enumerate((*creator, *plugin)):
                colour = CREATOR if name in creator else PLUGIN
                axis.text(
                    x + 0.14, y + 1.16 + 0.46 * place, name, color=colour, fontsize=9.5, va="center", family="monospace"
                )
            if column < 2:
                axis.annotate(
                    "",
                    (x + width + gap, y + 0.3),
                    (x + width, y + 0.3),
                    arrowprops={"arrowstyle": "->", "color": MUTED},
                )
        axis.text(0, 7.65, "the creator's", color=CREATOR, fontsize=9.5, va="center")
        axis.text(0.85, 7.65, "the plugin's", color=PLUGIN, fontsize=9.5, va="center")
        axis.text(
            1.65, 7.65, "the order inside a box may differ, and some calls repeat", color=MUTED, fontsize=9, va="center"
        )
    return figure
