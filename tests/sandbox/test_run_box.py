"""The run box: what code that was handed in can do there, and what ends it."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from autograder.sandbox import bwrap, run_box, seccomp
from autograder.sandbox.supervise import TOO_MUCH, resident
from course.paths import ROOT

pytestmark = pytest.mark.skipif(bwrap.available() is not None, reason=f"no sandbox here: {bwrap.available()}")


def inside(code: str, *shows, seconds: float = 60, **options) -> subprocess.CompletedProcess:
    wrap = run_box.wrapper(*shows, **options)
    command = wrap([sys.executable, "-I", "-S", "-c", code])
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL)


def test_nothing_starts_and_no_memory_goes_uncounted(monkeypatch):
    monkeypatch.setenv("TRT_GRADER_SECRET", "0123456789abcdef-secret")
    code = f"""
import json, mmap, os, shutil, socket, _thread
seen = {{}}
def attempt(name, action):
    try:
        seen[name] = repr(action())
    except Exception as error:
        seen[name] = type(error).__name__
attempt("fork", os.fork)
attempt("thread", lambda: _thread.start_new_thread(print, ()))
attempt("system", lambda: os.system("echo > /tmp/made"))
attempt("what it made", lambda: os.stat("/tmp/made"))
attempt("memfd", lambda: os.memfd_create("x"))
attempt("socket", socket.socket)
attempt("pair", socket.socketpair)
attempt("shared", lambda: mmap.mmap(-1, 1 << 20))
attempt("private", lambda: len(mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)))
attempt("large file", lambda: os.truncate(os.open("/tmp/x", os.O_CREAT | os.O_RDWR), 1 << 30))
attempt("compiler", lambda: os.listdir("/usr/lib/gcc"))
attempt("headers", lambda: os.listdir("/usr/include"))
attempt("course", lambda: os.listdir({str(ROOT / "course")!r}))
seen["secrets"] = [name for name in os.environ if "SECRET" in name]
seen["outer"] = [name for name in os.listdir("/proc") if name.isdigit() and b"SECRET" in open(f"/proc/{{name}}/environ", "rb").read()]
print(json.dumps(seen))
"""
    done = inside(code)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout)
    assert seen.pop("private") == str(1 << 20)
    assert seen.pop("compiler") == seen.pop("headers") == "[]"
    assert seen.pop("secrets") == seen.pop("outer") == []
    assert seen.pop("course") == "FileNotFoundError"
    assert seen.pop("system") != "0" and seen.pop("what it made") == "FileNotFoundError"
    assert set(seen.values()) <= {"PermissionError", "OSError", "error", "RuntimeError"}, seen


@pytest.mark.serial
def test_who_takes_too_much_memory_is_ended():
    begin = time.monotonic()
    done = inside("kept = []\nwhile True: kept.append(bytearray(b'x' * (16 << 20)))", memory_gb=0.25)
    assert done.returncode == TOO_MUCH
    assert "more than 0.25 GB" in done.stdout
    assert time.monotonic() - begin < 30


def test_temporary_files_have_a_size():
    code = "import os\nfor n in range(100): open(f'/dev/shm/{n}', 'wb').write(b'x' * (4 << 20))"
    done = inside(code)
    assert done.returncode == 1 and "No space left" in done.stderr


def test_streams_files_and_the_exit_status_pass(tmp_path):
    (tmp_path / "shown").write_text("seen")
    done = inside(f"print(open({str(tmp_path / 'shown')!r}).read()); raise SystemExit(7)", tmp_path)
    assert (done.returncode, done.stdout) == (7, "seen\n")


def test_what_a_process_holds_is_counted():
    import os

    assert resident(os.getpid()) > 10 << 20


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("of_a_notebook", [False, True])
def test_every_jump_of_the_filter_ends_where_it_must(machine, of_a_notebook):
    """The filter as the kernel would run it, for each denied number, mmap, and some that are allowed."""
    import struct

    arch, mmap, denied = seccomp._MACHINES[machine]
    program, refused = seccomp.program(machine), seccomp._DENY
    if of_a_notebook:
        program, refused = seccomp.without_system_v(machine), seccomp._ABSENT
        denied = {name: denied[name] for name in ("shmget", "semget", "msgget")}
    lines = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]

    def verdict(number: int, flags: int = 0, where: int = arch) -> int:
        value, at = 0, 0
        while True:
            code, yes, no, constant = lines[at]
            if code == seccomp._RETURN:
                return constant
            if code == seccomp._LOAD:
                value = {seccomp._NUMBER: number, seccomp._ARCH: where, seccomp._FLAGS: flags}[constant]
            elif code == seccomp._AND:
                value &= constant
            else:
                held = value == constant if code == seccomp._EQUAL else value >= constant
                at += yes if held else no
            at += 1

    assert {verdict(number) for number in denied.values()} == {refused}
    assert verdict(mmap, 0x21) == verdict(mmap, 0x23) == (seccomp._ALLOW if of_a_notebook else refused)
    assert verdict(mmap, 0x22) == verdict(mmap, 0x01) == seccomp._ALLOW
    assert verdict(0x40000000 + 1) == refused
    assert verdict(1, where=0) == seccomp._KILL
    allowed = [number for number in range(460) if number not in denied.values()]
    assert {verdict(number) for number in allowed} == {seccomp._ALLOW}


def test_an_unknown_machine_has_no_filter():
    assert seccomp.program("riscv64") == seccomp.without_system_v("riscv64") == b""
