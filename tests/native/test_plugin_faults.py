"""Planted faults: each is found with its kind, and a right plugin has no finding."""

from __future__ import annotations

from pathlib import Path

import pytest

from course.native import plugin
from course.native.plugins import headers
from tests.native.plugins.faults import FAULTS, VARIANTS, Change
from tests.native.plugins.right_plugins import SWISH

RIGHT = Path(__file__).parent / "plugins"


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
    assert report.kinds - {kind} <= {"identity"}, str(report)  # the plugin that is found has another name, too
    assert not report.ok
    assert all(finding.advice and finding.message for finding in report.findings)


@pytest.mark.parametrize("variant", VARIANTS)
def test_another_right_plugin_has_no_finding(variant: str, tmp_path: Path) -> None:
    report = plugin.examine(changed(VARIANTS[variant], tmp_path), SWISH, using=headers.stand_in())
    assert report.ok, str(report)
    assert len(report.combinations) == (8 if variant == "vectors of channels" else 2), report.combinations
