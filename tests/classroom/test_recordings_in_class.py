"""Lessons show what was recorded on a GPU, and count on it: a submission sees it, too."""

from __future__ import annotations

import re
import subprocess

import pytest

from autograder.classroom import tempfolders
from autograder.classroom.kernel import BoxedKernelManager
from autograder.sandbox import bwrap
from course.paths import ROOT

INSIDE = """
from course.exercises.stage2_quantizer import ptq
from course.native.fold import recorded
from course.quantize import trial
print(ptq.CACHE.stat().st_size > 0, sum(path.is_file() for path in recorded.PLACES) > 0, "FP16" in trial.recorded(64))
try:
    ptq.CACHE.write_text("")
except OSError:
    print("nobody can change it")
"""


@pytest.mark.skipif(bwrap.available() is not None, reason=f"no sandbox: {bwrap.available()}")
def test_a_kernel_in_the_sandbox_reads_what_was_recorded(tmp_path):
    manager = BoxedKernelManager(kernel_name="python3")
    manager.limits = {"mem_gb": 4.0, "cpu_s": 60, "processes": 64, "total_s": 60, "disk_gb": 1}
    manager._folder = str(tmp_path)
    argv = manager.format_kernel_cmd()
    argv[argv.index("ipykernel_launcher") - 1 :] = ["-c", INSIDE]  # instead of the kernel
    done = subprocess.run(argv, capture_output=True, text=True, env={}, timeout=120, stdin=subprocess.DEVNULL)
    manager._leave_group()
    tempfolders.remove(manager._sockets)
    assert done.stdout == "True True True\nnobody can change it\n", done.stderr


def test_the_course_reads_nothing_else_beside_its_own_folder():
    found = [
        path.relative_to(ROOT)
        for path in (ROOT / "course").rglob("*.py")
        if path.name != "paths.py" and re.search(r"\bROOT\s*/", path.read_text())
    ]
    assert found == [], "a submission sees course/, autograder/ and docs/results only: see autograder.classroom.kernel"
