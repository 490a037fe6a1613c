"""Planted faults: each is found with its kind, and a right plugin has no finding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from course.native import plugin
from course.native.plugins import headers
from tests.native.plugins.faults import FAULTS, Change

RIGHT = Path(__file__).parent / "plugins"
SWISH = plugin.Contract(
    "CourseSwish",
    lambda x, beta: x / (1 + np.exp(-beta * x)),
    shapes=[((3, 5),), ((1,),), ((2, 3, 4, 5),)],
    attributes={"beta": 1.5},
)


def changed(changes: list[Change], folder: Path) -> Path:
    """The right plugin with a fault, in a folder of its own."""
    texts = {path.name: path.read_text() for path in (RIGHT / "swish").iterdir() if path.is_file()}
    for old, new in changes:
        name = "swish.cu" if old.startswith("cu:") else "swish_plugin.cpp"
        old = old.removeprefix("cu:")
        assert old in texts[name], f"{name} has no {old!r}"
        texts[name] = texts[name].replace(old, new, 1)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_with_its_kind(fault: str, tmp_path: Path) -> None:
    kind, changes = FAULTS[fault]
    report = plugin.examine(changed(changes, tmp_path), SWISH, using=headers.stand_in(), seconds=2.0)
    assert kind in report.kinds, str(report)
    assert not report.ok
    assert all(finding.advice and finding.message for finding in report.findings)
