"""The release: what learners get, the same bytes everywhere, and no edit ever lost."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from autograder.authoring.notebook import read_lesson, student_version
from autograder.authoring.release import ROOT, build, check, main, render, student_editable
from autograder.authoring.strip import strip
from autograder.classroom.nbgrader_settings import release_steps
from course.errors import CourseError
from course.lab import tidy_on_save
from course.update import MANIFEST, fingerprint, notebook_bytes, read_manifest

FIXTURE = ROOT / "tests" / "classroom" / "fixtures" / "course"
STAGE = "stage9_demo"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A course with one stage that is not released yet."""
    shutil.copytree(FIXTURE, tmp_path / "course")
    return tmp_path / "course"


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def lesson(*cells: str) -> str:
    return "# %% [markdown]\n# # Title\n\n" + "\n\n".join(cells) + "\n"


# ---- this repository ---------------------------------------------------------------------------------------


def test_the_stage_folders_are_what_solutions_gives():
    assert check(ROOT) == (), "run `python -m autograder release build`"


# ---- what learners get -------------------------------------------------------------------------------------


def test_learners_get_no_solution_and_no_hidden_test(root):
    build(root)
    student = b"".join(tree(root / STAGE).values())
    for secret in (
        b"SOLUTION",
        b"HIDDEN",
        b"MARK SCHEME",
        b"linalg.inv",
        b"associative",
        b"4 * b",
        b"logarithmic",
        b"secret",
        b"SECRET",
        b"3.0f * x",
        b"add_library",
        b"return 2 * x",
        b"CREATE TABLE",
    ):
        assert secret not in student, secret
    source = tree(root / ".grading" / "source" / STAGE)
    assert b"linalg.inv" in source["01_demo.ipynb"] and b"HIDDEN TESTS" in source["01_demo.ipynb"]
    assert b"3.0f * x" not in source["native/scale.cu"], "nbgrader copies helper files beside a learner's notebook"
    assert set(source) == set(tree(root / STAGE)) - {MANIFEST}


def test_helper_files_keep_their_comment_syntax(root):
    files = render(root, STAGE).student
    assert files["native/scale.cu"].decode().split("\n")[1:4] == [
        'extern "C" float scale(float x) {',
        "    // YOUR CODE HERE",
        "}",
    ]
    assert b"/* YOUR CODE HERE */\n" in files["native/scale.cu"]
    assert files["native/CMakeLists.txt"].endswith(b"\n# YOUR CODE HERE\n")
    assert files["service/schema.sql"] == b"-- YOUR CODE HERE\nSELECT 1;\n"
    assert b"<!-- YOUR CODE HERE -->" in files["service/notes.md"]
    assert files["service/picture.png"] == (FIXTURE / "solutions" / STAGE / "service" / "picture.png").read_bytes()
    helper = files["helper.py"].decode()
    assert "    # YOUR CODE HERE\n    raise NotImplementedError()\n\n\n# YOUR CODE HERE\n\n\nclass Plugin:\n" in helper
    assert helper.endswith("class Plugin:\n    # YOUR CODE HERE\n    pass\n")
    assert student_editable(root, STAGE) == (
        "helper.py",
        "native/CMakeLists.txt",
        "native/scale.cu",
        "service/config.pbtxt",
        "service/notes.md",
        "service/schema.sql",
    )


def test_a_region_of_cpp_in_a_cell_becomes_a_cpp_comment_and_others_stay_python():
    text = (
        '# %% nbgrader={"grade_id": "mixed", "solution": true}\nsource = r"""\nint one()\n{\n    // BEGIN SOLUTION\n    return 1;\n'
        '    // END SOLUTION\n}\n"""\n### BEGIN SOLUTION\nn = 1\n### END SOLUTION\ndef two():\n    ### BEGIN SOLUTION\n    return 2\n'
        "    ### END SOLUTION\n"
    )
    (cell,) = student_version(read_lesson(text, "x.py")).cells
    assert cell.source == (
        'source = r"""\nint one()\n{\n    // YOUR CODE HERE\n}\n"""\n# YOUR CODE HERE\n...\ndef two():\n    # YOUR CODE HERE\n'
        "    raise NotImplementedError()"
    )


@pytest.mark.parametrize(
    "begin, end, stub",
    [
        ("; BEGIN SOLUTION", "; END SOLUTION", "; YOUR CODE HERE"),
        ("  % BEGIN SOLUTION", "  % END SOLUTION", "  % YOUR CODE HERE"),
        ("// ### BEGIN SOLUTION", "// ### END SOLUTION", "// YOUR CODE HERE"),
    ],
)
def test_more_comment_syntaxes(begin, end, stub):
    assert strip(f"a\n{begin}\nsecret\n{end}\nb\n", "x.txt") == f"a\n{stub}\nb\n"


