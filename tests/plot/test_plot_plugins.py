"""The life of a plugin, drawn: every method of the interface stands in it."""

from __future__ import annotations

import re

from course import plot
from course.native import fold
from course.plot import plugins


def test_every_method_of_the_class_is_called_somewhere() -> None:
    figure = plugins.life_cycle()
    shown = " ".join(text.get_text() for text in figure.axes[0].texts)
    methods = set(re.findall(r"(\w+)\([^;{]*noexcept override", fold.text("fold.h")))
    quiet = {"setPluginNamespace", "getPluginNamespace"}  # the registry's business, at any time
    assert len(methods) == 17 and [name for name in methods - quiet if name not in shown] == []
    assert plot.png(figure).startswith(b"\x89PNG")
