"""What is handed in is taken whatever it is called, and however odd the folder."""

from __future__ import annotations

import os

import nbformat
import pytest

from autograder.classroom.submission import MOST_NOTES, fingerprint, take

BLANK, GOOD, BETTER = "def fold(): ...", "def fold(): return 1", "def fold(): return 2"


def notebook(answer: str) -> nbformat.NotebookNode:
    marks = {"locked": False, "schema_version": 3, "task": False}
    cells = [
        nbformat.v4.new_code_cell(
            answer, metadata={"nbgrader": {**marks, "grade": False, "solution": True, "grade_id": "fold"}}
        ),
        nbformat.v4.new_code_cell(
            "assert fold() == 1",
            metadata={"nbgrader": {**marks, "grade": True, "solution": False, "points": 1, "grade_id": "fold-test"}},
        ),
    ]
    return nbformat.v4.new_notebook(cells=cells)


@pytest.fixture
def taking(tmp_path):
    """Hands in files and gives back the answer that is graded, and the intake."""
    release, given = tmp_path / "release", tmp_path / "given"
    release.mkdir(), given.mkdir()
    nbformat.write(notebook(BLANK), release / "01_box.ipynb")
    (release / "helper.py").write_text("LIMIT = 1")

    def run(files: dict[str, str], prepare=None):
        for name, answer in files.items():
            (given / name).parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook(answer), given / name)
        if prepare:
            prepare(given)
        fingerprint(given)
        taken = take(given, tmp_path / "taken", release)
        cells = nbformat.read(tmp_path / "taken" / "01_box.ipynb", 4).cells
        return next(cell.source for cell in cells if cell.cell_type == "code"), taken

    return run


@pytest.mark.parametrize(
    "files, graded, words",
    [
        ({"01_box.ipynb": GOOD}, GOOD, ""),
        ({"01_box.ipynb": GOOD, "01_box-Copy1.ipynb": BETTER}, GOOD, ""),
        ({"01_box.ipynb": BLANK, "01_box-Copy1.ipynb": GOOD}, GOOD, "was untouched; 01_box-Copy1.ipynb"),
        ({"01_box.ipynb": BLANK, "01_box-Copy1.ipynb": BLANK}, BLANK, ""),
        ({"01_box (1).ipynb": GOOD, "01_box (2).ipynb": BETTER}, BETTER, "only one can count: 01_box (1).ipynb"),
        ({"stage8_box/01_box.ipynb": GOOD}, GOOD, "was not there; stage8_box/01_box.ipynb"),
        ({"01_box.ipynb": BLANK, "my work/01_box.ipynb": GOOD}, GOOD, "my work/01_box.ipynb was graded"),
        ({"loesung.ipynb": GOOD}, GOOD, "loesung.ipynb was graded"),
        ({}, BLANK, "not handed in"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_the_notebook_with_answers_is_graded_wherever_it_lies(taking, files, graded, words):
    source, taken = taking(files)
    assert source == graded
    assert words in taken.notebooks.get("01_box", "") if words else taken.notebooks == {}


def deep(folder):
    here = os.getcwd()
    os.chdir(folder)
    for _ in range(30):
        os.mkdir("d" * 200), os.chdir("d" * 200)
    open("x", "w").close()
    os.chdir(here)


def many_links(folder):
    for number in range(300):
        os.symlink("x", folder / f"link{number}")


def odd_names(folder):
    for name in (
        "new\nline",
        "\u202egnp",
        "-rf",
        "x" * 250,
        "\udcff",
        "[/x]".replace("/", "_"),
        "{0}",
        "%s",
        "*",
        "e\u0301",
    ):
        (folder / name).write_text("x")


def folders_for_files(folder):
    for name in ("timestamp.txt", "a.ipynb", "01_box.ipynb.txt"):
        (folder / name).mkdir()
        (folder / name / "x").write_text("x")


@pytest.mark.parametrize(
    "prepare, words",
    [
        (deep, "too long or too deep"),
        (many_links, "more were left out"),
        (odd_names, ""),
        (folders_for_files, ""),
        (lambda folder: os.mkfifo(folder / "pipe.ipynb"), "no plain file"),
        (lambda folder: (folder / "artifacts").write_text("x"), ""),
    ],
    ids=["deep", "many-links", "odd-names", "folders-for-files", "pipe", "artifacts-is-a-file"],
)
def test_an_odd_folder_costs_nothing(taking, prepare, words):
    source, taken = taking({"01_box.ipynb": GOOD}, prepare)
    assert source == GOOD and len(taken.notes) <= MOST_NOTES + 1
    assert words in " ".join(taken.notes)
    assert all(note.isprintable() for note in taken.notes)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("name", ["file", "folder"])
def test_what_cannot_be_read_is_left_out_with_a_word(taking, name):
    def lock(folder):
        (folder / name).mkdir() if name == "folder" else (folder / name).write_text("x")
        (folder / name).chmod(0)

    source, taken = taking({"01_box.ipynb": GOOD}, lock)
    assert source == GOOD and f"{name} was left out" in " ".join(taken.notes)


def test_a_package_does_not_take_the_place_of_a_released_module(taking, tmp_path):
    def package(folder):
        (folder / "helper").mkdir()
        (folder / "helper" / "__init__.py").write_text("LIMIT = 99")

    _, taken = taking({"01_box.ipynb": GOOD}, package)
    assert not (tmp_path / "taken" / "helper").exists() and "helper/ was left out" in " ".join(taken.notes)
