"""solutions/<stage>/ -> the learners' stage folders, and the instructor's notebooks for nbgrader.

python -m autograder release build [--force] [STAGE ...]
python -m autograder release check [STAGE ...]
"""

from __future__ import annotations

import argparse
import difflib
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autograder.authoring.notebook import LESSON, read_lesson, student_version
from autograder.authoring.strip import is_editable, strip
from course.errors import CourseError, MissingFileError
from course.files import atomic_write
from course.paths import ROOT
from course.update import MANIFEST, Change, fingerprint, manifest_bytes, notebook_bytes, read_manifest, sync

SOURCE = ".grading/source"
"""Below the course: the instructor's notebooks, with solutions and all tests. Git ignores it."""


@dataclass(frozen=True)
class Rendered:
    """One stage, in memory: path inside the stage folder -> bytes."""

    student: dict[str, bytes]
    """What learners get."""
    source: dict[str, bytes]
    """What nbgrader gets: notebooks with solutions; helper files without, as it copies them to learners."""
    editable: tuple[str, ...]
    """The helper files that learners edit."""


def stage_names(root: Path = ROOT, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """Stages that have solutions or were released before; `wanted` picks some by their folder name.

    Raises:
        MissingFileError: a wanted stage is not there.
    """
    names = {path.name for path in (root / "solutions").glob("stage*") if path.is_dir()}
    names |= {path.parent.name for path in root.glob(f"stage*/{MANIFEST}")}
    for name in wanted:
        if name.strip("/") not in names:
            raise MissingFileError(
                f"There is no stage {name!r}.",
                f"solutions/ has {', '.join(sorted(names)) or 'none'}.",
                "Give the name of a folder in solutions/.",
            )
    return tuple(sorted({name.strip("/") for name in wanted} or names))


def render(root: Path, stage: str) -> Rendered:
    """Generate one stage in memory. The same sources give the same bytes everywhere.

    Raises:
        CourseError: a lesson or helper file has a mistake; nothing was written.
    """
    base = root / "solutions" / stage
    student, source, editable = {}, {}, []
    for path in sorted(base.rglob("*")):
        name = path.relative_to(base).as_posix()
        if path.is_dir() or any(part == "__pycache__" or part[0] == "." for part in name.split("/")):
            continue
        where, data = f"solutions/{stage}/{name}", path.read_bytes()
        text = _text(data, where)
        if path.suffix == ".ipynb":
            raise CourseError(
                f"{where} is a notebook.",
                "Lessons are written as py:percent text, and only there.",
                f"Run `jupytext --to py:percent {where}`, and remove the notebook.",
            )
        if LESSON.fullmatch(path.name):
            if "/" in name:
                raise CourseError(
                    f"{where} lies too deep.",
                    "nbgrader takes notebooks from the stage folder only.",
                    f"Move it to solutions/{stage}/, or give the helper file a name without a number.",
                )
            notebook, name = read_lesson(text or "", where), path.with_suffix(".ipynb").name
            source[name] = notebook_bytes(notebook)
            student[name] = notebook_bytes(student_version(notebook))
        else:
            if text is not None:
                if is_editable(text):
                    editable.append(name)
                data = strip(text, where).encode()
            student[name] = source[name] = data
    return Rendered(student, source, tuple(editable))


def student_editable(root: Path, stage: str) -> tuple[str, ...]:
    """The helper files of which the learner's copy must be graded (nbgrader's `exclude_overwriting`)."""
    return render(root, stage).editable


def write_source(root: Path = ROOT, stages: Sequence[str] = ()) -> Path:
    """Write the instructor's notebooks and the helper files to `.grading/source/<stage>/`; clear the rest."""
    return _write_source(root, {stage: render(root, stage) for stage in stage_names(root, stages)})


def build(root: Path = ROOT, stages: Sequence[str] = (), *, force: bool = False) -> dict[str, tuple[Change, ...]]:
    """Bring the stage folders and `.grading/source` up to date; stage -> what changed.

    A file in a stage folder that somebody edited is kept; `force` overwrites it and keeps it as NAME.mine-N.

    Raises:
        CourseError: a source has a mistake (then nothing was written), or a file cannot be written.
    """
    rendered = {stage: render(root, stage) for stage in stage_names(root, stages)}
    _write_source(root, rendered)
    return {
        stage: sync(root / stage, files.student, on_edit="replace" if force else "keep", editable=files.editable)
        for stage, files in rendered.items()
    }


def check(root: Path = ROOT, stages: Sequence[str] = ()) -> tuple[str, ...]:
    """Generate everything again: one line, with a hint, per file that is not what its source gives.

    Raises:
        CourseError: a source has a mistake.
    """
    drift = []
    for stage in stage_names(root, stages):
        files = render(root, stage)
        listed = {name: fingerprint(name, data) for name, data in files.student.items()}
        expected = dict(files.student)
        if expected:
            expected[MANIFEST] = manifest_bytes(listed, editable=files.editable)
        before = set((read_manifest(root / stage) or {"files": {}})["files"])
        for name in sorted({*expected, *before, *_tracked(root, stage)}):
            path = root / stage / name
            there = path.read_bytes() if path.is_file() else None
            if there != expected.get(name):
                drift.append(f"{stage}/{name}: {_difference(name, there, expected.get(name))}")
    return tuple(drift)


def main(argv: list[str] | None = None) -> int:
    """`release build` and `release check`; 0 if the stage folders are what the sources give."""
    parser = argparse.ArgumentParser(prog="python -m autograder release", description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=["build", "check"])
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="folders below solutions/; without any, all")
    parser.add_argument("--force", action="store_true", help="overwrite edited files; each is kept as NAME.mine-N")
    parser.add_argument("--root", type=Path, default=ROOT, help="the course folder")
    args = parser.parse_intermixed_args(argv)
    root = args.root.resolve()
    if args.command == "check":
        drift = check(root, args.stages)
        print("\n".join(drift) if drift else "release check: the stage folders are what solutions/ gives.")
        if drift:
            print(
                f"release check: {len(drift)} file(s) differ. Next step: edit solutions/, never the stage "
                "folders, then run `python -m autograder release build`."
            )
        return 1 if drift else 0
    kept = 0
    for stage, changes in build(root, args.stages, force=args.force).items():
        for change in changes:
            print(f"{change.action:8} {stage}/{change.path}" + (f"  ({change.note})" if change.note else ""))
        edited = sum(change.action == "kept" for change in changes)
        kept += edited
        print(
            f"{stage}: {len(changes) - edited} file(s) changed, {edited} kept." if changes else f"{stage}: up to date."
        )
    return 1 if kept else 0


