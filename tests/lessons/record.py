"""What a lesson's run said, kept with the hashes of all that it used: like an object file, it stands until one changes."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path

from course.files import atomic_write
from course.paths import ASSETS, ROOT

FOLDER = ROOT / "build" / "lessons-record"
PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "onnx",
    "onnxruntime",
    "tensorrt-rtx",
    "tensorrt",
    "matplotlib",
    "jupytext",
)


def read(lesson: Path, untouched: bool = False) -> dict | None:
    """The report of the last run, if nothing that it used has changed since."""
    try:
        kept = json.loads(_place(lesson, untouched).read_text())
    except (OSError, ValueError):
        return None
    return kept["report"] if kept["stamp"] == _stamp(lesson, kept["report"]["used"]) else None


def write(lesson: Path, report: dict, untouched: bool = False) -> None:
    atomic_write(
        _place(lesson, untouched), json.dumps({"stamp": _stamp(lesson, report["used"]), "report": report}).encode()
    )


def _place(lesson: Path, untouched: bool) -> Path:
    return FOLDER / lesson.parent.name / f"{lesson.stem}{'.untouched' if untouched else ''}.json"


def _stamp(lesson: Path, used: list[str]) -> dict[str, str]:
    """Hashes of the modules, the lesson's stage (notebooks of other lessons aside), its wrong answers, the list of
    assets and this runner; and versions.
    """
    stage = [
        path
        for path in (*lesson.parent.rglob("*"), *(ROOT / lesson.parent.name).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]
    helpers = [path for path in stage if path.suffix != ".ipynb" and path.name != ".release.json"]
    helpers = [path for path in helpers if path.parent != lesson.parent or path == lesson]
    wrong = ROOT / "tests" / "lessons" / "wrong" / lesson.parent.name / f"{lesson.stem}.py"
    runner = Path(__file__).parent
    files = {
        *map(Path, used),
        *helpers,
        wrong,
        ASSETS / "manifest.json",
        *runner.glob("*.py"),
        runner.parent / "threads.py",
    }
    hashes = {str(path.relative_to(ROOT)): _hash(path) for path in sorted(files) if path.is_relative_to(ROOT)}
    return {**hashes, "python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