def test_crlf_sources_give_lf(root):
    before = render(root, STAGE)
    for path in (root / "solutions").rglob("*"):
        if path.suffix in {".py", ".cu", ".md"}:
            path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert render(root, STAGE) == before


# ---- the same bytes everywhere -----------------------------------------------------------------------------


def test_same_bytes_from_another_process_folder_locale_and_umask(root, tmp_path):
    build(root)
    first = tree(root / STAGE)
    other = tmp_path / "elsewhere" / "Größe"
    shutil.copytree(FIXTURE, other)
    env = {
        **os.environ,
        "LC_ALL": "C",
        "LANG": "C",
        "PYTHONHASHSEED": "7",
        "TZ": "Asia/Tokyo",
        "PYTHONUTF8": "0",
        "PYTHONPATH": str(ROOT),
    }
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, runpy, sys; os.umask(0o077); sys.argv[0] = 'x';"
            "runpy.run_module('autograder', run_name='__main__')",
            "release",
            "build",
            "--root",
            str(other),
        ],
        cwd="/",
        env=env,
        check=True,
        capture_output=True,
    )
    assert tree(other / STAGE) == first
    assert build(root) == {STAGE: ()}
    assert tree(root / STAGE) == first
    listed = read_manifest(root / STAGE)["files"]
    assert listed == {name: fingerprint(name, data) for name, data in first.items() if name != MANIFEST}


def test_cell_ids_come_from_grade_id_or_content(root):
    nb = nbformat.reads(render(root, STAGE).student["01_demo.ipynb"].decode(), as_version=4)
    ids = [cell.id for cell in nb.cells]
    assert ids[2:4] == ["fold", "fold-test"] and len(set(ids)) == len(ids)
    assert ids[5] == ids[4] + "-2"  # two cells with the same text
    path = root / "solutions" / STAGE / "01_demo.py"
    path.write_text(
        path.read_text().replace(
            "# %% [markdown]\n# # Fold", "# %% [markdown]\n# New first cell.\n\n# %% [markdown]\n# # Fold"
        )
    )
    moved = nbformat.reads(render(root, STAGE).student["01_demo.ipynb"].decode(), as_version=4)
    assert [cell.id for cell in moved.cells][1:] == ids


# ---- nbgrader ----------------------------------------------------------------------------------------------


def test_nbgrader_makes_the_same_release_from_the_source(root):
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import Config

    build(root)
    config = Config()
    config.CourseDirectory.root = str(root)
    config.CourseDirectory.source_directory = ".grading/source"
    config.CourseDirectory.release_directory = ".grading/release"
    config.CourseDirectory.db_url = f"sqlite:///{root}/.grading/gradebook.db"
    config.GenerateAssignment.preprocessors = release_steps()
    api = NbGraderAPI(config=config)
    api.log.setLevel(logging.ERROR)
    result = api.generate_assignment(STAGE)
    assert result["success"], result.get("log") or result.get("error")
    ours = tree(root / STAGE)
    ours.pop(MANIFEST)
    theirs = tree(root / ".grading" / "release" / STAGE)
    assert set(theirs) == set(ours)
    for name in ours:
        if name.endswith(".ipynb"):
            assert json.loads(theirs[name]) == json.loads(ours[name]), name
        else:
            assert theirs[name] == ours[name], name
    with api.gradebook as gradebook:
        assert gradebook.find_assignment(STAGE).max_score == pytest.approx(4 + 2.5 + 5 + 3 + 3)


# ---- JupyterLab --------------------------------------------------------------------------------------------


