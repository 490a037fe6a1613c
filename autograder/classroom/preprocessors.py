"""What nbgrader does with a notebook besides its own steps. `nbgrader_settings` puts them in order."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from nbgrader.api import Gradebook
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import Dict, Unicode

PENDING = "The grader has not measured this yet: 0 points for now."


class RestoreMaster(NbGraderPreprocessor):
    """The first step. What a cell is, and what it is worth, comes from the instructor's notebook and the gradebook,
    never from the metadata that was handed in.

    Invented and repeated graded cells become ordinary ones (nbgrader would stop at them), of repeated ones the last
    counts; deleted cells are put back where they were. nbgrader's OverwriteCells then restores the text of all
    locked cells.
    """

    source = Unicode("", help="folder of the instructor's notebooks: below it STAGE/NAME.ipynb").tag(config=True)

    def preprocess(self, nb, resources):
        names = resources["nbgrader"]
        with Gradebook(names["db_url"]) as gradebook:
            master = gradebook.find_notebook(names["notebook"], names["assignment"])
            points = {cell.name: cell.max_score for cell in (*master.grade_cells, *master.task_cells)}
            roles = {
                "grade": {cell.name for cell in master.grade_cells},
                "solution": {cell.name for cell in master.solution_cells},
                "task": {cell.name for cell in master.task_cells},
            }
            cells = {
                cell.name: (cell.cell_type, bool(cell.locked), cell.checksum, cell.source)
                for cell in master.source_cells
            }

        def metadata(name: str) -> dict:
            kind, locked, checksum, _ = cells[name]
            found = {key: name in named for key, named in roles.items()}
            found |= {"locked": locked, "grade_id": name, "schema_version": 3, "cell_type": kind, "checksum": checksum}
            return found | ({"points": points[name]} if name in points else {})

        seen: set[str] = set()
        for cell in reversed(nb.cells):
            claimed = cell.metadata.pop("nbgrader", None)
            name = claimed.get("grade_id") if isinstance(claimed, dict) else None
            if claimed is None:
                continue
            if not isinstance(name, str) or name not in cells or name in seen:
                self.log.warning("Cell %r is not of this notebook, or there twice: taken as an ordinary cell.", name)
                continue
            seen.add(name)
            cell.metadata["nbgrader"] = nbformat.from_dict(metadata(name))
        last = -1
        for name in self._order(names, cells):
            if name in seen:
                last = max(
                    last,
                    next(
                        i
                        for i, cell in enumerate(nb.cells)
                        if cell.metadata.get("nbgrader", {}).get("grade_id") == name
                    ),
                )
                continue
            self.log.warning("Cell %r was missing and was put back.", name)
            make = new_code_cell if cells[name][0] == "code" else new_markdown_cell
            last += 1
            nb.cells.insert(last, make(cells[name][3], metadata=nbformat.from_dict({"nbgrader": metadata(name)})))
        return nb, resources

    def _order(self, names: dict, cells: dict) -> list[str]:
        """The cells as they follow each other in the instructor's notebook; the gradebook has no order."""
        path = Path(self.source) / names["assignment"] / f"{names['notebook']}.ipynb"
        ids = [cell.metadata.get("nbgrader", {}).get("grade_id") for cell in nbformat.read(path, 4).cells]
        return [name for name in ids if name in cells]


class FreshArtifacts(NbGraderPreprocessor):
    """Before a notebook runs: remove the artifacts that it is to make, so that only what it builds here counts.

    One that came with the submission might be anybody's. What is written by hand (`Artifact.built` says no) stays.
    """

    paths = Dict(help="'STAGE/NAME' -> the artifacts that this notebook makes").tag(config=True)

    def preprocess(self, nb, resources):
        names, folder = resources["nbgrader"], Path(resources["metadata"]["path"])
        for path in self.paths.get(f"{names['assignment']}/{names['notebook']}", ()):
            place = folder / path
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                with contextlib.suppress(NotADirectoryError):  # a file where its folder should be: it is not there
                    place.unlink(missing_ok=True)
        return nb, resources


class PendingMilestones(NbGraderPreprocessor):
    """After a notebook ran: whatever its milestone cells put out is replaced by 0 points, until they are measured.

    A notebook can print any number; `autograder.classroom.grade` measures the artifacts afterwards, in processes of its own.
    """

    cells = Dict(help="'STAGE/NAME' -> grade_ids of that notebook's milestone cells").tag(config=True)

    def preprocess(self, nb, resources):
        names = resources["nbgrader"]
        wanted = self.cells.get(f"{names['assignment']}/{names['notebook']}", ())
        for cell in nb.cells:
            if cell.metadata.get("nbgrader", {}).get("grade_id") in wanted:
                set_score(cell, PENDING, 0.0)
        return nb, resources


def set_score(cell, text: str, points: float, page: str = "") -> None:
    """Let a graded cell show `text` (and the HTML `page`) and score `points`, as nbgrader reads partial credit."""
    shown = (
        [new_output("display_data", data={"text/plain": text, "text/html": page})]
        if page
        else [new_output("stream", name="stdout", text=text + "\n")]
    )
    cell.execution_count = None
    cell.outputs = [*shown, new_output("execute_result", data={"text/plain": repr(float(points))})]


def drop_links(assignment: str, student: str, notebooks: list[str]) -> None:
    """nbgrader's hook before a submission is copied: remove links from it, for nbgrader would follow them.

    It only matters where `nbgrader autograde` or formgrader's button is used; `autograder grade` takes plain files.
    """
    try:
        for base, folders, files in os.walk(Path(notebooks[0]).parent if notebooks else ""):
            for name in (*folders, *files):
                if os.path.islink(os.path.join(base, name)):
                    os.unlink(os.path.join(base, name))
    except OSError as error:  # nbgrader would go on after an Exception
        raise SystemExit(f"A link in the submission of {student} could not be removed: {error}") from error
