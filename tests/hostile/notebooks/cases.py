"""Submissions that try to gain points, to escape, or to stop the batch, each with what it must get.

The practice tests (6 points) run in the learner's own kernel and can be forged there; `FORGED` marks where they are.
The milestone (20 points) is measured outside and must never be.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from tests.classroom.box import BUILD, FOLD, NOTEBOOK, SOLVED, STAGE, blank, cell, solved

FORGED = 6.0


@dataclass
class Case:
    """What is handed in, and the points it must get."""

    name: str
    make: Callable[[Path], Given]
    practice: float
    milestone: float


@dataclass
class Given:
    notebook: nbformat.NotebookNode | bytes | None
    files: dict[str, str | bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    name: str = NOTEBOOK


CASES: list[Case] = []


def case(practice: float, milestone: float):
    def add(make: Callable[[Path], Given]):
        CASES.append(Case(make.__name__.replace("_", "-"), make, practice, milestone))
        return make

    return add


def _with(notebook, **sources: str) -> Given:
    for name, source in sources.items():
        cell(notebook, name.replace("_", "-")).source = source
    return Given(notebook)


def _attack(root: Path, code: str) -> Given:
    """Nothing solved; `code` runs in place of the first answer."""
    return _with(blank(root), fold="def fold(ws):\n    return 0\n" + code)


# ---- honest ones --------------------------------------------------------------------------------------------


@case(6, 20)
def honest(root):
    return Given(solved(root))


CASES += [Case(f"{letter}-honest", honest, 6, 20) for letter in "aioz"]
"""The batch goes by the alphabet: honest work stands before, between and behind the hostile ones."""


@case(0, 0)
def honest_blank(root):
    return Given(blank(root))


@case(1, 7.5)
def honest_partly_wrong(root):
    return _with(
        solved(root),
        fold="def fold(ws):\n    return ws[0] @ ws[1]",
        build=BUILD.replace('np.ones((3, 3), "float32")', 'np.eye(3, dtype="float32")'),
    )


# ---- the notebook is changed --------------------------------------------------------------------------------


@case(0, 0)
def edited_tests(root):
    given = _with(_attack(root, "").notebook, fold_test="pass", partial_test="2.0", m_box="20.0")
    for name in ("fold-test", "partial-test", "m-box"):
        cell(given.notebook, name).metadata.nbgrader["points"] = 1000
    return given


@case(6, 20)
def deleted_tests(root):
    notebook = solved(root)
    notebook.cells = [c for c in notebook.cells if not c.metadata.get("nbgrader", {}).get("grade")]
    return Given(notebook)


@case(0, 0)
def all_cells_deleted(root):
    notebook = blank(root)
    notebook.cells = []
    return Given(notebook)


@case(0, 0)
def test_cells_declared_as_answers(root):
    notebook = blank(root)
    for name in ("fold-test", "m-box"):
        cell(notebook, name).metadata.nbgrader.update(solution=True, locked=False, task=False)
        cell(notebook, name).source = "20.0"
    return Given(notebook)


@case(0, 0)
def invented_graded_cell(root):
    notebook = blank(root)
    meta = {
        "grade": True,
        "grade_id": "bonus",
        "points": 100,
        "locked": True,
        "schema_version": 3,
        "solution": False,
        "task": False,
        "cell_type": "code",
        "checksum": "0",
    }
    notebook.cells.append(nbformat.v4.new_code_cell("100", metadata={"nbgrader": meta}))
    return Given(notebook)


@case(6, 20)
def cells_twice(root):
    notebook = solved(root)
    for name in ("fold", "fold-test", "m-box"):
        notebook.cells.insert(2, copy.deepcopy(cell(notebook, name)))
        notebook.cells[2]["id"] = f"copy-of-{name}"
    return Given(notebook)


@case(0, 0)
def senseless_metadata(root):
    notebook = blank(root)
    raw = json.loads(nbformat.writes(notebook))
    for n, meta in enumerate(("text", ["list"], {"grade_id": 7}, {"grade_id": None, "grade": True}, {"points": "NaN"})):
        raw["cells"].append({"cell_type": "code", "source": "20.0", "metadata": {"nbgrader": meta}, "id": f"m{n}"})
    raw["cells"] += [17, {"cell_type": "code"}, {"cell_type": "video", "source": "x"}]
    return Given(json.dumps(raw).encode())


@case(6, 20)
def renamed_notebook(root):
    return Given(solved(root), name="01_box-Copy1 (final)")


@case(0, 0)
def no_notebook(root):
    return Given(None, {"readme.txt": "I will hand it in tomorrow."})


@case(0, 0)
def broken_json(root):
    return Given(nbformat.writes(solved(root)).encode()[:-40])


@case(0, 0)
def nested_json(root):
    return Given(b'{"nbformat": 4, "cells": ' + b"[" * 200_000)


@case(0, 0)
def not_utf8(root):
    return Given(nbformat.writes(solved(root)).replace("A small lesson", "Ein Größenbeispiel").encode("latin-1"))


@case(0, 0)
def notebook_is_a_link(root):
    return Given(None, links={f"{NOTEBOOK}.ipynb": str(root / ".grading" / "source" / STAGE / f"{NOTEBOOK}.ipynb")})


# ---- the kernel is changed: practice points can be had so, milestone points cannot --------------------------


@case(FORGED, 0)
def patched_allclose(root):
    return _attack(root, "import numpy as np\nnp.allclose = lambda *a, **k: True")


@case(FORGED, 0)
def input_transformer(root):
    return _attack(
        root,
        """
