"""`course lab`: a learner's copy that an update of the course never conflicts with."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

import course.update
from autograder.authoring.release import ROOT, build
from course.errors import CourseError, DamagedFileError, MissingFileError
from course.lab import find_stage, make_work_copy, open_lab
from course.update import MANIFEST

FIXTURE = ROOT / "tests" / "classroom" / "fixtures" / "course"
STAGE = "stage9_demo"


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("released") / "course"
    shutil.copytree(FIXTURE, folder)
    build(folder)
    return folder


@pytest.fixture
def root(released, tmp_path) -> Path:
    """A released course, and nobody has worked in it yet."""
    shutil.copytree(released, tmp_path / "course")
    return tmp_path / "course"


def update(root: Path, name: str, old: str, new: str) -> None:
    """Change a source and release it, as `git pull` would bring it."""
    path = root / "solutions" / STAGE / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    build(root)


def actions(report) -> dict[str, str]:
    return {change.path.removeprefix(f"{STAGE}/"): change.action for change in report.changes}


def execute(path: Path) -> None:
    """As if the learner had run the notebook: an output and a count in every code cell."""
    nb = nbformat.read(path, as_version=4)
    for count, cell in enumerate((c for c in nb.cells if c.cell_type == "code"), 1):
        cell.execution_count = count
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=f"output {count}\n")]
        cell.metadata["collapsed"] = True
        cell.metadata["execution"] = {"iopub.execute_input": "2020-01-01T00:00:00Z"}
    nb.cells.append(nbformat.v4.new_code_cell(""))  # what Shift-Enter on the last cell adds
    nb.metadata["language_info"]["version"] = "3.12.1"
    nb.metadata["kernelspec"] = {"name": "venv", "display_name": "My kernel", "language": "python"}
    nbformat.write(nb, path)


def test_first_copy_then_nothing_to_do(root):
    report = make_work_copy(root)
    assert set(actions(report).values()) == {"added"} and report.stages == (STAGE,)
    for path in (root / STAGE).rglob("*"):
        if path.is_file() and path.name != MANIFEST:
            assert (root / "work" / STAGE / path.relative_to(root / STAGE)).read_bytes() == path.read_bytes()
    assert os.access(root / "work" / STAGE / "service" / "run.sh", os.X_OK)
    assert "10 new" in str(report)
    again = make_work_copy(root)
    assert again.changes == () and "nothing to update" in str(again)


def test_untouched_files_follow_the_release_and_edited_ones_stay(root):
    make_work_copy(root)
    work = root / "work" / STAGE
    (work / "native" / "scale.cu").write_text("my kernel\n")
    update(root, "native/scale.cu", "stand-in", "placeholder")
    update(root, "helper.py", "2 x", "twice x")
    report = make_work_copy(root)
    assert actions(report) == {"native/scale.cu": "beside", "helper.py": "updated"}
    assert (work / "native" / "scale.cu").read_text() == "my kernel\n"
    assert "placeholder" in (work / "native" / "scale.cu.new").read_text()
    assert "scale.cu.new" in str(report) and "kept because you edited them" in str(report)
    (work / "native" / "scale.cu.new").unlink()
    assert actions(make_work_copy(root)) == {"native/scale.cu": "kept"}, "said once, then left in peace"
    assert not (work / "native" / "scale.cu.new").exists()
    (work / "native" / "scale.cu").unlink()
    assert actions(make_work_copy(root)) == {"native/scale.cu": "added"}, "deleting it brings the release's version"


def test_the_new_version_goes_once_it_was_taken(root):
    make_work_copy(root)
    path = root / "work" / STAGE / "helper.py"
    path.write_text("mine\n")
    update(root, "helper.py", "2 x", "twice x")
    make_work_copy(root)
    os.replace(path.with_name("helper.py.new"), path)
    assert make_work_copy(root).changes == ()
    path.write_text("mine again\n")
    update(root, "helper.py", "twice x", "x, twice")
    make_work_copy(root)
    shutil.copy(path.with_name("helper.py.new"), path)
    assert make_work_copy(root).changes == () and not path.with_name("helper.py.new").exists()


def test_a_notebook_that_was_only_run_is_updated_and_keeps_its_outputs(root):
    make_work_copy(root)
    path = root / "work" / STAGE / "01_demo.ipynb"
    execute(path)
    before = path.read_bytes()
    assert make_work_copy(root).changes == () and path.read_bytes() == before
    update(
        root,
        "01_demo.py",
        'print(sys.version_info[:2], "this cell has an output")\n\n# %%\n',
        "print('changed')\n\n# %%\n",
    )
    assert actions(make_work_copy(root)) == {"01_demo.ipynb": "updated"}
    nb = nbformat.read(path, as_version=4)
    outputs = {cell.source.split("\n")[0]: cell.outputs for cell in nb.cells if cell.cell_type == "code"}
    assert outputs["print('changed')"] == [] and outputs["%matplotlib inline"][0].text == "output 1\n"


@pytest.mark.parametrize("content", ["{", "not JSON", '{"cells": 3}', ""])
def test_a_broken_notebook_counts_as_edited(root, content):
    make_work_copy(root)
    path = root / "work" / STAGE / "01_demo.ipynb"
    path.write_text(content)
    update(root, "01_demo.py", "# # Fold", "# # Multiply")
    assert actions(make_work_copy(root)) == {"01_demo.ipynb": "beside"} and path.read_text() == content


def test_an_edited_cell_or_a_new_cell_counts_as_edited(root):
    make_work_copy(root)
    path = root / "work" / STAGE / "02_native.ipynb"
    nb = nbformat.read(path, as_version=4)
    nb.cells.append(nbformat.v4.new_markdown_cell("my note"))
    nbformat.write(nb, path)
    before = path.read_bytes()
    update(root, "02_native.py", "A kernel of your own", "Your kernel")
    assert actions(make_work_copy(root)) == {"02_native.ipynb": "beside"} and path.read_bytes() == before


def test_removed_files_go_unless_edited_and_own_files_stay(root):
    make_work_copy(root)
    work = root / "work" / STAGE
    (work / "mine.txt").write_text("mine\n")
    (work / "service" / "notes.md").write_text("mine\n")
    for name in ("service/notes.md", "service/schema.sql"):
        (root / "solutions" / STAGE / name).unlink()
    (root / "solutions" / STAGE / "mine.txt").write_text("the release has a file of this name now\n")
    build(root)
    report = make_work_copy(root)
    assert actions(report) == {
        "service/notes.md": "kept",
        "service/schema.sql": "removed",
        "mine.txt": "beside",
    }
    assert (work / "mine.txt").read_text() == "mine\n" and not (work / "service" / "schema.sql").exists()


def test_edits_in_the_release_folder_are_taken_along_and_never_lost(root):
    path = root / STAGE / "helper.py"
    released = path.read_bytes()
    path.write_text("edited in the wrong place\n")
    report = make_work_copy(root)
    assert "edits that were made in the release folder" in str(report)
    work = root / "work" / STAGE / "helper.py"
    assert work.read_text() == "edited in the wrong place\n"
    path.write_bytes(released)  # git checkout
    make_work_copy(root)
    assert work.read_text() == "edited in the wrong place\n"
    (root / STAGE / "native" / "scale.cu").unlink()
    (root / "work" / STAGE / "native" / "scale.cu").unlink()
    assert f"git checkout -- {STAGE}/native/scale.cu" in str(make_work_copy(root))


@pytest.mark.parametrize("writes", range(4))
def test_an_interrupted_copy_is_finished_by_the_next_one(root, monkeypatch, writes):
    make_work_copy(root)
    work = root / "work" / STAGE
    (work / "native" / "scale.cu").write_text("mine\n")
    update(root, "native/scale.cu", "stand-in", "placeholder")
    update(root, "helper.py", "2 x", "twice x")
    done, real = [], course.update.atomic_write

    def dies(path, data):
        if len(done) == writes:
            raise KeyboardInterrupt
        done.append(path)
        return real(path, data)

    monkeypatch.setattr(course.update, "atomic_write", dies)
    with pytest.raises(KeyboardInterrupt):
        make_work_copy(root)
    monkeypatch.undo()
    update(root, "helper.py", "twice x", "x, twice")  # another release comes before the next call
    make_work_copy(root)
    assert (work / "native" / "scale.cu").read_text() == "mine\n"
    assert "placeholder" in (work / "native" / "scale.cu.new").read_text()
    assert (work / "helper.py").read_bytes() == (root / STAGE / "helper.py").read_bytes()


def test_errors_have_a_way_out(root, tmp_path):
    with pytest.raises(MissingFileError, match="no lessons"):
        make_work_copy(tmp_path / "nothing")
    make_work_copy(root)
    (root / "work" / STAGE / MANIFEST).write_text("{")
    with pytest.raises(DamagedFileError, match="delete it"):
        make_work_copy(root)
    (root / "work" / STAGE / MANIFEST).unlink()
    assert make_work_copy(root).changes == ()
    (root / "work" / STAGE / "helper.py").unlink()
    (root / "work" / STAGE / "helper.py").mkdir()
    with pytest.raises(CourseError, match="helper.py could not be brought up to date"):
        make_work_copy(root)


def test_find_stage(root):
    for name in (9, "9", "stage9", STAGE, STAGE + "/"):
        assert find_stage(root, name) == STAGE
    with pytest.raises(CourseError, match="course lab 1"):
        find_stage(root, 1)
    with pytest.raises(MissingFileError, match="Run `course lab`"):
        open_lab(root)


def test_open_lab_starts_a_real_jupyterlab_that_saves_tidily(root):
    make_work_copy(root)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = f"from course.lab import open_lab; raise SystemExit(open_lab({str(root)!r}, 9, browser=False))"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JUPYTER_PORT": str(port), "HOME": str(root)}
    env.pop("JUPYTER_TOKEN", None)
    log = (root / "lab.log").open("w")
    server = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=log, stderr=log, start_new_session=True)

    def ask(path: str, method: str = "GET", body: bytes | None = None) -> str:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", body, {"Authorization": f"token {token}"}, method=method
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read().decode()

    try:
        deadline, address = time.monotonic() + 60, None
        while address is None:
            printed = (root / "lab.log").read_text()
            assert server.poll() is None and time.monotonic() < deadline, printed
            address = re.search(rf":{port}/lab/tree/{STAGE}/01_demo.ipynb\?token=(\w+)", printed)
            time.sleep(0.2)
        token = address[1]
        assert "jupyterlab" in ask("/lab").lower()
        path = root / "work" / STAGE / "01_demo.ipynb"
        before = path.read_bytes()
        model = json.loads(ask(f"/api/contents/{STAGE}/01_demo.ipynb?content=1"))
        model["content"]["metadata"]["language_info"]["version"] = "3.11.7"  # what the page adds from the kernel
        model["content"]["metadata"]["kernelspec"]["display_name"] = "Python 3"
        ask(
            f"/api/contents/{STAGE}/01_demo.ipynb",
            "PUT",
            json.dumps({"type": "notebook", "format": "json", "content": model["content"]}).encode(),
        )
        assert path.read_bytes() == before
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)
        log.close()
