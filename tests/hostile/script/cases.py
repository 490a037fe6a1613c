"""Scripts that try to gain points without the work, each with the points it must get: (right, fast), of 4 and 4."""

from __future__ import annotations

from dataclasses import dataclass

from course.paths import ROOT

HONEST = """
import numpy as np

def smooth(x):
    padded = np.pad(x.astype(np.float64), 1, mode="edge")
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3
"""
SLOW = HONEST.replace(
    "    padded = np.pad",
    "    for _ in range(160):\n        np.pad(x.astype(np.float64), 1).sum()\n    padded = np.pad",
)
"""Right, and takes about twice as long as the given one: the attacks on the clock begin here."""
SLEEPS = HONEST + "\nimport time\n_right = smooth\ndef smooth(x):\n    time.sleep(0.01)\n    return _right(x)\n"
"""Likewise, with few calls of NumPy: where a script leaves threads running, each call waits for them."""


@dataclass(frozen=True)
class Case:
    name: str
    script: str
    right: float
    fast: float
    says: str = ""


CASES = (
    Case("honest", HONEST, 4, 4),
    Case("slow", SLOW, 4, 0),
    Case("wrong", "def smooth(x):\n    return x\n", 0, 0, "An answer is wrong"),
    Case("not-written", "# my function goes here\n", 0, 0, "no function smooth"),
    Case("syntax", "def smooth(x:\n", 0, 0, "SyntaxError"),
    Case("raises", "def smooth(x):\n    return 1 / 0\n", 0, 0, "ZeroDivisionError in line 2"),
    Case("no-numbers", "def smooth(x):\n    return 'right'\n", 0, 0, "no numbers"),
    Case("nan", "def smooth(x):\n    return x * float('nan')\n", 0, 0, "An answer is wrong"),
    Case("reads-the-wrong-size", "def smooth(x):\n    return x[:3]\n", 0, 0, "An answer is wrong"),
    # the clock
    Case(
        "forged-clocks",
        SLOW
        + """
import time
for name in ("time", "perf_counter", "monotonic", "process_time", "thread_time"):
    setattr(time, name, lambda: 0.0)
    setattr(time, name + "_ns", lambda: 0)
""",
        4,
        0,
    ),
    Case("sleeps", SLEEPS, 4, 0),
    Case(
        "slow-at-first-to-look-fast-later",  # the cost of a first call drops out for nobody: every call counts
        HONEST + "\n_right, seen = smooth, []\ndef smooth(x):\n    import time\n"
        "    seen.append(1)\n    time.sleep(0.02 if len(seen) % 2 else 0.01)\n    return _right(x)\n",
        4,
        0,
    ),
    # stale and cheap answers
    Case(
        "stale",
        HONEST + "\n_right, kept = smooth, []\ndef smooth(x):\n    if len(kept) < 6:\n        kept.append(_right(x))\n"
        "    return kept[-1]\n",
        4,
        0,
        "An answer is wrong",
    ),
    Case(
        "remembers-by-size",
        HONEST
        + "\n_right, kept = smooth, {}\ndef smooth(x):\n    return kept.setdefault((x.shape, x.dtype), _right(x))\n",
        0,
        0,
        "An answer is wrong",
    ),
    Case(
        "every-second-call",
        HONEST + "\n_right, kept = smooth, []\ndef smooth(x):\n    kept.append(x)\n"
        "    return _right(x) if len(kept) <= 6 or len(kept) % 2 else x\n",
        4,
        0,
        "An answer is wrong",
    ),
    # the pipe
    Case(
        "writes-into-the-pipe",
        HONEST
        + """
import os, json, struct
_right = smooth
def smooth(x):
    head = json.dumps({"counts": [1], "arrays": []}).encode()
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            os.write(fd, struct.pack("<IQ", len(head), 0) + head)
        except OSError:
            pass
    return _right(x)
""",
        0,
        0,
    ),
    Case(
        "says-that-all-is-well",
        """
import os, json, struct
def smooth(x):
    head = json.dumps({"points": 4, "share": 1.0, "status": "passed", "arrays": []}).encode()
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            os.write(fd, struct.pack("<IQ", len(head), 0) + head)
        except OSError:
            pass
    os._exit(0)
""",
        0,
        0,
    ),
    Case(
        "closes-the-pipe",
        "import os\ndef smooth(x):\n    os.closerange(0, 64)\n    return x\n",
        0,
        0,
        "ended the process",
    ),
    # ends and crashes
    Case("exits", "import sys\ndef smooth(x):\n    sys.exit(0)\n", 0, 0, "SystemExit"),
    Case("exits-at-once", "import os\nos._exit(0)\n", 0, 0, "ended the process"),
    Case("crashes", "import ctypes\ndef smooth(x):\n    ctypes.string_at(0)\n", 0, 0, "ended the process"),
    Case(
        "kills-its-parent",
        "import os\ndef smooth(x):\n    os.kill(os.getppid(), 9)\n    os.kill(1, 9)\n    return x\n",
        0,
        0,
    ),
    Case("endless", "def smooth(x):\n    while True:\n        pass\n", 0, 0, "took too long"),
    Case(
        "memory",
        "def smooth(x):\n    kept = []\n    while True:\n        kept.append(bytearray(1 << 28))\n",
        0,
        0,
        "too much memory",
    ),
    Case(
        "prints-without-end",
        HONEST + "\n_right = smooth\ndef smooth(x):\n    print('x' * 16000000)\n    return _right(x)\n",
        4,
        0,
    ),
    # the other side
    Case(
        "leaves-a-thread-running",
        SLEEPS
        + """
import threading
def burn():
    while True:
        sum(range(1000))
for _ in range(2):
    threading.Thread(target=burn, daemon=True).start()
""",
        4,
        0,
    ),
    Case(
        "leaves-processes-running",
        SLOW
        + """
import os
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        while True:
            sum(range(1000))
""",
        4,
        0,
    ),
    Case(
        "looks-for-the-reference",
        f"""
import glob, os, sys
ROOT = {str(ROOT)!r}
try:
    from tests.hostile.script.function import smooth
except ImportError:
    try:
        from peer import smooth
    except ImportError:
        for found in [path for top in (ROOT, "/tmp", "/root", "/home") for path in glob.glob(top + "/**/*.py", recursive=True)]:
            if found.endswith(("peer.py", "function.py")):
                exec(open(found).read())
""",
        0,
        0,
        "no function smooth",
    ),
)
