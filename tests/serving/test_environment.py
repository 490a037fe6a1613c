"""Triton's environment: found, or refused with the reason and the next step. And the keeper."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from course.serving import ServingError, environment, keeper, server


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    return tmp_path


def test_what_is_missing_is_said(cache):
    def said():
        with pytest.raises(ServingError) as error:
            environment.find()
        assert "course serve setup" in error.value.next_step and "course serve setup" in environment.why_not()
        return str(error.value)

    assert "environment of its own" in said()
    folder = cache / "triton"
    folder.mkdir()
    assert "not finished" in said()
    (folder / environment.COMPLETE).write_text("{")
    assert "cannot be read" in said()
    content = {"python": "3.11", "libraries": ["/lib"], "packages": ["nvidia-pytriton==0.1"]}
    (folder / environment.COMPLETE).write_text(json.dumps(content))
    assert "another version" in said()
    content["packages"] = environment.PACKAGES
    (folder / environment.COMPLETE).write_text(json.dumps(content))
    assert "not whole" in said()


@pytest.mark.parametrize(
    "system, machine, libc, cause",
    [
        ("darwin", "arm64", ("", ""), "Linux"),
        ("linux", "riscv64", ("glibc", "2.39"), "riscv64"),
        ("linux", "x86_64", ("glibc", "2.31"), "2.31"),
        ("linux", "x86_64", ("", ""), "none"),
    ],
)
def test_other_machines_are_refused(system, machine, libc, cause):
    assert cause in environment.unsupported(system, machine, libc).cause


def test_fitting_machines_are_not():
    assert environment.unsupported("linux", "x86_64", ("glibc", "2.36")) is None
    assert environment.unsupported("linux", "aarch64", ("glibc", "2.35")) is None


def python_that_says(path: Path, **facts) -> Path:
    """A program in Python's place that answers the probe with these facts."""
    content = {
        "version": "3.11",
        "implementation": "cpython",
        "base": "/",
        "folders": ["/nowhere"],
        "triplet": "x",
        **facts,
    }
    path.write_text(f"#!/bin/sh\necho '{json.dumps(content)}'\n")
    path.chmod(0o755)
    return path


def test_each_python_is_refused_for_its_own_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "_base_executable", str(python_that_says(tmp_path / "python", version="3.13")))
    python_that_says(tmp_path / "python3.12", version="3.12")
    python_that_says(tmp_path / "python3.11", implementation="pypy")
    (tmp_path / "python3.10").write_text("#!/bin/sh\nexit 127\n")  # a shim of pyenv
    (tmp_path / "python3.10").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServingError) as error:
        environment.pick_python()
    for part in ("cpython 3.13", "no libpython3.12.so.1.0", "pypy 3.11"):
        assert part in error.value.cause
    assert "python3.10" not in error.value.cause and "libpython3.11" in error.value.next_step
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libpython3.12.so.1.0").touch()
    python_that_says(tmp_path / "python3.12", version="3.12", folders=[str(tmp_path / "lib")])
    assert environment.pick_python() == (str(tmp_path / "python3.12"), (str(tmp_path / "lib"),), "3.12")


def test_a_package_that_cannot_be_had_leaves_an_unfinished_environment(cache, monkeypatch):
    """pip is told to use an index that is not there."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    library = cache / "libpython.so"
    library.touch()
    monkeypatch.setattr(environment, "pick_python", lambda: (sys.executable, (str(cache),), "3.11"))
    monkeypatch.setattr(environment, "unsupported", lambda *_: None)
    with pytest.raises(ServingError, match="nvidia-pytriton==0.7.0 could not be fetched"):
        environment.make(lambda line: None)
    assert "not finished" in environment.why_not()


SERVER = """
import os, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(f"/dev/shm/{sys.argv[1]}1", "w").close()
if sys.argv[3] == "deaf":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
try:  # whoever reads the ids may interrupt at once: they are written where an interrupt is expected
    open(sys.argv[2], "w").write(f"{os.getpid()} {child.pid}")
    time.sleep(60)
except KeyboardInterrupt:
    print("stopped in good order", flush=True)
"""


class Kept:
    """The keeper with a small program in the server's place, which has a child and a piece of shared memory."""

    def __init__(self, folder: Path, manner: str = ""):
        self.prefix, self.temporary, self.log = (
            f"test_{os.getpid()}_{folder.name}_",
            folder / "temporary",
            folder / "log",
        )
        self.temporary.mkdir()
        pids = folder / "pids"
        with open(self.log, "wb") as log:
            spec = {
                "command": [sys.executable, "-c", SERVER, self.prefix, str(pids), manner],
                "environment": dict(os.environ),
                "log": log.fileno(),
                "prefix": self.prefix,
                "temporary": str(self.temporary),
                "stop_seconds": 0.5,
            }
            (folder / "spec").write_text(json.dumps(spec))
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", keeper.__file__, str(folder / "spec")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[log.fileno()],
            )
        end = time.monotonic() + 10
        while len(pids.read_text().split() if pids.exists() else []) < 2 and time.monotonic() < end:
            time.sleep(0.02)
        self.server, self.child = map(int, pids.read_text().split())

    def nothing_is_left(self) -> bool:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            alive = any(Path(f"/proc/{pid}").exists() for pid in (self.server, self.child))
            if not alive and not list(Path("/dev/shm").glob(f"{self.prefix}*")) and not self.temporary.exists():
                return True
            time.sleep(0.02)
        return False


@pytest.mark.parametrize("manner", ["", "deaf"])
def test_when_the_lifeline_closes_the_server_is_stopped(tmp_path, manner):
    kept = Kept(tmp_path, manner)
    assert kept.process.poll() is None and list(Path("/dev/shm").glob(f"{kept.prefix}*"))
    kept.process.stdin.close()
    kept.process.wait(10)
    assert kept.nothing_is_left()
    assert ("stopped in good order" in kept.log.read_text()) == (manner == "")


def test_when_the_server_dies_its_children_and_memory_go(tmp_path):
    kept = Kept(tmp_path)
    os.kill(kept.server, signal.SIGKILL)
    assert kept.process.wait(10) == 128 + signal.SIGKILL and kept.nothing_is_left()


def test_when_the_keeper_is_told_to_end_it_clears_up(tmp_path):
    kept = Kept(tmp_path)
    kept.process.send_signal(signal.SIGTERM)
    kept.process.wait(10)
    assert kept.nothing_is_left()


def test_when_the_keeper_is_killed_the_server_ends_too(tmp_path):
    kept = Kept(tmp_path)
    kept.process.kill()
    kept.process.wait()
    end = time.monotonic() + 10
    while Path(f"/proc/{kept.server}").exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert not Path(f"/proc/{kept.server}").exists()
    keeper.kill_group(kept.server)
    keeper.remove_shared_memory(kept.prefix)


LOG = """I0101 server.cc:1] "loading: m:1"
E0101 00:00:00.1 7 model_lifecycle.cc:654] "failed to load 'm' version 1: Internal: ImportError: no 'nothing'

At:
  /x/model.py(1): <module>
"
I0101 server.cc:2] "more"
"""


def test_the_reason_of_a_failed_start_is_taken_from_the_log():
    error = server.not_started(LOG)
    assert "model m" in error.what and "ImportError: no 'nothing'" in error.cause
    assert "ends with: E0101 it broke" in server.not_started("I0101 x\nE0101 it broke\nI0101 bye\n").cause
    assert server.not_started("").cause == "Its log ends with: nothing"


def test_free_ports_are_different_ones():
    assert len(set(server.free_ports(5))) == 5