def _write_source(root: Path, rendered: dict[str, Rendered]) -> Path:
    for stage, files in rendered.items():
        folder = root / SOURCE / stage
        for name, data in files.source.items():
            if not (folder / name).is_file() or (folder / name).read_bytes() != data:
                atomic_write(folder / name, data)
        for path in folder.rglob("*"):
            if path.is_file() and path.relative_to(folder).as_posix() not in files.source:
                path.unlink()
    return root / SOURCE


def _text(data: bytes, where: str) -> str | None:
    """The text of a file with LF line ends and one at its end, or None for a binary file."""
    try:
        text = data.decode("utf-8-sig")
        if "\0" in text:
            raise ValueError
    except ValueError as error:
        if b"BEGIN SOLUTION" in data or where.endswith(".py"):
            raise CourseError(
                f"{where} is not UTF-8 text.",
                "Its solution regions could not be removed safely.",
                "Save it as UTF-8.",
            ) from error
        return None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if text.endswith("\n") or not text else text + "\n"


def _tracked(root: Path, stage: str) -> set[str]:
    """Files that git holds in a stage folder; none where the course is no git repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root / stage), "ls-files", "-z"],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
        )
    except OSError:
        return set()
    return set(filter(None, done.stdout.split("\0"))) if done.returncode == 0 else set()


def _difference(name: str, there: bytes | None, expected: bytes | None) -> str:
    if expected is None:
        return "nothing in solutions/ generates it."
    if there is None:
        return "missing."
    if fingerprint(name, there) == fingerprint(name, expected):
        return "only outputs or Jupyter's own metadata differ."
    try:
        old, new = there.decode().split("\n"), expected.decode().split("\n")
    except UnicodeDecodeError:
        return f"other content ({len(there)} bytes, the source gives {len(expected)})."
    lines = [line for line in difflib.unified_diff(old, new, "there", "source", n=0, lineterm="")][2:]
    shown = "\n".join(f"    {line[:140]}" for line in lines[:6])
    return "differs.\n" + shown + ("\n    ..." if len(lines) > 6 else "")
