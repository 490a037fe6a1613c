"""A learner fills the disk that the gradebook and the temporary folders share: the others get their marks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from autograder.sandbox import bwrap
from course.paths import ROOT

CLASS = """
import json, sys
from pathlib import Path
from tests.classroom import box

FILL = '''
import time
files = 0
try:
    while True:
        open(f"fill{files}", "wb").write(bytes(20 << 20))
        files += 1
except OSError:
    time.sleep(5)
'''
if __name__ == "__main__":
    root = box.make_course(Path(sys.argv[1]) / "course")
    eve = box.solved(root)
    box.cell(eve, "fold").source = FILL
    box.hand_in(root, "eve", eve)
    for name in ("ada", "bob"):
        box.hand_in(root, name, box.solved(root))
    outcomes = box.run(root)
    for name, outcome in outcomes.items():
        print(outcome, box.told(root, name), file=sys.stderr)
    print(json.dumps({name: sum(box.scores(root, name).values()) for name in outcomes}))
"""


@pytest.fixture
def small_disk():
    """A disk of 300 MB, at a short path: multiprocessing makes sockets in TMPDIR."""
    place = Path(tempfile.mkdtemp(prefix="small-", dir="/tmp"))
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300M", "none", place], capture_output=True, text=True)
    if done.returncode:
        place.rmdir()
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)
    place.rmdir()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(bwrap.available() is not None, reason=f"no sandbox: {bwrap.available()}")
def test_who_fills_the_disk_takes_nothing_from_the_others(small_disk, tmp_path):
    (small_disk / "tmp").mkdir()
    (tmp_path / "run.py").write_text(CLASS)
    done = subprocess.run(
        [sys.executable, tmp_path / "run.py", small_disk],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(small_disk / "tmp"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    points = json.loads(done.stdout.splitlines()[-1])
    assert points["ada"] == points["bob"] == 26 and points["eve"] < 26, done.stderr
    assert not [name for name in os.listdir(small_disk / "tmp") if name.startswith(("box-", "kernel-"))]
