"""What each of nbgrader's processes reads: milestones and settings, without PyTorch and other packages that take seconds."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = ("torch", "torchvision", "onnxruntime", "matplotlib", "rfc3987_syntax")
READ = """
import json, sys
import autograder.classroom.app
from autograder.classroom.grade import grade
from autograder.classroom.nbgrader_settings import configure
from autograder.milestones import all_milestones
assert len(list(all_milestones())) >= 5
print(json.dumps(sorted(set(sys.modules) & set(sys.argv[1:]) - {name for name in sys.argv[1:] if sys.modules.get(name) is None})))
"""


def test_the_milestones_and_the_settings_of_nbgrader_are_read_without_pytorch():
    done = subprocess.run([sys.executable, "-c", READ, *HEAVY], capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
