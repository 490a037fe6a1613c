"""The sandbox: what a command inside can reach, and what ends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autograder.sandbox import bwrap
from course.paths import ROOT

pytestmark = pytest.mark.skipif(bwrap.available() is not None, reason=f"no sandbox here: {bwrap.available()}")


def inside(code: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        bwrap.bwrap([sys.executable, "-c", code], **options),
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def test_nothing_of_the_machine_is_in_reach(tmp_path, monkeypatch):
    monkeypatch.setenv("TRT_GRADER_SECRET", "0123456789abcdef-secret")
    (tmp_path / "work").mkdir()
    (tmp_path / "given").mkdir()
    (tmp_path / "gradebook.db").write_text("marks")
    code = f"""
import json, os, socket
seen = {{}}
def attempt(name, action):
    try:
        seen[name] = repr(action())
    except OSError as error:
        seen[name] = type(error).__name__
attempt("gradebook", lambda: open({str(tmp_path / "gradebook.db")!r}).read())
attempt("home", lambda: open({str(Path.home() / ".bashrc")!r}).read())
attempt("passwd", lambda: open("/etc/passwd").read())
attempt("network", lambda: socket.create_connection(("1.1.1.1", 80), 2))
attempt("loopback", lambda: socket.create_connection(("127.0.0.1", 22), 2))
attempt("write given", lambda: open({str(tmp_path / "given/x")!r}, "w"))
attempt("write system", lambda: open("/usr/x", "w"))
attempt("write dev", lambda: open("/dev/x", "w"))
attempt("write work", lambda: open("x", "w").write("1"))
attempt("write shm", lambda: open("/dev/shm/x", "w").write("1"))
seen["processes"] = sum(name.isdigit() for name in os.listdir("/proc"))
seen["secrets"] = [name for name in os.environ if "SECRET" in name or "TOKEN" in name]
seen["capabilities"] = open("/proc/self/status").read().split("CapEff:")[1].split()[0]
print(json.dumps(seen))
"""
    done = inside(code, rw=(tmp_path / "work",), ro=(tmp_path / "given",), cwd=tmp_path / "work")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen.pop("write work") == seen.pop("write shm") == "1"
    assert seen.pop("processes") <= 3 and seen.pop("secrets") == []
    assert int(seen.pop("capabilities"), 16) == 0
    errors = {"FileNotFoundError", "PermissionError", "OSError", "ConnectionRefusedError"}
    assert {name: words for name, words in seen.items() if words not in errors} == {}
    assert (tmp_path / "work" / "x").read_text() == "1"


def test_bubblewrap_itself_gives_nothing_away(monkeypatch):
    """What is inside finds it as process 1. It is started as every caller here starts it."""
    monkeypatch.setenv("CANVAS_API_TOKEN", "tok-123")
    code = """
