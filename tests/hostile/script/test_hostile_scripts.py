"""Every script gets the points that cases.py says, and none hangs the judge or leaves anything running."""

from __future__ import annotations

import contextlib
import json
import os
import time

import numpy as np
import psutil
import pytest

from autograder.artifacts.script import Script
from autograder.measuring.measure import measure
from autograder.sandbox import bwrap
from autograder.sandbox.process import Box
from autograder.tasks import inputs
from course.paths import ROOT
from tests.hostile.script.cases import CASES, HONEST, Case
from tests.hostile.script.function import MILESTONE

pytestmark = pytest.mark.skipif(bwrap.available() is not None, reason=f"no sandbox: {bwrap.available()}")
SECRET = "0123456789abcdef-secret"
QUICK = ("honest", "stale", "looks-for-the-reference")
"""One honest and one cheating script, and one that spies: the others are slow."""


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv(inputs.SECRET_VARIABLE, SECRET)


def running(folder) -> list[str]:
    """Command lines of processes that hold a script of this test, zombies aside."""
    lines = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            lines.append(" ".join(process.cmdline()))
    return [line for line in lines if "script_inside" in line and os.path.basename(folder) in line]


def table() -> list:
    """The quick ones, and the others as slow ones. A script that is wrong at once is never timed, so others may run beside it."""

    def marks(case: Case) -> list:
        slow = [] if case.name in QUICK else [pytest.mark.slow]
        return [*slow, *([pytest.mark.serial] if case.right else [])]

    return [pytest.param(case, marks=marks(case), id=case.name) for case in CASES]


@pytest.mark.parametrize("case", table())
def test_it_gets_what_it_must(case, tmp_path):
    (tmp_path / "smooth.py").write_text(case.script)
    report = measure(MILESTONE, tmp_path, mode="hidden", who="ada", lane="cpu")
    assert report.problem == "", report.problem
    assert [check.points for check in report.checks] == [case.right, case.fast], report.text()
    words = f"{report.reason} " + " ".join(check.message for check in report.checks)
    assert case.says in words, report.text()
    end = time.monotonic() + 5
    while running(tmp_path) and time.monotonic() < end:  # the kernel ends them when it gets to it
        time.sleep(0.1)
    assert not running(tmp_path)


def test_there_are_enough_of_them():
    assert len({case.name for case in CASES}) == len(CASES) >= 25


SPY = """
import glob, importlib.util, json, os
import numpy as np

def smooth(x):
    seen = {"course": importlib.util.find_spec("course") is not None}
    seen["files"] = [path for root in (ROOT, os.path.expanduser("~"), "/tmp", "/usr/local/share")
                     for path in glob.glob(root + "/**", recursive=True) if os.path.isfile(path) and "/.venv/" not in path
                     and "/.pyenv/" not in path]
    seen["environment"] = sorted(os.environ)
    seen["secret"] = any(b"SECRET" in open(path, "rb").read() for path in glob.glob("/proc/[0-9]*/environ")
                         + glob.glob("/proc/[0-9]*/cmdline"))
    seen["streams"] = [os.readlink(f"/proc/1/fd/{n}") for n in os.listdir("/proc/1/fd")]
    try:
        import ctypes
        seen["namespaces"] = ctypes.CDLL(None, use_errno=True).unshare(0x10000000) == 0
    except OSError:
        seen["namespaces"] = False
    return np.frombuffer(json.dumps(seen).encode(), np.uint8)
"""


def box_with(tmp_path, script: str, *sees: str) -> Box:
    path = tmp_path / "box" / "smooth.py"
    path.parent.mkdir()
    path.write_text(script)
    harness = [ROOT / name for name in (*Script.harness, *sees)]
    return Box(
        Script.inside,
        str(path),
        sees=(*harness, path.parent),
        words=Script.words,
        memory_gb=1,
        cpu_s=60,
        confined=True,
    )


def look_around(tmp_path, *sees: str) -> dict:
    with box_with(tmp_path, SPY.replace("ROOT,", f"{str(ROOT)!r},"), *sees) as box:
        _, (answer,) = box.ask("call", function="smooth", groups=[0], settings={"x": 0}, seconds=60)
    return json.loads(bytes(answer))


PAGES = """
import resource
import numpy as np

def smooth(x):
    for _ in range(24):
        np.pad(x.astype(np.float64), 1).sum()
    answer = x.astype(np.float64)
    answer[0] = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    return answer
"""


def test_arrays_come_from_memory_that_the_process_has_had_before(tmp_path):
    with box_with(tmp_path, PAGES) as box:
        inputs = [np.ones(60_000, np.float32)] * 64
        answers = box.ask("call", inputs, function="smooth", groups=[1] * 64, seconds=60, most_answer=1 << 26)[1]
    fresh = answers[-1][0] - answers[0][0]
    assert fresh < 2 * 64 * 480_000 // 4096, (
        "the answers' own pages, and hardly any of 48 temporary arrays' in each call"
    )


@pytest.mark.parametrize("name", ["leaves-a-thread-running", "leaves-processes-running"])
def test_while_the_other_side_runs_nothing_of_a_stopped_one_does(tmp_path, name):
    def spent(seconds: float) -> float:
        """CPU seconds of all that is in the box, in this time."""
        inside = psutil.Process(box._process.pid).children(recursive=True)
        before = [sum(process.cpu_times()[:2]) for process in inside]
        time.sleep(seconds)
        return sum(sum(process.cpu_times()[:2]) for process in inside) - sum(before)

    script = next(case.script for case in CASES if case.name == name)
    with box_with(tmp_path, script) as box:
        box.ask("call", [np.ones(9, np.float32)], function="smooth", groups=[1], seconds=60)
        assert spent(0.5) > 0.1
        box.pause()
        time.sleep(0.1)  # until the signal has come
        assert spent(0.5) < 0.03
        box.resume()
        assert spent(0.5) > 0.1


def test_it_sees_its_harness_and_itself_and_nothing_else(tmp_path):
    seen = look_around(tmp_path)
    assert not seen["course"] and not seen["secret"] and not seen["namespaces"]
    harness = {str(ROOT / name) for name in Script.harness}
    assert set(seen["files"]) == harness | {str(tmp_path / "box" / "smooth.py")}
    assert inputs.SECRET_VARIABLE not in seen["environment"]
    assert not [stream for stream in seen["streams"] if stream.startswith("/") and stream != "/dev/null"]


def test_the_course_is_there_if_the_check_says_so(tmp_path):
    assert look_around(tmp_path, "course")["course"]


def test_a_script_that_was_handed_in_is_not_run_without_a_sandbox(tmp_path, monkeypatch):
    (tmp_path / "smooth.py").write_text(HONEST)
    monkeypatch.setattr(bwrap, "available", lambda: "bwrap is not installed")
    report = measure(MILESTONE, tmp_path, mode="hidden", who="ada", lane="cpu")
    assert report.status == "error" and report.points == 0 and "without a sandbox" in report.problem
    own = measure(MILESTONE, tmp_path, lane="cpu")
    assert own.checks[0].points == 4, "the learner's own machine runs the learner's own code"


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "smooth.py").write_bytes(b"\xff\xfe\x00")
    report = measure(MILESTONE, tmp_path, lane="cpu")
    assert report.status == "rejected" and "not UTF-8" in report.reason
    assert os.listdir(tmp_path) == ["smooth.py"]
