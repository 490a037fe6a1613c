"""Control groups: what no limit of a single process counts ends in one, and nothing is left behind.

What needs a real group is skipped where this user may make none, with the reason. Finding a place in version 2 is tried
on folders that only look like one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autograder.artifacts.script import Script
from autograder.classroom.kernel import _Watch
from autograder.rejected import Rejected
from autograder.sandbox import bwrap, cgroup, groups, look, run_box
from autograder.sandbox.process import Box
from autograder.sandbox.supervise import TOO_MUCH
from course.paths import ROOT

pytestmark = pytest.mark.skipif(bwrap.available() is not None, reason=f"no sandbox here: {bwrap.available()}")
real = pytest.mark.skipif(cgroup.available() is not None, reason=f"no control group here: {cgroup.available()}")
LIMIT = 96 << 20

# Each holds 320 MB, no process of it more than 40 MB of its own; then it says so.
IN_FLIGHT = """
import os, socket
ends = []
for _ in range(20):
    ends.append(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
    file = os.memfd_create("x")
    os.write(file, bytes(16 << 20))
    socket.send_fds(ends[-1][0], [b"x"], [file])
    os.close(file)
"""
SYSTEM_V = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
for _ in range(20):
    segment = libc.shmget(0, 16 << 20, 0o1600)
    assert segment >= 0, ctypes.get_errno()
    place = libc.shmat(segment, None, 0)
    ctypes.memset(place, 1, 16 << 20)
    libc.shmdt(ctypes.c_void_p(place))
"""
CHILDREN = """
import os, time
for _ in range(20):
    if os.fork() == 0:
        hog = os.urandom(1 << 20) * 16
        time.sleep(60)
time.sleep(2)
"""
FILES = """
for number in range(20):
    open(f"{('/tmp', '/dev/shm')[number % 2]}/{number}", "wb").write(bytes(16 << 20))
"""
PROGRAMS = {"in-flight": IN_FLIGHT, "system-v": SYSTEM_V, "children": CHILDREN, "files": FILES}


def by_hand() -> str:
    """Why this test can make no group, without the help of what is tested; else nothing."""
    own = [line.split(":", 2) for line in cgroup.OWN.read_text().splitlines()]
    old = [path for _, names, path in own if "memory" in names.split(",")]
    base = cgroup.ROOT / "memory" if old else cgroup.ROOT
    parent = base / (old or [path for _, names, path in own if not names])[0].lstrip("/")
    folder = (parent if old or parent == base else parent.parent) / f"by-hand-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        return f"no group by hand: {error}"
    try:
        (folder / ("memory.limit_in_bytes" if old else "memory.max")).write_text("67108864")
        done = subprocess.run(["sh", "-c", f"echo $$ > {folder}/cgroup.procs"], stderr=subprocess.DEVNULL)
        return "no process goes in by hand" if done.returncode else ""
    except OSError as error:
        return f"no limit by hand: {error}"
    finally:
        folder.rmdir()


def test_who_can_make_a_group_by_hand_has_groups():
    """Else a mistake in what is tested would only skip the tests."""
    if why := by_hand():
        pytest.skip(why)
    assert cgroup.available() is None


@pytest.fixture
def made():
    """Makes groups; they are closed at the end, and then nothing of them may be left."""
    groups = []

    def make(memory: int = LIMIT, processes: int = 64) -> cgroup.Group:
        groups.append(cgroup.make(memory, processes))
        return groups[-1]

    yield make
    for group in groups:
        group.close()
        assert not any(folder.exists() for folder in group.folders)


def run(group: cgroup.Group | None, code: str, **options) -> subprocess.CompletedProcess:
    line = bwrap.bwrap([sys.executable, "-I", "-S", "-c", code], **options)
    line = group.join(line) if group else line
    return subprocess.run(line, env={}, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


@real
@pytest.mark.parametrize("program", PROGRAMS)
def test_memory_that_no_process_owns_ends_in_a_group(made, program):
    code = PROGRAMS[program] + "print('held')"
    group = made()
    done = run(group, code)
    folders = group.folders
    group.close()
    assert group.exhausted(), done.stdout + done.stderr
    if program != "children":  # in version 1 single ones are ended: the one that counts them may live
        assert done.returncode != 0 and "held" not in done.stdout
    assert not any(folder.exists() for folder in folders)


@real
def test_the_same_program_passes_where_only_single_processes_are_limited():
    """Else the test above would show nothing."""
    assert run(None, IN_FLIGHT + "print('held')").stdout == "held\n"
    assert run(None, SYSTEM_V + "print('held')").stdout == "held\n"


@real
def test_who_stays_below_the_limit_notices_nothing(made):
    group = made()
    done = run(group, "import os; x = b'x' * (48 << 20); print(sorted(os.environ)[:1], len(x))")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.endswith(f"{48 << 20}\n")
    assert not group.exhausted()
    group.close()
    assert not group.exhausted()


@real
def test_bubblewrap_gets_no_variable_from_what_enters_the_group(made):
    done = run(made(), "print(repr(open('/proc/1/environ').read()))")
    assert done.stdout == "''\n"


@real
def test_no_more_processes_than_the_group_may_have(made):
    code = """
import os, time
made = 0
try:
    for _ in range(200):
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
        made += 1
except OSError as error:
    print(made, type(error).__name__, flush=True)
os.kill(-1, 9)
"""
    group = made(512 << 20, 8)
    if group.place.pids is None:
        pytest.skip("no group limits processes here")
    count, error = run(group, code).stdout.split()
    assert 8 <= int(count) <= 8 * cgroup.TASKS and error == "BlockingIOError"


@real
def test_what_cannot_enter_does_not_run(made, tmp_path):
    group = made()
    group.close()
    done = run(group, "print('ran')")
    assert done.returncode == 125 and done.stdout == "" and "cgroup.procs" in done.stderr


def _wait_for(group: cgroup.Group) -> None:
    """Until something is in it."""
    end = time.monotonic() + 20
    while not all(groups.members(str(folder)) for folder in group.folders):
        assert time.monotonic() < end
        time.sleep(0.01)


@real
def test_a_process_in_a_group_ends_with_it(made):
    group = made()
    process = subprocess.Popen(group.join(["sleep", "60"]), start_new_session=True)
    _wait_for(group)
    group.close()
    assert process.wait(5) == -signal.SIGKILL and not group.exhausted()


@real
def test_what_a_dead_grader_left_is_swept_and_what_a_living_one_has_is_not(made):
    code = f"""
import subprocess, time
from autograder.sandbox import cgroup
group = cgroup.make({LIMIT}, 4)
inside = subprocess.Popen(group.join(["sleep", "60"]), start_new_session=True)
print(group.name, inside.pid, flush=True)
time.sleep(60)
"""
    mine = made()
    grader = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    name, inside = grader.stdout.readline().split()
    left = cgroup.Group(mine.place, name)
    _wait_for(left)
    assert cgroup.sweep(mine.place) == 0 and all(folder.exists() for folder in left.folders), "it lives"
    grader.kill()
    grader.wait()
    grader.stdout.close()
    assert all(folder.exists() for folder in left.folders) and os.path.exists(f"/proc/{inside}")
    assert cgroup.sweep(mine.place) == 1
    assert not any(folder.exists() for folder in left.folders)
    assert all(folder.exists() for folder in mine.folders)
    assert not os.path.exists(f"/proc/{inside}") or "State:\tZ" in Path(f"/proc/{inside}/status").read_text()


# Boxes

HOARDS = IN_FLIGHT.replace("range(20)", "range(40)")
CALL = dict(function="smooth", groups=[0], settings={"x": 0}, seconds=60)


def script(tmp_path: Path, code: str) -> Box:
    path = tmp_path / "box" / "smooth.py"
    path.parent.mkdir(parents=True)
    path.write_text(code)
    sees = (*(ROOT / name for name in Script.harness), path.parent)
    return Box(Script.inside, str(path), sees=sees, words=Script.words, memory_gb=0.5, cpu_s=60, confined=True)


def indented(code: str) -> str:
    return code.strip().replace("\n", "\n    ")


@real
@pytest.mark.parametrize(
    "code",
    [
        f"def smooth(x):\n    {indented(HOARDS)}",
        f"import subprocess, sys\ndef smooth(x):\n    subprocess.run([sys.executable, '-c', {HOARDS!r}], check=True)",
    ],
    ids=["itself", "child"],
)
def test_the_learner_reads_that_the_limit_on_memory_ended_it(tmp_path, code):
    with script(tmp_path, code) as box:
        folders = box._group.folders
        for _ in range(2):
            with pytest.raises(Rejected, match=r"(?s)too much memory.*more than 0.5 GB of memory"):
                box.ask("call", **CALL)
    assert not any(folder.exists() for folder in folders)


def test_a_box_works_without_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(cgroup, "available", lambda: "none here")
    with script(tmp_path, "import numpy\ndef smooth(x):\n    return numpy.ones(3, 'f')") as box:
        _, (answer,) = box.ask("call", **CALL)
        assert answer.sum() == 3 and box._group is None
    with pytest.raises(Rejected, match="ended the process") as caught:
        with script(tmp_path / "b", "import os\nos.kill(os.getpid(), 9)") as box:
            box.ask("call", **CALL)
    assert "limited to 0.5 GB" in caught.value.cause


@pytest.mark.parametrize("grouped", [pytest.param(True, marks=real), False])
def test_a_run_box_says_the_same_with_a_group_and_without(monkeypatch, grouped):
    if not grouped:
        monkeypatch.setattr(cgroup, "available", lambda: "none here")
    wrap = run_box.wrapper(memory_gb=0.125)
    code = "kept = []\nwhile True: kept.append(bytearray(b'x' * (4 << 20)))"
    line = wrap([sys.executable, "-I", "-S", "-c", code])
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (TOO_MUCH, "It was ended: it held more than 0.12 GB of memory.\n")
    assert not [folder for parent in _parents() for folder in parent.glob("trt-course-*") if _dead(folder)]


def _parents() -> tuple[Path, ...]:
    return () if cgroup.available() else cgroup.find().parents


def _dead(folder: Path) -> bool:
    return not os.path.exists(f"/proc/{folder.name.split('-')[2]}")


@real
@pytest.mark.parametrize("code", [IN_FLIGHT, CHILDREN + "time.sleep(30)"], ids=["itself", "children"])
def test_the_watcher_of_a_kernel_says_what_its_group_did(made, tmp_path, code):
    """In the first case the kernel is gone before the watcher looks; in the second it would live on."""
    group = made()
    line = group.join(bwrap.bwrap([sys.executable, "-I", "-S", "-c", code]))
    process = subprocess.Popen(line, env={}, stdin=subprocess.DEVNULL, start_new_session=True)
    watch = _Watch(process.pid, LIMIT / 2**30, 64, 60.0, 1.0, str(tmp_path), group)
    watch.start()
    process.wait(30)
    watch.join(5)
    group.close()
    assert watch.why() == "it used more than 0.09375 GB of memory"


# Finding a place


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine that is made up: machine(own, **files) writes /proc/self/cgroup and the files of its groups."""
    monkeypatch.setattr(cgroup, "ROOT", tmp_path / "fs")
    monkeypatch.setattr(cgroup, "OWN", tmp_path / "own")
    monkeypatch.setattr(cgroup, "_delegated", lambda group: (group / "delegated").exists())
    cgroup.available.cache_clear()
    (tmp_path / "fs").mkdir()

    def build(own: str, files: dict[str, str]) -> Path:
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "fs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "fs"

    yield build
    cgroup.available.cache_clear()


def group(path: str, ready: bool = False, **files: str) -> dict[str, str]:
    """Files of a group of version 2. ready: it limits memory and processes of those in it."""
    words = {"cgroup.controllers": "cpu memory pids", "cgroup.subtree_control": "memory pids" if ready else ""}
    words |= {"cgroup.procs": ""} | files
    return {f"{path}/{name}".lstrip("/"): text for name, text in words.items()}


def test_without_any_group_all_is_as_before(machine, capsys):
    machine("0::/\n", {})
    assert "no controller of memory" in cgroup.available()
    assert cgroup.make(LIMIT, 4) is None
    assert cgroup.words().startswith("limits of boxes: watched from outside; no control group: ")
    look.main([])
    assert "watched from outside" in capsys.readouterr().out


@real
def test_the_graders_own_check_says_that_groups_hold(capsys):
    assert look.main([]) == 0
    assert "limits of boxes: by control groups (cgroup v" in capsys.readouterr().out


def test_version_1_takes_its_own_group_or_the_top_of_what_it_sees(machine):
    files = {f"{kind}/{path}cgroup.procs": "" for kind in ("memory", "pids") for path in ("", "mine/")}
    root = machine("5:pids:/mine\n4:cpu,memory:/mine\n0::/\n", files | {"cgroup.procs": ""})
    assert cgroup.find() == cgroup.Place(1, root / "memory/mine", root / "pids/mine")
    machine("5:pids:/host/only\n4:memory:/host/only\n", {})
    assert cgroup.find() == cgroup.Place(1, root / "memory", root / "pids")
    machine("4:memory:/mine\n", {})
    assert cgroup.find().pids is None


def test_version_1_of_somebody_else_is_refused_with_the_way_out(machine, monkeypatch):
    machine("4:memory:/mine\n", {"memory/mine/cgroup.procs": ""})
    monkeypatch.setattr(cgroup, "_writable", lambda group: False)
    assert "memory/mine is not this user's (chown it" in cgroup.available()


UNIT = "user.slice/user@1000.service/app.slice/run-1.scope"


def test_version_2_lies_beside_its_own_group_where_that_is_ready(machine):
    root = machine(f"0::/{UNIT}/grader\n", group("") | group(UNIT, ready=True) | group(f"{UNIT}/grader"))
    assert cgroup.find() == cgroup.Place(2, root / UNIT, root / UNIT)


def test_version_2_moves_all_of_a_delegated_unit_one_down(machine):
    root = machine(
        f"0::/{UNIT}\n",
        group("") | group(UNIT, delegated="", **{"cgroup.procs": "41\n42\n"}) | group(f"{UNIT}/grader"),
    )
    assert cgroup.find().memory == root / UNIT
    assert (root / UNIT / "grader/cgroup.procs").read_text() == "42"  # the last one written: a real one keeps both
    assert "pids" in (root / UNIT / "cgroup.subtree_control").read_text()


@pytest.mark.parametrize(
    "files",
    [
        group(UNIT),  # of this user, but systemd's
        group(UNIT) | group("user.slice/user@1000.service/app.slice", ready=True),  # so are slices
        group(UNIT, delegated="", **{"cgroup.controllers": "cpu pids"}),
    ],
    ids=["not delegated", "in a slice", "without memory"],
)
def test_version_2_takes_nothing_that_was_not_left_to_it(machine, files):
    machine(f"0::/{UNIT}\n", group("") | files)
    assert "Delegate=yes" in cgroup.available()
    assert cgroup.make(LIMIT, 4) is None


def test_version_2_never_leaves_the_mounted_tree(machine):
    """In a container: its own group is the top of what it sees."""
    root = machine("0::/\n", group("", ready=True))
    assert cgroup.find() == cgroup.Place(2, root, root)
    machine("0::/\n", group(""))
    with pytest.raises(cgroup.NoGroupError):
        cgroup.find()
