"""What the checks of lessons 3.04 and 3.05 share: C++ in a string, put into the plugin, and examined."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping

from course.exercises import Wrong
from course.files import atomic_write
from course.native import fold, plugin


def examined(name: str, text: object, causes: Mapping[str, str]) -> plugin.Report:
    """The plugin with this part by the learner, the others by the course: everything that is found comes from this part.

    Args:
        name: of fold.PARTS. text: the learner's C++. causes: kind of a finding -> the misconception that it mostly comes
            from; such findings come first.

    Raises:
        Wrong: not written yet, or the first finding; half the points if the plugin ran to its end and nothing else was found.
        BuildError: it does not compile; names the line in NAME.h, which is that of the learner's text.
    """
    mine = written(name, text)
    with tempfile.TemporaryDirectory() as temporary:
        folder = fold.write(temporary, fold.source({name: f'#include "{name}.h"\n'}))
        atomic_write(folder / f"{name}.h", mine.encode())
        report = plugin.examine(folder, fold.contract(), tell=lambda line: None)
    if report.findings:
        finding = next((one for one in report.findings if one.kind in causes), report.findings[0])
        where = f"{finding.file}:{finding.line}: " if finding.line else ""
        method = f"{finding.method}: " if finding.method else ""
        raise Wrong(
            f"{where}{method}{finding.message} [{finding.kind}].",
            causes.get(finding.kind, "The examination drives the plugin as TensorRT does, and compares."),
            finding.advice,
            share=0.5 if report.finished and report.combinations and len(report.kinds) == 1 else 0.0,
        )
    return report


def written(name: str, text: object) -> str:
    """The learner's C++.

    Raises:
        Wrong: no text, or not written yet.
    """
    if not isinstance(text, str):
        raise Wrong(
            f"`{name}` is a {type(text).__name__}.", "The check compiles its text.", 'Keep it as a string: r""" … """.'
        )
    if "YOUR CODE HERE" in text:
        raise Wrong(
            f"`{name}` is not written yet.",
            "It still has a line YOUR CODE HERE.",
            "Put your C++ in its place, run that cell, then run this one again.",
        )
    return text