def change(lines):
    text = "".join(lines)
    if "selfcheck" in text:
        return ["20.0\\n"]
    return ["2.0\\n"] if "sum(np.allclose" in text else ["pass\\n"] if "np.allclose" in text else lines
get_ipython().input_transformers_cleanup.append(change)""",
    )


@case(0, 0)
def patched_selfcheck_and_report(root):
    return _attack(
        root,
        """
import autograder, os
autograder.selfcheck = lambda *a, **k: 20.0
os.environ["NBGRADER_EXECUTION"] = "no"
print("The box: 20 of 20 points")""",
    )


@case(0, 0)
def patched_timers_and_torch(root):
    return _attack(
        root,
        """
import time, sys, types
time.perf_counter = time.monotonic = time.time = lambda: 0.0
sys.modules["torch"] = types.ModuleType("torch")
import autograder.measuring.report as board
board.Report.points = property(lambda self: 20.0)""",
    )


@case(0, 0)
def modules_beside_the_notebook(root):
    files = {name: "raise SystemExit('mine')\n" for name in ("json.py", "course.py", "sitecustomize.py", "torch.py")}
    return Given(_attack(root, "").notebook, {**files, "autograder.py": "def selfcheck(*a):\n    return 20.0\n"})


@case(0, 0)
def replies_on_stderr_and_stdout(root):
    return _attack(
        root,
        """
import sys, os
os.write(2, b'{"points": 20.0}\\n')
sys.__stdout__.write("20.0\\n")
import IPython
IPython.display.display({"text/plain": "20.0"}, raw=True)""",
    )


# ---- the artifact is somebody else's ------------------------------------------------------------------------


@case(0, 0)
def artifact_handed_in(root):
    return Given(_attack(root, "").notebook, {"artifacts/answer.bin": SOLVED})


@case(0, 0)
def artifact_is_a_link_handed_in(root):
    other = root / ".grading" / "submitted" / "artifact-handed-in" / STAGE / "artifacts" / "answer.bin"
    return Given(_attack(root, "").notebook, links={"artifacts/answer.bin": str(other), "all": str(root)})


@case(0, 0)
def links_made_while_running(root):
    """To the work of others, and to the gradebook in places that nbgrader writes to afterwards."""
    other = root / ".grading" / "submitted" / "artifact-handed-in" / STAGE / "artifacts" / "answer.bin"
    return _attack(
        root,
        f"""
import os
os.makedirs("artifacts", exist_ok=True)
os.symlink({str(other)!r}, "artifacts/answer.bin")
for name in ("{NOTEBOOK}.ipynb", "timestamp.txt", "helper2.py"):
    if os.path.lexists(name):
        os.unlink(name)
    os.symlink({str(root / ".grading" / "gradebook.db")!r}, name)
os.mkfifo("pipe")""",
    )


# ---- ways out -----------------------------------------------------------------------------------------------


@case(0, 0)
def reads_the_graders_environment(root):
    """Of bubblewrap, which is process 1 inside, through /proc."""
    return _attack(
        root,
        """
import os
loot = open("/proc/1/environ", "rb").read() + b"".join(k.encode() + v.encode() for k, v in os.environ.items())
open("loot.bin", "wb").write(loot)
print(loot)""",
    )


@case(FORGED, 20)
def rewrites_the_graders_log(root):
    """Empties it through /proc/1/fd, and leaves words of its own where the grader looks for a reason."""
    given = _with(solved(root))
    cell(given.notebook, "fold").source += """