def test_running_and_saving_in_jupyterlab_changes_only_outputs(root):
    """The path of a real save: contents API in, kernel, what JupyterLab's page adds, contents API out."""
    from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
    from nbclient import NotebookClient

    build(root)
    path = root / STAGE / "01_demo.ipynb"
    released = path.read_bytes()
    manager = AsyncLargeFileManager(root_dir=str(root))
    manager.register_pre_save_hook(tidy_on_save)

    async def open_run_save() -> None:
        model = await manager.get(f"{STAGE}/01_demo.ipynb", content=True)
        opened = model["content"]
        opened.cells[-1].source = opened.cells[-1].source  # %%bash needs no kernel of its own
        client = NotebookClient(opened, timeout=60, allow_errors=True, resources={"metadata": {"path": str(root)}})
        await client.async_execute()
        opened.metadata["kernelspec"]["display_name"] = "Python 3"  # the name that this machine's kernel has
        assert "version" in opened.metadata.language_info and "execution" in opened.cells[1].metadata
        await manager.save(
            {"type": "notebook", "format": "json", "content": json.loads(json.dumps(opened))},
            f"{STAGE}/01_demo.ipynb",
        )

    asyncio.run(open_run_save())
    saved = path.read_bytes()
    nb = nbformat.reads(saved.decode(), as_version=4)
    assert any(cell.get("outputs") for cell in nb.cells), "the notebook was not run"
    assert fingerprint(path.name, saved) == fingerprint(path.name, released)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    assert notebook_bytes(nb) == released
    assert check(root) == (f"{STAGE}/01_demo.ipynb: only outputs or Jupyter's own metadata differ.",)
    assert [(c.path, c.action) for c in build(root)[STAGE]] == [("01_demo.ipynb", "updated")]
    assert path.read_bytes() == released


# ---- edits are kept ----------------------------------------------------------------------------------------


def test_build_keeps_edits_and_force_keeps_a_copy(root, capsys):
    build(root)
    scale, helper = root / STAGE / "native" / "scale.cu", root / STAGE / "helper.py"
    released = helper.read_bytes()
    scale.write_text("mine\n")
    helper.write_text("mine, too\n")
    (root / "solutions" / STAGE / "native" / "scale.cu").write_text("// new\n")
    assert main(["build", "--root", str(root)]) == 1
    assert scale.read_text() == "mine\n" and helper.read_text() == "mine, too\n"
    assert "--force" in capsys.readouterr().out
    assert main(["build", "--root", str(root)]) == 1, "still edited, still reported"
    assert main(["build", "--root", str(root), "--force", STAGE]) == 0
    assert scale.read_text() == "// new\n" and helper.read_bytes() == released
    assert (root / STAGE / "native" / "scale.cu.mine-1").read_text() == "mine\n"
    scale.write_text("mine again\n")
    build(root, force=True)
    assert (root / STAGE / "native" / "scale.cu.mine-2").read_text() == "mine again\n"


def test_files_that_left_the_release_go_unless_edited(root):
    build(root)
    for name in ("service/notes.md", "native/scale.cu", "native/CMakeLists.txt"):
        (root / "solutions" / STAGE / name).unlink()
    (root / STAGE / "service" / "notes.md").write_text("mine\n")
    changes = {change.path: change.action for change in build(root)[STAGE]}
    assert changes == {
        "service/notes.md": "kept",
        "native/scale.cu": "removed",
        "native/CMakeLists.txt": "removed",
    }
    assert not (root / STAGE / "native").exists() and (root / STAGE / "service" / "notes.md").read_text() == "mine\n"
    assert not (root / ".grading" / "source" / STAGE / "native" / "scale.cu").exists()
    (root / STAGE / "service" / "notes.md").unlink()
    shutil.rmtree(root / "solutions" / STAGE)
    build(root)
    assert not (root / STAGE).exists()


def test_a_stage_folder_without_its_list_loses_nothing(root):
    build(root)
    (root / STAGE / MANIFEST).unlink()
    (root / STAGE / "helper.py").write_text("mine\n")
    assert [(c.path, c.action) for c in build(root)[STAGE]] == [("helper.py", "kept")]


@pytest.mark.parametrize("writes", [0, 1, 2, 4, 6])
def test_an_interrupted_build_is_finished_by_the_next_one(root, monkeypatch, writes):
    """The build dies before write number `writes` of 7: the list, five files, the list."""
    from course import update

    build(root)
    for name, old, new in (
        ("01_demo.py", "# # Fold", "# # Multiply"),
        ("helper.py", "2 x", "two x"),
        ("native/scale.cu", "stand-in", "placeholder"),
        ("service/schema.sql", "SELECT 1", "SELECT 2"),
        ("native/CMakeLists.txt", "project(", "project(x"),
        ("service/notes.md", "Public", "Open"),
    ):
        path = root / "solutions" / STAGE / name
        path.write_text(path.read_text().replace(old, new))
    (root / STAGE / "service" / "schema.sql").write_text("mine\n")
    real = update.atomic_write

    def build_until(writes: int) -> None:
        done = []

        def dies(path, data):
            if len(done) == writes:
                raise KeyboardInterrupt
            done.append(path)
            return real(path, data)

        monkeypatch.setattr(update, "atomic_write", dies)
        with pytest.raises(KeyboardInterrupt):
            build(root)
        monkeypatch.undo()

    # The source moves on between the builds: what an interrupted one wrote must not pass for an edit.
    helper = root / "solutions" / STAGE / "helper.py"
    build_until(writes)
    helper.write_text(helper.read_text().replace("two x", "twice x"))
    build_until(1)
    helper.write_text(helper.read_text().replace("twice x", "x, twice"))
    kept = [change.path for change in build(root)[STAGE] if change.action == "kept"]
    assert kept == ["service/schema.sql"]
    assert (root / STAGE / "service" / "schema.sql").read_text() == "mine\n"
    assert [line.split(":")[0] for line in check(root)] == [f"{STAGE}/service/schema.sql"]


