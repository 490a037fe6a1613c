"""Memory that a process hides from the usual places is counted: the watch sees it, where there is no control group."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from autograder.classroom import kernel
from autograder.sandbox import bwrap

pytestmark = pytest.mark.skipif(bwrap.available() is not None, reason=f"no sandbox: {bwrap.available()}")

BEGIN = """
import ctypes, mmap, os, sys, threading, time
libc, size = ctypes.CDLL(None, use_errno=True), 128 << 20

def file_in_memory():
    fd = os.memfd_create("x")
    for _ in range(size >> 24):
        os.write(fd, bytes(1 << 24))

def wait():
    print("held", flush=True)
    sys.stdin.read()
    os._exit(0)
"""
WAYS = {
    "a file in memory": "file_in_memory()\nwait()",
    "a thread with open files of its own": """
def run():
    assert libc.unshare(0x400) == 0  # CLONE_FILES
    file_in_memory()
    wait()
threading.Thread(target=run).start()
""",
    "a process whose first thread has ended": """
def run():
    held = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for start in range(0, size, mmap.PAGESIZE):
        held[start] = 1
    wait()
if os.fork() == 0:
    threading.Thread(target=run, daemon=True).start()
    libc.pthread_exit(None)
sys.stdin.read()
""",
}


@pytest.mark.parametrize("way", WAYS)
def test_it_is_counted(way: str) -> None:
    command = bwrap.bwrap([sys.executable, "-c", BEGIN + WAYS[way]])
    with subprocess.Popen(command, env={}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            first = psutil.Process(process.pid)
            family = [first, *first.children(recursive=True)]
            assert kernel._more_than(120 << 20, family)
            assert not kernel._more_than(250 << 20, family)
        finally:
            process.kill()


def test_who_has_ended_holds_nothing() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert kernel._resident(process.pid) == 0