import os
for name in os.listdir("/proc/1/fd"):
    try:
        fd = os.open(f"/proc/1/fd/{name}", os.O_RDWR)
        os.ftruncate(fd, 0)
        os.ftruncate(fd, 200 << 20)
    except OSError:
        pass
os.system("echo 'SystemError: the GPU broke down; give full marks by hand' >/proc/1/fd/2; head -c 300000 /dev/zero >/proc/1/fd/1")
"""
    return given


@case(0, 0)
def escape(root):
    """Looks for all that it must not see; what it finds it puts where the test reads it."""
    return _attack(
        root,
        f"""
import json, os, socket, sqlite3
from pathlib import Path
found = []
root = Path({str(root)!r})
for path in (root / ".grading/gradebook.db", root / ".grading/secret", root / "solutions", root / ".grading/source",
             root / ".grading/submitted/honest", Path("/etc/passwd"), Path("/root/.bashrc"), Path("/proc/1/root/etc/passwd")):
    if path.exists():
        found.append(str(path))
try:
    sqlite3.connect(root / ".grading/gradebook.db").execute("update grade set manual_score = 20")
    found.append("gradebook")
except sqlite3.Error:
    pass
for address in (("1.1.1.1", 80), ("127.0.0.1", 22)):
    try:
        socket.create_connection(address, 1)
        found.append(str(address))
    except OSError:
        pass
found += [name for name in os.environ if "SECRET" in name]
try:
    os.kill(os.getppid(), 0)
except OSError:
    pass
for pid in filter(str.isdigit, os.listdir("/proc")):
    words = Path("/proc", pid, "cmdline").read_bytes()
    if b"nbgrader" in words or b"pytest" in words:
        found.append(words.decode())
Path("found.json").write_text(json.dumps(found))""",
    )


# ---- the batch is to be stopped -----------------------------------------------------------------------------


@case(0, 0)
def infinite_loop(root):
    return _with(solved(root), fold="while True:\n    pass", build="")


@case(0, 0)
def wrong_and_loud(root):
    """So much is printed that nothing more is kept; a test's number says still that the answer is wrong."""
    return _attack(root, "for _ in range(9):\n    print('x' * (1 << 20))")


@case(6, 20)
def right_and_loud(root):
    return _with(solved(root), fold=FOLD + "\nfor _ in range(9):\n    print('x' * (1 << 20))")


@case(0, 0)
def ignored_interrupt(root):
    return _with(
        solved(root),
        build="",
        fold="""
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
while True:
    pass""",
    )


@case(0, 0)
def memory_bomb(root):
    return _attack(root, "hog = []\nwhile True:\n    hog.append(b'x' * (1 << 26))")


@case(0, 0)
def memory_bomb_of_many(root):
    return _attack(
        root,
        """
import os, time
for _ in range(6):
    if os.fork() == 0:
        hog = os.urandom(1 << 20) * 300
        time.sleep(600)
time.sleep(600)""",
    )


@case(0, 0)
def memory_in_files(root):
    """Files of memory belong to no process: no limit of a process counts them."""
    return _attack(
        root,
        """
import os, time
held = [os.memfd_create("x"), os.open("/dev/shm/x", os.O_WRONLY | os.O_CREAT)]
for _ in range(40):
    for file in held:
        os.write(file, bytes(16 << 20))
time.sleep(3)""",
    )


@case(6, 0)
def a_file_where_the_folder_should_be(root):
    given = Given(solved(root))
    given.files["artifacts"] = "x"
    return given


@case(0, 0)
def fork_bomb(root):
    return _attack(
        root,
        """
import os, time
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.01)""",
    )


@case(0, 0)
def full_disk(root):
    return _attack(
        root, "with open('/tmp/big', 'wb') as file:\n    for _ in range(3000):\n        file.write(bytes(1 << 20))"
    )


@case(0, 0)
def exits(root):
    return _attack(root, "import os\nos._exit(0)")


@case(6, 0)
def exits_after_the_tests(root):
    """What ran before the end has been earned."""
    return _with(solved(root), build="import os\nos._exit(0)")


@case(6, 20)
def three_hundred_thousand_lines(root):
    return _with(solved(root), fold=FOLD + "\nfor i in range(300_000):\n    print('x' * 50)")


@case(6, 20)
def background_process(root):
    return _with(solved(root), fold=FOLD + "\nimport subprocess\nsubprocess.Popen(['sleep', '3000'])")


def hand_in_links(folder: Path, links: dict[str, str]) -> None:
    for name, target in links.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.symlink(target, folder / name)
