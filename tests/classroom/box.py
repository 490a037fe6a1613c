"""A class on a small course with a quick milestone. The flow around it is the real one: nbgrader, sandbox, gradebook.

The milestone's artifact is 36 bytes, and `quick_measure.py` takes the place of `autograder measure`, whose own tests
are elsewhere: it opens the file in the same guarded way, and compares it.
"""

from __future__ import annotations

import dataclasses
import io
import shutil
import sys
from pathlib import Path

import nbformat
from nbgrader.api import Gradebook
from rich.console import Console

from autograder.artifacts.onnx import Onnx
from autograder.authoring.release import build
from autograder.classroom.grade import Outcome, grade
from autograder.milestones.stage1 import RESNET50_FP16
from course.paths import ROOT

COURSE = ROOT / "tests" / "hostile" / "notebooks" / "course"
STAGE, NOTEBOOK = "stage8_box", "01_box"
MILESTONE = dataclasses.replace(
    RESNET50_FP16,
    id="box.m1",
    stage=STAGE,
    notebook=NOTEBOOK,
    grade_id="m-box",
    title="The box",
    artifacts=(Onnx("artifacts/answer.bin"),),
)
CONFIG = """
import sys
from pathlib import Path
sys.path[:0] = [{repository!r}]
from autograder.classroom.nbgrader_settings import configure
from {milestone} import MILESTONE
c = get_config()
configure(c, Path(__file__).resolve().parent, [MILESTONE])
c.SandboxedExecute.timeout = 20  # a shared machine stands still for seconds: 6 cost honest ones their marks
c.SandboxedExecute.total_s = 60
c.SandboxedExecute.mem_gb = 1.0
c.SandboxedExecute.processes = 64
c.Execute.startup_timeout = 120
"""
FOLD = "def fold(ws):\n    out = ws[0]\n    for w in ws[1:]:\n        out = out @ w\n    return out"
BUILD = (
    'from pathlib import Path\nPath("artifacts").mkdir(exist_ok=True)\n'
    'Path("artifacts/answer.bin").write_bytes((4 * np.ones((3, 3), "float32")).tobytes())'
)
SOLVED = bytes.fromhex("00008040") * 9
"""The artifact that earns all points."""


def make_course(root: Path, milestone: str = "tests.classroom.box") -> Path:
    """A released course in `root`; `milestone`: module that declares its MILESTONE."""
    shutil.copytree(COURSE, root)
    (root / "nbgrader_config.py").write_text(CONFIG.format(repository=str(ROOT), milestone=milestone))
    build(root)
    return root


def blank(root: Path) -> nbformat.NotebookNode:
    return nbformat.read(root / STAGE / f"{NOTEBOOK}.ipynb", 4)


def cell(notebook: nbformat.NotebookNode, grade_id: str) -> nbformat.NotebookNode:
    return next(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == grade_id)


def solved(root: Path) -> nbformat.NotebookNode:
    notebook = blank(root)
    cell(notebook, "fold").source, cell(notebook, "build").source = FOLD, BUILD
    return notebook


def hand_in(
    root: Path,
    student: str,
    notebook: nbformat.NotebookNode | bytes | None,
    files: dict | None = None,
    time: str = "",
    name: str = NOTEBOOK,
) -> Path:
    """`files`: path -> text or bytes."""
    folder = root / ".grading" / "submitted" / student / STAGE
    folder.mkdir(parents=True)
    if notebook is not None:
        data = notebook if isinstance(notebook, bytes) else nbformat.writes(notebook).encode()
        (folder / f"{name}.ipynb").write_bytes(data)
    for path, content in (files or {}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    if time:
        (folder / "timestamp.txt").write_text(time)
    return folder


def run(root: Path, **options) -> dict[str, Outcome]:
    options = {
        "jobs": 2,
        "limit_s": 120,
        "milestones": [MILESTONE],
        "measure_command": (sys.executable, str(ROOT / "tests/classroom/quick_measure.py")),
        "console": Console(file=io.StringIO()),
        **options,
    }
    return {outcome.student: outcome for outcome in grade(STAGE, root, **options)}


def scores(root: Path, student: str) -> dict[str, float | None]:
    """grade_id -> points that the grader gave."""
    with Gradebook(f"sqlite:///{root}/.grading/gradebook.db?timeout=120", "trt-course") as book:
        notebook = book.find_submission_notebook(NOTEBOOK, STAGE, student)
        return {grade.cell.name: grade.auto_score for grade in notebook.grades}


def told(root: Path, student: str) -> str:
    """What a run left behind: the errors in the notebook and the log, for the message of a failed test."""
    path = root / ".grading" / "autograded" / student / STAGE / f"{NOTEBOOK}.ipynb"
    cells = nbformat.read(path, 4).cells if path.is_file() else []
    errors = [out for cell in cells for out in cell.get("outputs", []) if out.output_type == "error"]
    log = root / ".grading" / "logs" / STAGE / f"{student}.log"
    words = [f"{error.ename}: {error.evalue}" for error in errors] + [log.read_text() if log.is_file() else "no log"]
    return "\n".join(word[-4000:] for word in words)
