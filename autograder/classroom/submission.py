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

MOST_MB, MOST_FILES, MOST_NOTEBOOK_MB = 1000.0, 3000, 100.0
TIMESTAMP = "timestamp.txt"


@dataclass
class Intake:
    """What happened to a submission, in words: `notes` on files, `notebooks` by name, where there is a note."""

    notes: list[str] = field(default_factory=list)
    notebooks: dict[str, str] = field(default_factory=dict)


def plain_files(
    folder: Path, notes: list[str], *, max_mb: float = MOST_MB, max_files: int = MOST_FILES
) -> dict[str, Path]:
    """Path inside `folder` -> file, for all regular files. Links and devices are left out and noted."""
    found, room, queue = {}, max_mb * 1e6, [folder]
    while queue:
        for entry in sorted(os.scandir(queue.pop()), key=lambda entry: entry.name):
            name = Path(entry.path).relative_to(folder).as_posix()
            info = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                if entry.name not in ("__pycache__", ".ipynb_checkpoints"):
                    queue.append(Path(entry.path))
                continue
            if not stat.S_ISREG(info.st_mode):
                notes.append(f"{_printable(name)} was left out: it is a link or no plain file.")
                continue
            room -= info.st_size
            if room < 0 or len(found) >= max_files:
                notes.append(
                    f"{_printable(name)} and what follows was left out: more than {max_mb:.0f} MB or {max_files} files."
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
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            notes.append(f"{_printable(name)} was left out: {error.strerror}.")
            continue
        with open(descriptor, "rb") as reader, open(target / name, "wb") as writer:
            shutil.copyfileobj(reader, writer)
    return notes


def fingerprint(folder: Path, *more: bytes) -> str:
    """SHA-256 over names and contents of a submission, and of what else decides its score."""
    digest = hashlib.sha256()
    for name, path in sorted(plain_files(folder, []).items()):
        digest.update(f"{name}\0{path.stat().st_size}\0".encode(errors="surrogateescape"))
        digest.update(path.read_bytes())
    for part in more:
        digest.update(part)
    return digest.hexdigest()


def take(submitted: Path, target: Path, release: Path) -> Intake:
    """Copy a submission to `target` so that nbgrader can grade it, whatever it holds.

    A notebook that is missing or cannot be read is replaced by the released one, which earns nothing, with a note on
    top. A renamed one is found by its cells.

    Args:
        release: nbgrader's released folder of this stage; it says which notebooks there must be.
    """
    taken = Intake()
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    taken.notes += copy_plain(submitted, target)
    expected = sorted(path.stem for path in release.glob("*.ipynb"))
    read: dict[str, NotebookNode] = {}
    for path in sorted(target.glob("*.ipynb")):
        try:
            read[path.stem] = clean_notebook(path.read_bytes())
        except ValueError as error:
            if path.stem in expected:
                taken.notebooks[path.stem] = f"The notebook could not be read: {error}. The released one was graded."
        path.unlink()
    for name in expected:
        if name not in read and name not in taken.notebooks:
            other = _renamed(release / f"{name}.ipynb", {k: v for k, v in read.items() if k not in expected})
            if other is None:
                taken.notebooks[name] = "The notebook was not handed in. The released one was graded."
            else:
                taken.notebooks[name] = f"The notebook was found under the name {_printable(other)}.ipynb."
                read[name] = read.pop(other)
        notebook = read.get(name) or nbformat.read(release / f"{name}.ipynb", 4)
        if name in taken.notebooks:
            notebook.cells.insert(0, nbformat.v4.new_markdown_cell(f"**Grader:** {taken.notebooks[name]}"))
        nbformat.write(notebook, target / f"{name}.ipynb")
    if (target / TIMESTAMP).exists() and not _is_time(target / TIMESTAMP):
        (target / TIMESTAMP).unlink()
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


def _renamed(released: Path, others: dict[str, NotebookNode]) -> str | None:
    """The other notebook that holds at least half of the released one's cells."""
    wanted = _grade_ids(nbformat.read(released, 4))
    shares = {name: len(wanted & _grade_ids(notebook)) / max(1, len(wanted)) for name, notebook in others.items()}
    best = max(shares, key=shares.__getitem__, default=None)
    return best if best is not None and shares[best] >= 0.5 else None


def _grade_ids(notebook: NotebookNode) -> set[str]:
    return {str(cell.metadata["nbgrader"].get("grade_id")) for cell in notebook.cells if "nbgrader" in cell.metadata}


def _is_time(path: Path) -> bool:
    from nbgrader.utils import parse_utc

    try:
        parse_utc(path.read_text().strip())
    except Exception:  # the parser raises many kinds
        return False
    return True


def _printable(name: str) -> str:
    return ascii(name)[1:-1][:120]