import json, os
one = "/proc/1/"
print(json.dumps([open(one + "environ").read(), [os.readlink(one + "fd/" + n) for n in os.listdir(one + "fd")]]))"""
    done = subprocess.run(
        bwrap.bwrap([sys.executable, "-c", code]), env={}, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    environment, streams = json.loads(done.stdout)
    assert environment == "" and not [name for name in streams if name.startswith("/") and name != "/dev/null"]


def test_nbgraders_exchange_is_empty_inside(tmp_path_factory):
    hidden = Path("/usr/local/share")
    assert any(hidden.iterdir()) or os.access(hidden, os.W_OK), "nothing there to hide: this test shows nothing"
    made = hidden / "nbgrader-exchange-of-a-test"
    other = Path("/usr/local/lib/nbgrader-exchange-of-a-test")
    if not os.access(hidden, os.W_OK):
        pytest.skip("needs to write into /usr/local")
    try:
        for folder in (made, other):
            folder.mkdir()
            (folder / "bob.ipynb").write_text("his answers")
        code = f"import os; print(os.listdir({str(hidden)!r}), os.listdir({str(other)!r}))"
        assert inside(code, hide=(other,)).stdout == "[] []\n"
        assert inside(code).stdout == "[] ['bob.ipynb']\n", "only what is named is hidden besides"
    finally:
        for folder in (made, other):
            (folder / "bob.ipynb").unlink(missing_ok=True)
            folder.rmdir()


def test_no_further_user_namespace_can_be_made_inside():
    code = "import ctypes; print(ctypes.CDLL(None).unshare(0x10000000))"
    if not bwrap._can_end_userns():
        pytest.skip("this bubblewrap or kernel cannot end user namespaces")
    assert inside(code).stdout == "-1\n"


@pytest.mark.parametrize(
    "code, words",
    [
        ("x = bytearray(2 << 30)", "MemoryError"),
        ("open('/tmp/x', 'wb').truncate(3 << 20)", "File too large|SIGXFSZ"),
        ("import os\nfor i in range(200): os.open('/usr', os.O_RDONLY)", "Too many open files"),
    ],
)
def test_limits(code, words):
    done = inside(code, mem_gb=1, files=64, file_gb=1 / 1024)
    assert done.returncode != 0 and any(word in done.stderr for word in words.split("|")), done.stderr


def test_the_limit_of_cpu_time_ends_it():
    assert inside("while True: pass", cpu_s=1).returncode != 0


def test_inherited_pipes_stay_open(tmp_path):
    """`autograder.sandbox.process` talks to its process over two of them."""
    read, write = os.pipe()
    subprocess.run(
        bwrap.bwrap([sys.executable, "-c", f"import os; os.write({write}, b'hello')"]),
        pass_fds=(write,),
        timeout=60,
        check=True,
    )
    os.close(write)
    with open(read, "rb") as pipe:
        assert pipe.read() == b"hello"


def test_where_there_is_no_sandbox_the_way_out_is_named(monkeypatch):
    monkeypatch.setattr(bwrap, "available", lambda: "bwrap is not installed: sudo apt-get install bubblewrap")
    with pytest.raises(bwrap.NoSandboxError) as caught:
        bwrap.require()
    assert "apt-get install bubblewrap" in str(caught.value)
    assert "--i-accept-running-student-code-unprotected" in str(caught.value)


def test_libraries_that_ld_library_path_names_come_along(tmp_path, monkeypatch):
    library = tmp_path / "tensorrt" / "libnvinfer.so.8"
    library.parent.mkdir()
    library.write_text("library")
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{library.parent}:{ROOT}:/")
    code = f"print(open({str(library)!r}).read(), __import__('os').path.exists({str(ROOT / 'solutions')!r}))"
    done = inside(code, gpu=True)
    assert done.stdout.split() == ["library", "False"], done.stderr
    assert "FileNotFoundError" in inside(code).stderr, "without a GPU no library is needed"


def test_no_folder_that_ld_library_path_names_shows_a_secret(tmp_path, monkeypatch):
    course, home = tmp_path / "all" / "course", tmp_path / "home"
    good = [home / "TensorRT" / "lib", tmp_path / "cuda"]
    bad = [tmp_path / "all", course, course / "solutions", home, tmp_path]
    for folder in (*good, *bad):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "libx.so").touch()
    (tmp_path / "papers").mkdir()
    (tmp_path / "link").symlink_to(course / "solutions")
    bad += [tmp_path / "papers", tmp_path / "link", tmp_path / "missing", "", "relative", "/usr/lib/x86_64-linux-gnu"]
    monkeypatch.setattr(bwrap, "ROOT", course)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LD_LIBRARY_PATH", ":".join(map(str, [*good, *bad])))
    assert bwrap._named_libraries() == sorted(map(str, good))


def test_a_link_in_usr_can_be_named_as_seen():
    """/usr/local/cuda is one, and bubblewrap can mount nothing on a link: on a GPU machine no box started."""
    link = Path(f"/usr/local/trt-course-test-{os.getpid()}")
    try:
        link.symlink_to("/usr/lib")
    except OSError:
        pytest.skip("needs to write into /usr/local")
    try:
        done = inside(f"import os; print(len(os.listdir({str(link)!r})) > 0)", ro=(link,))
        assert done.stdout.strip() == "True", done.stderr
    finally:
        link.unlink()
