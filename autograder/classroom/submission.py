"""Taking a submission: plain files only, no links, no larger than allowed; notebooks that nbgrader can read.

What a learner handed in is copied before anything opens it by name. A link could point at the gradebook, and nbgrader
would follow it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from autograder.classroom.untrusted import shown

MOST_MB, MOST_FILES, MOST_NOTEBOOK_MB = 1000.0, 3000, 100.0
MOST_DEPTH, MOST_PATH, MOST_NOTES = 20, 1000, 20
TIMESTAMP = "timestamp.txt"


@dataclass
class Intake:
    """What happened to a submission, in words: `notes` on files, `notebooks` by name, where there is a note."""

    notes: list[str] = field(default_factory=list)
    notebooks: dict[str, str] = field(default_factory=dict)


def plain_files(
    folder: Path, notes: list[str], *, max_mb: float = MOST_MB, max_files: int = MOST_FILES
) -> dict[str, Path]:
    """Path inside `folder` -> file, for all regular files. Links, devices and what cannot be read are left out and noted."""
    found, room, queue = {}, max_mb * 1e6, [folder]
    while queue:
        here = queue.pop()
        try:
            with os.scandir(here) as listing:
                entries = [(entry, entry.stat(follow_symlinks=False)) for entry in listing]
        except OSError as error:
            notes.append(f"{shown(here.relative_to(folder).as_posix(), 120)} was left out: {error.strerror}.")
            continue
        for entry, info in sorted(entries, key=lambda pair: pair[0].name):
            name = Path(entry.path).relative_to(folder).as_posix()
            if len(os.fsencode(name)) > MOST_PATH or name.count("/") >= MOST_DEPTH:
                notes.append(f"{shown(name, 120)} was left out: its path is too long or too deep.")
                continue
            if stat.S_ISDIR(info.st_mode):
                if entry.name not in ("__pycache__", ".ipynb_checkpoints"):
                    queue.append(Path(entry.path))
                continue
            if not stat.S_ISREG(info.st_mode):
                notes.append(f"{shown(name, 120)} was left out: it is a link or no plain file.")
                continue
            room -= info.st_size
            if room < 0 or len(found) >= max_files:
                notes.append(
                    f"{shown(name, 120)} and what follows was left out: more than {max_mb:.0f} MB or {max_files} files."
                )
                return found
            found[name] = Path(entry.path)
    return found


def copy_plain(source: Path, target: Path, *, skip_notebooks: bool = False) -> list[str]:
    """Copy the regular files of a folder whose content is not trusted; says what was left out."""
    notes: list[str] = []
    for name, path in plain_files(source, notes).items():
        if skip_notebooks and name.endswith(".ipynb"):
            continue
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            notes.append(f"{shown(name, 120)} was left out: {error.strerror}.")
            continue
        with open(descriptor, "rb") as reader:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            with open(target / name, "wb") as writer:
                shutil.copyfileobj(reader, writer)
    if len(notes) > MOST_NOTES:
        notes[MOST_NOTES:] = [f"{len(notes) - MOST_NOTES} more were left out."]
    return notes


def fingerprint(folder: Path, *more: bytes) -> str:
    """SHA-256 over names and contents of a submission, and of what else decides its score."""
    digest = hashlib.sha256()
    for name, path in sorted(plain_files(folder, []).items()):
        digest.update(os.fsencode(name) + b"\0")
        try:
            with open(path, "rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        except OSError:  # taking it notes that it cannot be read
            digest.update(b"unreadable")
    for part in more:
        digest.update(part)
    return digest.hexdigest()


def take(submitted: Path, target: Path, release: Path) -> Intake:
    """Copy a submission to `target` so that nbgrader can grade it, whatever it holds.

    A notebook that is missing or cannot be read is replaced by the released one, which earns nothing, with a note on
    top. A renamed one, or one a folder deeper, is found by its cells; so is a copy with answers beside the untouched
    notebook. A package that would be imported in place of a released module is left out.

    Args:
        release: nbgrader's released folder of this stage; it says which notebooks there must be.
    """
    taken = Intake()
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    taken.notes += copy_plain(submitted, target)
    for module in release.glob("*.py"):
        if (target / module.stem).is_dir():
            shutil.rmtree(target / module.stem)
            taken.notes.append(f"{module.stem}/ was left out: it would be imported in place of {module.name}.")
    expected = sorted(path.stem for path in release.glob("*.ipynb"))
    read: dict[str, NotebookNode] = {}
    others: dict[str, NotebookNode] = {}
    for path in sorted((*target.glob("*.ipynb"), *target.glob("*/*.ipynb"))):
        if not path.is_file():
            continue
        name = path.relative_to(target).with_suffix("").as_posix()
        try:
            (read if name in expected else others)[name] = clean_notebook(path.read_bytes())
        except ValueError as error:
            if name in expected:
                taken.notebooks[name] = f"The notebook could not be read: {error}. The released one was graded."
        path.unlink()
    for name in expected:
        released = nbformat.read(release / f"{name}.ipynb", 4)
        notebook = read.get(name)
        if (notebook is None and name not in taken.notebooks) or (
            notebook and _answers(notebook) == _answers(released)
        ):
            copies = _copies(released, others)
            if copies:
                used = copies[0]
                taken.notebooks[name] = (
                    f"The notebook {'was untouched' if notebook else 'was not there'}; {shown(used, 120)}.ipynb was graded."
                )
                if copies[1:]:
                    left = ", ".join(f"{shown(copy, 120)}.ipynb" for copy in copies[1:])
                    taken.notebooks[name] += f" Left out, for only one can count: {left}."
                notebook = others.pop(used)
            elif notebook is None:
                taken.notebooks[name] = "The notebook was not handed in. The released one was graded."
        notebook = notebook or released
        if name in taken.notebooks:
            notebook.cells.insert(0, nbformat.v4.new_markdown_cell(f"**Grader:** {taken.notebooks[name]}"))
        nbformat.write(notebook, target / f"{name}.ipynb")
    stamp = target / TIMESTAMP
    if stamp.exists() and not (stamp.is_file() and _is_time(stamp)):
        shutil.rmtree(stamp) if stamp.is_dir() else stamp.unlink()
        taken.notes.append(f"{TIMESTAMP} is no date and was left out.")
    return taken


def clean_notebook(data: bytes) -> NotebookNode:
    """A notebook of format 4 that holds only what grading needs: cells, their text and their metadata.

    Raises:
        ValueError: it is no such notebook; says why.
    """
    if len(data) > MOST_NOTEBOOK_MB * 1e6:
        raise ValueError(f"it has {len(data) / 1e6:.0f} MB, at most {MOST_NOTEBOOK_MB:.0f} MB are read")
    try:
        raw = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8 text") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except ValueError as error:
        raise ValueError("it is no valid JSON") from error
    if not isinstance(raw, dict) or raw.get("nbformat") != 4 or not isinstance(raw.get("cells"), list):
        raise ValueError("it is no notebook of format 4")
    cells = []
    for cell in raw["cells"]:
        kind, source = (cell.get("cell_type"), cell.get("source", "")) if isinstance(cell, dict) else (None, "")
        if isinstance(source, list):
            source = "".join(map(str, source))
        if kind not in ("code", "markdown", "raw") or not isinstance(source, str):
            continue
        metadata = cell.get("metadata")
        nbgrader = metadata.get("nbgrader") if isinstance(metadata, dict) else None
        kept = {"nbgrader": nbgrader} if isinstance(nbgrader, dict) else {}
        source = source.encode("utf-8", "replace").decode()  # lone surrogates cannot be written
        new = getattr(nbformat.v4, f"new_{kind}_cell")(source, metadata=nbformat.from_dict(kept))
        cells.append(new)
    return nbformat.v4.new_notebook(cells=cells, metadata={})


def _copies(released: NotebookNode, others: dict[str, NotebookNode]) -> list[str]:
    """The other notebooks that hold at least half of the released one's graded cells, and answers of their own.

    The one with most of its cells comes first; of equals the one whose name comes last, which is the later copy
    ("(2)" after "(1)").
    """
    wanted, untouched = _grade_ids(released), _answers(released)
    shares = {
        name: len(wanted & _grade_ids(notebook)) / max(1, len(wanted))
        for name, notebook in others.items()
        if _answers(notebook) != untouched
    }
    return sorted((name for name in shares if shares[name] >= 0.5), key=lambda name: (shares[name], name), reverse=True)


def _answers(notebook: NotebookNode) -> dict[str, str]:
    """grade_id -> text, of the cells that are the learner's to write."""
    return {
        str(mark.get("grade_id")): cell.source
        for cell in notebook.cells
        if (mark := cell.metadata.get("nbgrader")) and mark.get("solution")
    }


def _grade_ids(notebook: NotebookNode) -> set[str]:
    return {str(cell.metadata["nbgrader"].get("grade_id")) for cell in notebook.cells if "nbgrader" in cell.metadata}


def _is_time(path: Path) -> bool:
    from nbgrader.utils import parse_utc

    try:
        parse_utc(path.read_text().strip())
    except Exception:  # the parser raises many kinds
        return False
    return True
