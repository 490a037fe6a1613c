"""A learner's own copy of the notebooks, and JupyterLab on it.

The `stage*` folders belong to the course: `git pull` replaces them. The learner works in `work/`, which git
ignores, so an update of the course never conflicts with what somebody wrote.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat

from course.errors import CourseError, MissingFileError
from course.update import MANIFEST, Change, read_manifest, sync, tidy

WORK = "work"


@dataclass(frozen=True)
class Report:
    """What `make_work_copy` did. `changes` has paths below `folder`; str() is the text for the learner."""

    folder: Path
    stages: tuple[str, ...]
    changes: tuple[Change, ...]

    def count(self, action: str) -> int:
        """How many files met this end (`added`, `updated`, `kept`, ...)."""
        return sum(change.action == action for change in self.changes)

    def __str__(self) -> str:
        kept = self.count("kept") + self.count("beside")
        numbers = [
            f"{n} {word}"
            for n, word in (
                (self.count("added"), "new"),
                (self.count("updated"), "updated"),
                (self.count("removed"), "removed"),
                (kept, "kept because you edited them"),
            )
            if n
        ]
        done = ", ".join(numbers) or "nothing to update"
        lines = [f"{self.folder.name}/: {done}. Your work is in {self.folder}."]
        lines += [f"  {change.path}: {change.note}" for change in self.changes if change.note]
        return "\n".join(lines)


def stage_folders(root: str | Path) -> tuple[Path, ...]:
    """The released stages of the course at `root`, in order.

    Raises:
        MissingFileError: there is none.
    """
    stages = tuple(sorted(path.parent for path in Path(root).glob(f"stage*/{MANIFEST}")))
    if not stages:
        raise MissingFileError(
            f"{root} has no lessons.",
            "No stage folder lies there.",
            "Run this in the course folder, where `course/` and `stage1_converter/` are.",
        )
    return stages


def make_work_copy(root: str | Path) -> Report:
    """Bring `work/` up to date with the `stage*` folders of the course at `root`.

    New files are added and untouched ones updated (a notebook that was only run keeps its outputs). A file
    that the learner edited is never changed: the new version goes beside it as NAME.new.

    Raises:
        MissingFileError: there are no stage folders.
        CourseError: a file cannot be read or written; calling again finishes the work.
    """
    root = Path(root).resolve()
    stages, changes = stage_folders(root), []
    for stage in stages:
        listed = read_manifest(stage)["files"]
        there = {name: (stage / name).read_bytes() for name in listed if (stage / name).is_file()}
        done = sync(root / WORK / stage.name, there, listed=listed, on_edit="beside")
        changes += [Change(f"{stage.name}/{change.path}", change.action, change.note) for change in done]
    return Report(root / WORK, tuple(stage.name for stage in stages), tuple(changes))


def open_lab(root: str | Path, stage: str | int | None = None, *, browser: bool = True) -> int:
    """Run JupyterLab on `work/` until the learner stops it; opens the first notebook of `stage`.

    Args:
        stage: 1, "1", "stage1" or the folder's name; None shows all stages.
        browser: False only prints the address.

    Returns:
        JupyterLab's exit status.

    Raises:
        CourseError: JupyterLab is not installed, there is no such stage, or no work copy yet.
    """
    root = Path(root).resolve()
    work = root / WORK
    if importlib.util.find_spec("jupyterlab") is None:
        raise CourseError(
            "JupyterLab is not installed.",
            f"{sys.executable} cannot import jupyterlab.",
            "Run `./start`, or `pip install jupyterlab`.",
        )
    if not work.is_dir():
        raise MissingFileError(
            f"{work} is not there yet.",
            "JupyterLab opens your copy of the lessons.",
            "Run `course lab`, which makes it.",
        )
    page = "/lab"
    if stage is not None:
        folder = work / find_stage(root, stage)
        first = min(folder.glob("*.ipynb"), default=folder)
        page = f"/lab/tree/{first.relative_to(work).as_posix()}"
    options = {
        "root_dir": work,
        "log_level": "WARN",
        "jpserver_extensions": "course.lab=True",  # tidies what is saved, below
    }
    command = [sys.executable, "-m", "jupyterlab", f"--LabApp.default_url={page}"]
    command += [f"--ServerApp.{name}={value}" for name, value in options.items()]
    command.append("--ServerApp.jpserver_extensions=nbgrader.server_extensions.formgrader=False")  # no gradebook
    if os.geteuid() == 0:
        command.append("--allow-root")  # the user in NVIDIA's containers; only this machine can connect
    if not browser:
        command.append("--no-browser")
    # Notebooks find `course` without an install.
    paths = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    print(f"JupyterLab opens {work}. Stop it with Ctrl-C here.", flush=True)
    server = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths})
    while True:
        try:
            return server.wait()
        except KeyboardInterrupt:
            continue  # JupyterLab got the Ctrl-C, too, and asks its own question


def find_stage(root: str | Path, stage: str | int) -> str:
    """The folder name of a stage given as 1, "1", "stage1" or by name.

    Raises:
        CourseError: no stage, or more than one, is meant.
    """
    names = [path.name for path in stage_folders(root)]
    wanted = str(stage).removeprefix("stage").rstrip("/")
    found = [name for name in names if wanted in (name[5:], name[5:].split("_")[0])]
    if len(found) != 1:
        raise CourseError(
            f"There is no stage {stage!r}.",
            f"The stages are {', '.join(names)}.",
            "Give a number, as in `course lab 1`.",
        )
    return found[0]


def tidy_on_save(path: str, model: dict, **_: object) -> None:
    """Jupyter's hook before a save: only the learner's lines and the outputs differ from the release."""
    if model.get("type") == "notebook" and model.get("content"):
        model["content"] = tidy(nbformat.from_dict(model["content"]))


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "course.lab"}]


def _load_jupyter_server_extension(server: object) -> None:
    """Jupyter calls this at its start. The hook waits: jupytext's extension replaces the manager."""
    server.io_loop.add_callback(lambda: server.contents_manager.register_pre_save_hook(tidy_on_save))
