"""Bring a folder up to date with a new release, and never lose what somebody wrote there.

A folder that was made from a release holds `.release.json`: the SHA-256 of every file as released. That list
tells an edited file from an untouched one. `course lab` uses this for `work/`, and `release build` for the
`stage*` folders.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nbformat
from nbformat import NotebookNode

from course.errors import CourseError, DamagedFileError
from course.files import atomic_write

MANIFEST = ".release.json"
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE_INFO = {
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
}
"""What every Python kernel reports about itself, less `version`, which differs from machine to machine."""

Action = Literal["added", "updated", "removed", "kept", "beside", "replaced", "skipped"]


@dataclass(frozen=True)
class Change:
    """What happened to one file: its path inside the folder, and a sentence where there is more to know."""

    path: str
    action: Action
    note: str = ""


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Drop, in place, what Jupyter writes by itself: the kernel's version and display name, times.

    Outputs, execution counts, view state and a kernel that the learner chose stay.
    """
    if notebook.metadata.get("kernelspec", {}).get("name") == KERNELSPEC["name"]:
        notebook.metadata["kernelspec"] = nbformat.from_dict(KERNELSPEC)
        notebook.metadata["language_info"] = nbformat.from_dict(LANGUAGE_INFO)
    for cell in notebook.cells:
        for key in ("execution", "ExecuteTime", "trusted"):
            cell.metadata.pop(key, None)
    return notebook


def notebook_bytes(notebook: NotebookNode) -> bytes:
    """A notebook as JupyterLab writes it: sorted keys, indent 1, UTF-8, LF, one newline at the end."""
    return (nbformat.writes(notebook).rstrip("\n") + "\n").encode()


def fingerprint(name: str, data: bytes, known: Collection[str | None] = ()) -> str:
    """SHA-256 (hex) of a file's content; for a notebook, of what a person writes into it.

    Running a notebook, saving it in JupyterLab, choosing another kernel, or the empty cell that Shift-Enter
    adds at the end leaves the fingerprint as it is. A generated file has the plain SHA-256 of its bytes.
    Bytes whose SHA-256 is in `known` are not read as a notebook, which takes longer.
    """
    if name.endswith(".ipynb") and hashlib.sha256(data).hexdigest() not in known:
        notebook = _parse(data)
        if notebook is not None:
            notebook.cells = [c for c in notebook.cells if c.source.strip() or "nbgrader" in c.metadata]
            for cell in notebook.cells:
                for key in ("scrolled", "collapsed", "jupyter"):
                    cell.metadata.pop(key, None)
                if cell.cell_type == "code":
                    cell.outputs, cell.execution_count = [], None
            for key in ("widgets", "vscode"):
                notebook.metadata.pop(key, None)
            notebook.metadata["kernelspec"] = nbformat.from_dict(KERNELSPEC)
            data = notebook_bytes(tidy(notebook))
    return hashlib.sha256(data).hexdigest()