# ---- drift -------------------------------------------------------------------------------------------------


def test_check_names_each_file_that_drifted(root, capsys):
    build(root)
    assert main(["check", "--root", str(root)]) == 0
    (root / STAGE / "helper.py").unlink()
    (root / STAGE / "service" / "schema.sql").write_text("SELECT 3;\n")
    with (root / STAGE / "01_demo.ipynb").open("a") as file:
        file.write("\n")
    (root / STAGE / "extra.txt").write_text("by hand\n")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    subprocess.run(["git", "-C", str(root), "add", "-f", STAGE], check=True)
    capsys.readouterr()
    assert main(["check", "--root", str(root)]) == 1
    out = capsys.readouterr().out
    assert f"{STAGE}/helper.py: missing." in out and f"{STAGE}/extra.txt: nothing in solutions/" in out
    assert "    -SELECT 3;\n    +-- YOUR CODE HERE\n" in out and f"{STAGE}/01_demo.ipynb: only" in out
    assert "4 file(s) differ" in out and "release build" in out


# ---- mistakes in a lesson ----------------------------------------------------------------------------------

TEST = '# %% nbgrader={"grade_id": "t", "grade": true, "points": 1}\nassert f()'
MISTAKES = {
    "unknown key": (
        '# %% nbgrader={"grade_id": "f", "solutoin": true}\npass',
        "x.py:4",
        "Did you mean 'solution'",
    ),
    "unknown cell key": ('# %% slide="a"\npass', "x.py:4", "unknown metadata slide"),
    "title": ("# %% A title\npass", "x.py:4", "unknown metadata title"),
    "broken JSON": ('# %% nbgrader={"grade_id": }\npass', "x.py:4", "no valid JSON"),
    "no object": ("# %% nbgrader=3\npass", "x.py:4", "must be an object"),
    "twice": (f"{TEST}\n\n{TEST}", "x.py:7", "line 4"),
    "no points": ('# %% nbgrader={"grade_id": "t", "grade": true}\nassert f()', "x.py:4", "no points"),
    "bad points": (TEST.replace("1}", '"1"}'), "x.py:4", "number from 0"),
    "negative points": (TEST.replace("1}", "-1}"), "x.py:4", "number from 0"),
    "points not graded": (
        '# %% nbgrader={"grade_id": "f", "solution": true, "points": 2}\n# BEGIN SOLUTION\n# END SOLUTION',
        "x.py:4",
        "not graded",
    ),
    "no marker": (
        '# %% nbgrader={"grade_id": "f", "solution": true}\ndef f(): return 1',
        "x.py:4",
        "marks no solution",
    ),
    "no end": (
        '# %% nbgrader={"grade_id": "f", "solution": true}\nx = 1\n### BEGIN SOLUTION\ny = 1',
        "x.py:6",
        "without END",
    ),
    "no begin": (
        '# %% nbgrader={"grade_id": "f", "solution": true}\n### END SOLUTION',
        "x.py:5",
        "without BEGIN",
    ),
    "nested": (
        '# %% nbgrader={"grade_id": "f", "solution": true}\n# BEGIN SOLUTION\n# BEGIN SOLUTION\n# END',
        "x.py:6",
        "inside a region",
    ),
    "not a solution": ("# %%\n### BEGIN SOLUTION\n1\n### END SOLUTION", "x.py:5", '"solution": true'),
    "not a test": ("# %%\n### BEGIN HIDDEN TESTS\n1\n### END HIDDEN TESTS", "x.py:5", '"grade": true'),
    "no grade_id": ('# %% nbgrader={"solution": true}\npass', "x.py:4", "grade_id"),
    "odd grade_id": ('# %% nbgrader={"grade_id": "a b", "solution": true}\npass', "x.py:4", "'a b'"),
    "no kind": ('# %% nbgrader={"grade_id": "a"}\npass', "x.py:4", "neither solution"),
    "not a bool": ('# %% nbgrader={"grade_id": "a", "solution": 1}\npass', "x.py:4", "true or false"),
    "markdown test": (
        '# %% [markdown] nbgrader={"grade_id": "a", "grade": true, "points": 1}\n# x',
        "x.py:4",
        "grade and",
    ),
    "code task": ('# %% nbgrader={"grade_id": "a", "task": true, "points": 1}\n1', "x.py:4", "Markdown cell"),
    "shell word": ("# %%\nx = 1\n# cat pictures come first", "x.py:6", "would become a command"),
    "autotest": (TEST + "\n### AUTOTEST f()", "x.py:6", "AUTOTEST"),
    "empty": ("# %%\n\n# %%\nx = 1", "x.py:4", "is empty"),
    "marker in a string": ('# %%\ns = """\n# %% not a cell\n"""', "x.py", "make 2 cells"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_file_and_line(mistake):
    cell, place, words = MISTAKES[mistake]
    with pytest.raises(CourseError) as caught:
        read_lesson(lesson(cell), "x.py")
    assert str(caught.value).startswith(place) and words in str(caught.value)
    assert caught.value.cause and caught.value.next_step


@pytest.mark.parametrize(
    "text, words",
    [
        ("x = 1\n# BEGIN SOLUTION\n", "h.py:2: BEGIN SOLUTION without END"),
        ("# END SOLUTION\n", "h.py:1: END SOLUTION without BEGIN"),
        ("x = 1  # BEGIN SOLUTION\n", "h.py:1: this solution marker cannot be read"),
        ("# BEGIN HIDDEN TESTS\n", "h.py:1: a helper file cannot hide tests"),
        ("def f(:\n    # BEGIN SOLUTION\n    # END SOLUTION\n", "h.py:1: not valid Python as it stands"),
        ("if True:\n    # BEGIN SOLUTION\n    x = 1\nelse:\n    # END SOLUTION\n    y = 1\n", "y"),
    ],
)
def test_a_mistake_in_a_helper_file_is_named(text, words):
    if words == "y":  # cutting across blocks gives wrong code that is still Python: it must at least not leak
        assert "x = 1" not in strip(text, "h.py")
        return
    with pytest.raises(CourseError) as caught:
        strip(text, "h.py")
    assert words in str(caught.value)


def test_one_mistake_stops_the_build_before_anything_is_written(root):
    (root / "solutions" / STAGE / "native" / "scale.cu").write_text("// BEGIN SOLUTION\n")
    with pytest.raises(CourseError, match=r"solutions/stage9_demo/native/scale.cu:1"):
        build(root)
    assert not (root / STAGE).exists() and not (root / ".grading").exists()


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("03_x.ipynb", b"{}", "jupytext --to py:percent"),
        ("native/03_x.py", b"# %%\n1\n", "too deep"),
        ("latin.cu", b"// BEGIN SOLUTION \xe9\n", "not UTF-8"),
    ],
)
def test_files_that_cannot_be_released_are_refused(root, name, content, words):
    (root / "solutions" / STAGE / name).write_bytes(content)
    with pytest.raises(CourseError, match=words):
        render(root, STAGE)


