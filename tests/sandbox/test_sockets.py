"""Unix sockets have short names, however long TMPDIR's is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from autograder.artifacts.script import Script
from autograder.classroom.kernel import BoxedKernelManager
from autograder.sandbox import bwrap, sockets
from autograder.sandbox.process import Box
from course.errors import CourseError
from course.paths import ROOT


@pytest.fixture
def long(tmp_path, monkeypatch) -> Path:
    """TMPDIR of more than 107 bytes."""
    folder = tmp_path / ("x" * 107)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.mark.parametrize(
    "length, short", [(sockets.MOST - sockets.BELOW, False), (sockets.MOST - sockets.BELOW + 1, True)]
)
def test_a_folder_whose_name_leaves_room_is_taken(monkeypatch, length, short):
    folder = "/" + "x" * (length - 1)
    monkeypatch.setattr(tempfile, "tempdir", folder)
    assert sockets.parent() == ("/tmp" if short else folder)


def test_the_names_that_multiprocessing_gives_fit():
    code = (
        "import multiprocessing.connection as c, os; name = c.arbitrary_address('AF_UNIX'); "
        "print(len(name) - len(os.environ['TMPDIR']))"
    )
    for folder in ("/tmp", str(ROOT)):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "TMPDIR": folder}, capture_output=True, text=True
        )
        assert 0 < int(done.stdout) <= sockets.BELOW, done.stderr


def test_without_a_short_folder_the_way_out_is_named(long, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(CourseError) as caught, sockets.short_names():
        pass
    assert str(long) in caught.value.what and "Set TMPDIR to a folder with a short name" in str(caught.value)
    assert tempfile.gettempdir() == str(long)


def test_other_temporary_files_stay_where_they_belong(long):
    with sockets.short_names():
        assert tempfile.gettempdir() == "/tmp"
    assert tempfile.gettempdir() == str(long)


def test_a_kernel_has_its_sockets_at_a_short_name(long):
    manager = BoxedKernelManager()
    try:
        with socket.socket(socket.AF_UNIX) as each:
            each.bind(f"{manager.ip}-5")
    finally:
        os.unlink(f"{manager.ip}-5")
        os.rmdir(manager._sockets)


@pytest.mark.skipif(bwrap.available() is not None, reason=f"no sandbox here: {bwrap.available()}")
def test_a_box_can_hold_sockets(long, tmp_path):
    script = tmp_path / "given" / "script.py"
    script.parent.mkdir()
    script.write_text(
        "import os, socket\nimport numpy as np\n\ndef bind():\n"
        "    socket.socket(socket.AF_UNIX).bind(os.getcwd() + '/metrics')\n    return np.ones(1, np.float32)\n"
    )
    sees = (*(ROOT / name for name in Script.harness), script.parent)
    with Box(Script.inside, str(script), sees=sees, words=Script.words, memory_gb=1, cpu_s=60, confined=True) as box:
        box.ask("call", function="bind", groups=[0], seconds=60)
        assert (box.home / "metrics").is_socket()