def read_manifest(folder: Path) -> dict | None:
    """The content of `.release.json`, or None where there is none.

    Raises:
        DamagedFileError: the file is not what we wrote.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(value, str) for value in manifest["files"].values()):
            raise TypeError("a value in `files` is not a SHA-256")
        return manifest
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFileError(
            f"{path} cannot be read.",
            str(error) or type(error).__name__,
            f"Restore it (`git checkout -- {folder.name}/{MANIFEST}`), or delete it: then every file that "
            "differs from the release counts as yours and is kept.",
        ) from error


def manifest_bytes(files: Mapping[str, str], **more: object) -> bytes:
    """The bytes of a `.release.json` that lists `files` (path -> fingerprint)."""
    text = json.dumps({"files": dict(files), **more}, indent=1, sort_keys=True, ensure_ascii=False)
    return (text + "\n").encode()


def sync(
    folder: Path,
    release: Mapping[str, bytes],
    *,
    on_edit: Literal["beside", "keep", "replace"],
    listed: Mapping[str, str] | None = None,
    **more: object,
) -> tuple[Change, ...]:
    """Make `folder` hold `release`, except where somebody edited a file.

    Each file moves in whole. If this is interrupted, the next call finishes it and still knows every edit.

    Args:
        folder: where the release goes; other files in it are left alone.
        release: path inside the folder ("/" between parts) -> content.
        on_edit: for an edited file that the release changes: `beside` writes the new one as NAME.new, and
            keeps the outputs of notebooks that it updates; `keep` only reports it; `replace` overwrites it
            and keeps a copy NAME.mine-N.
        listed: path -> official fingerprint, where `release` may hold something else (it was edited).
        more: further entries of `.release.json`.

    Raises:
        CourseError: a file cannot be read or written, or two files of the release lie in each other's way.
    """
    listed = dict(listed or {name: fingerprint(name, data) for name, data in release.items()})
    before = read_manifest(folder) or {"files": {}}
    base, unfinished = before["files"], before.get("building", {})
    final = manifest_bytes(listed, **more)
    if before != json.loads(final):
        # Until all files have moved, both the old and the new content count as unedited.
        building = {name: sorted({*unfinished.get(name, ()), digest}) for name, digest in listed.items()}
        atomic_write(folder / MANIFEST, manifest_bytes(base, building={**unfinished, **building}))
    changes = []
    for name in sorted({*listed, *base, *unfinished}):
        known = {base.get(name), *unfinished.get(name, ())}
        try:
            change = _bring(folder, name, release.get(name), listed.get(name), known, base.get(name), on_edit)
        except OSError as error:
            raise CourseError(
                f"{folder / name} could not be brought up to date.",
                error.strerror or str(error),
                "Check its permissions, or move what is there away. Then run this again.",
            ) from error
        if change is not None:
            changes.append(change)
    if listed:
        atomic_write(folder / MANIFEST, final)
    else:
        (folder / MANIFEST).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # only if nothing else is in it
    return tuple(changes)


def _bring(
    folder: Path,
    name: str,
    data: bytes | None,
    new: str | None,
    known: set[str | None],
    base: str | None,
    on_edit: str,
) -> Change | None:
    """Bring one file up to date. `new`: its fingerprint in the release; `known`: what counts as unedited."""
    path = folder / name
    mine_data = _read(path)
    mine = None if mine_data is None else fingerprint(name, mine_data, {new, *known})
    intact = data is not None and fingerprint(name, data, {new}) == new
    if new is None:
        if mine is None:
            return None
        if mine not in known:
            return Change(name, "kept", "The release no longer has it; you edited it, so it stays.")
        path.unlink()
        _remove_empty(path.parent, folder)
        return Change(name, "removed")
    if mine is None and data is not None:
        note = "" if intact else "Taken with the edits that were made in the release folder."
        return _write(path, data, Change(name, "added", note))
    if mine == new:
        _drop_new(path, new)
        if mine_data == data or on_edit == "beside":
            return None
        return _write(path, data, Change(name, "updated", "Only outputs or Jupyter's own metadata differed."))
    if not intact:
        restore = f"Restore it: `git checkout -- {folder.name}/{name}`."
        return Change(name, "skipped", f"The release's own copy was changed or is missing. {restore}")
    if mine in known:
        data = _with_outputs(mine_data, data) if on_edit == "beside" else data
        return _write(path, data, Change(name, "updated"))
    if on_edit == "replace":
        copy = next(p for n in range(1, 10**6) if not (p := path.with_name(f"{path.name}.mine-{n}")).exists())
        atomic_write(copy, mine_data)
        return _write(path, data, Change(name, "replaced", f"Your version is in {copy.name}."))
    if on_edit == "keep":
        return Change(name, "kept", "Edited by hand. `--force` overwrites it and keeps a copy.")
    if new == base:
        return Change(name, "kept")
    atomic_write(path.with_name(path.name + ".new"), data)
    take = f"to take it, delete {path.name} and run `course lab` again."
    return Change(name, "beside", f"You edited it, so it stays. The new version is {path.name}.new; {take}")


def _parse(data: bytes) -> NotebookNode | None:
    """The notebook, or None if it is not one (then it is compared as bytes)."""
    try:
        notebook = nbformat.reads(data.decode(), as_version=4)
        nbformat.validate(notebook)
        return notebook
    except Exception:  # whatever a learner's editor left there: not a notebook
        return None


def _with_outputs(old: bytes, new: bytes) -> bytes:
    """The notebook `new` with the outputs of those cells that are as they were in `old`."""
    before, after = _parse(old), _parse(new)
    if before is None or after is None:
        return new
    ran = {(cell.get("id"), cell.source): cell for cell in before.cells if cell.cell_type == "code"}
    for cell in after.cells:
        if cell.cell_type == "code" and (cell.id, cell.source) in ran:
            done = ran[cell.id, cell.source]
            cell.outputs, cell.execution_count = done.outputs, done.execution_count
    return notebook_bytes(after)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write(path: Path, data: bytes, change: Change) -> Change:
    atomic_write(path, data)
    if data.startswith(b"#!"):
        mode = path.stat().st_mode
        path.chmod(mode | (mode & 0o444) >> 2)  # who may read a script may run it
    _drop_new(path, fingerprint(path.name, data))
    return change


def _drop_new(path: Path, new: str) -> None:
    """Delete NAME.new once NAME itself is that version."""
    beside = path.with_name(path.name + ".new")
    if beside.is_file() and fingerprint(path.name, beside.read_bytes()) == new:
        beside.unlink()


def _remove_empty(folder: Path, top: Path) -> None:
    """Remove folders that became empty, below `top`."""
    while folder != top and not os.listdir(folder):
        folder.rmdir()
        folder = folder.parent
