"""What a lesson of stage 3 does in a class: a plugin is examined in the sandbox of a notebook, whose memory is limited."""

from __future__ import annotations

import shutil

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from autograder.classroom.kernel import SandboxedExecute
from autograder.sandbox import bwrap
from course.native.plugins.compiler import prepare
from course.paths import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bwrap.available() is not None, reason=f"no sandbox: {bwrap.available()}"),
]

EXAMINE = """
import numpy as np
from course.models.mish import mish
from course.native import plugin
contract = plugin.Contract(
{contract}
report = plugin.examine("m3a", contract)
print(report.ok, report)"""
TOO_MUCH = """
try:
    kept = bytearray(9 << 30)
except MemoryError:
    print("no memory")"""


def test_the_sanitizer_has_room_and_a_mistake_none(tmp_path) -> None:
    shutil.copytree(ROOT / "solutions" / "stage3_plugins" / "m3a", tmp_path / "m3a")
    lesson = (ROOT / "solutions" / "stage3_plugins" / "06_activation_milestone.py").read_text()
    contract = lesson.split("contract = plugin.Contract(\n")[1].split("\n)")[0] + "\n)"
    cells = [new_code_cell(code.strip()) for code in (EXAMINE.format(contract=contract), TOO_MUCH)]
    notebook = new_notebook(cells=cells)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    prepare()  # as `grade` does for a stage with CUDA
    execute = SandboxedExecute(timeout=200, startup_timeout=120)  # 8 GiB, as for a class
    done, _ = execute.preprocess(nbformat.from_dict(notebook), {"metadata": {"path": str(tmp_path)}})
    told = [nbformat.from_dict(cell).outputs[0].get("text", str(cell.outputs)) for cell in done.cells]
    assert told[0].startswith("True"), told[0]
    assert told[1] == "no memory\n"