def test_unknown_stage_and_command_line(root):
    with pytest.raises(CourseError, match="no stage 'stage8'"):
        main(["build", "--root", str(root), "stage8"])
    done = subprocess.run(
        [sys.executable, "-m", "autograder", "release", "build", "--root", str(root), "stage8"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "Next step" in done.stderr and "Traceback" not in done.stderr


def test_a_long_form_lesson_with_header_reads_the_same(root):
    short = lesson('# %% nbgrader={"grade_id": "f", "solution": true}\n# BEGIN SOLUTION\n1\n# END SOLUTION')
    long = "# ---\n# jupyter:\n#   x: 1\n# ---\n\n" + short.replace(
        '"solution": true',
        '"grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false',
    )
    assert student_version(read_lesson(long, "x.py")) == student_version(read_lesson(short, "x.py"))


def test_the_example_in_the_guide_is_a_lesson():
    guide = (ROOT / "solutions" / "README.md").read_text(encoding="utf-8")
    example = guide.split("```python\n")[1].split("```")[0]
    sources = [cell.source for cell in student_version(read_lesson(example, "solutions/README.md")).cells]
    assert len(sources) == 5 and sources[-1].endswith("YOUR ANSWER HERE") and "4 * b" not in sources[3]


def test_whole_points_are_written_as_jupyterlab_saves_them():
    nb = read_lesson(lesson(TEST.replace('"points": 1', '"points": 4.0')), "x.py")
    assert b'"points": 4,' in notebook_bytes(nb)
