"""A class of odd names, scripts and warnings through the real flow: each gets its due, and the pages are up to date."""

from __future__ import annotations

import io
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest
from rich.console import Console

from autograder.classroom import pages
from autograder.classroom.feedback import feedback
from autograder.classroom.grade import _table
from autograder.classroom.gradebook import open_place
from autograder.classroom.untrusted import student_id
from autograder.sandbox import bwrap
from course.paths import ROOT
from tests.classroom import box

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bwrap.available() is not None, reason=f"no sandbox: {bwrap.available()}"),
]
LATIN, MARKUP = os.fsdecode(b"M\xfcller"), "[bold]x"
SCRIPT = "<script>fetch('/api/kernels')</script>"
FILL = """
import time
for number in range(24):
    with open(f"fill{number}", "wb") as file:
        file.write(bytes(20 << 20))
time.sleep(12)
"""
NATIVE = """
    import contextlib, io, os, warnings
    with contextlib.redirect_stderr(io.StringIO()):
        os.write(2, b"[W:library] a warning of a library\\n")
    warnings.warn("numpy will change this")
    out = ws[0]"""


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> tuple[Path, dict]:
    root = box.make_course(tmp_path_factory.mktemp("odd") / "course")
    with open(root / "nbgrader_config.py", "a") as config:
        config.write(
            "c.SandboxedExecute.disk_gb = 0.2\nc.SandboxedExecute.total_s = 60\nc.SandboxedExecute.timeout = 30\n"
        )
    box.hand_in(root, "ada", box.solved(root))
    box.hand_in(root, LATIN, box.solved(root))
    box.hand_in(root, MARKUP, box.solved(root))
    warns = box.solved(root)
    box.cell(warns, "fold").source = box.FOLD.replace("\n    out = ws[0]", NATIVE)
    box.hand_in(root, "warns", warns)
    eve = box.blank(root)
    box.cell(eve, "fold").source = (
        "def fold(ws):\n    return 0\nfrom IPython.display import HTML, Javascript, SVG, display\n"
        f"display(HTML({SCRIPT!r}), Javascript('fetch(1)'), SVG('<svg onload=\"fetch(1)\"/>'))"
    )
    box.cell(eve, "why").source = f"The product is associative. {SCRIPT}"
    folder = box.hand_in(root, "eve", eve)
    (folder / "[").mkdir()
    (folder / "evil.html").write_text(SCRIPT)
    os.symlink("y", folder / "[" / "x]")
    loud = box.solved(root)
    box.cell(loud, "build").source += "\n'x' * (40 << 20)"
    box.hand_in(root, "loud", loud)
    for name, code in (("fills-the-disk", FILL), ("cries", "raise Exception('x' * (30 << 20))")):
        notebook = box.blank(root)
        box.cell(notebook, "fold").source = box.FOLD
        box.cell(notebook, "build").source = code
        box.hand_in(root, name, notebook)
    return root, box.run(root)


@pytest.mark.parametrize("name", ["ada", LATIN, MARKUP, "warns", "loud"], ids=ascii)
def test_honest_work_gets_all_its_points(graded, name):
    root, outcomes = graded
    identity = student_id(name)
    assert outcomes[identity].status == "measured", outcomes[identity]
    got = box.scores(root, identity)
    assert (got["fold-test"], got["partial-test"], got["m-box"]) == (4.0, 2.0, 20.0)


def test_nothing_of_a_learner_that_runs_is_kept_in_the_graded_notebook(graded):
    root, _ = graded
    path = root / ".grading" / "autograded" / "eve" / box.STAGE / f"{box.NOTEBOOK}.ipynb"
    data = [out.data for cell in nbformat.read(path, 4).cells for out in cell.get("outputs", ()) if "data" in out]
    assert {kind for one in data for kind in one} == {"text/plain", "text/html"}
    assert any("&lt;script&gt;" in one.get("text/html", "") for one in data), "the cleaned script shows as text"
    large = root / ".grading" / "autograded" / "loud" / box.STAGE / f"{box.NOTEBOOK}.ipynb"
    assert large.stat().st_size < 1 << 20


@pytest.mark.parametrize(
    "name, words",
    [("fills-the-disk", "it wrote more than 0.2 GB to the disk"), ("cries", "Exception: (cut: too much output)")],
)
def test_too_much_is_stopped_and_said(graded, name, words):
    root, outcomes = graded
    path = root / ".grading" / "autograded" / name / box.STAGE / f"{box.NOTEBOOK}.ipynb"
    assert words in path.read_text() and path.stat().st_size < 1 << 20
    assert outcomes[name].status == "measured" and box.scores(root, name)["fold-test"] == 4.0
    assert box.scores(root, name)["m-box"] == 0.0


def test_formgrader_sends_its_policy_with_each_submission(graded, tmp_path):
    """On the real server: the header's nonce is that of formgrader's own scripts, and no two pages share one."""
    root, _ = graded
    with open_place(root).gradebook() as book:
        identity = book.find_submission_notebook(box.NOTEBOOK, box.STAGE, "eve").id
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        f"--port={port}",
        "--ServerApp.token=tok",
        f"--ServerApp.root_dir={root}",
        "--no-browser",
        "--allow-root",
    ]
    command = [sys.executable, "-m", "jupyter_server", "--ServerApp.port_retries=0", *options]
    log = open(tmp_path / "server.log", "wb")
    server = subprocess.Popen(command, cwd=root, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=log)
    try:
        place = f"http://127.0.0.1:{port}/formgrader/submissions/{identity}"
        first, second = (_page(server, f"{place}/?token=tok", log.name) for _ in "12")
        with urllib.request.urlopen(f"{place}/evil.html?token=tok", timeout=30) as answer:
            headers = answer.headers
    finally:
        server.kill()
        server.wait()
    for policy, page in (first, second):
        (nonce,) = re.findall(r"script-src 'nonce-([^']+)' 'strict-dynamic'", policy)
        scripts = page.count("<script")
        assert scripts > 8 and page.count(f'<script nonce="{nonce}"') == scripts
        assert SCRIPT not in page
    assert first[0] != second[0]
    assert headers["Content-Security-Policy"] == pages.FILES_POLICY and headers["Content-Disposition"] == "attachment"


def _page(server: subprocess.Popen, address: str, log: str) -> tuple[str, str]:
    deadline = time.monotonic() + 90
    while True:
        assert server.poll() is None, Path(log).read_text()[-2000:]
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return answer.headers["Content-Security-Policy"], answer.read().decode()
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.5)


def test_the_table_shows_names_and_notes_as_text(graded):
    root, outcomes = graded
    out = io.StringIO()
    Console(file=out, width=160).print(_table(open_place(root), box.STAGE, list(outcomes.values())))
    assert student_id(MARKUP) in out.getvalue() and "[/x] was left out" in out.getvalue()


def test_feedback_is_made_anew_where_something_changed_and_only_there(graded):
    root, _ = graded
    place = open_place(root)
    first = dict(feedback(place, box.STAGE))
    assert set(first.values()) == {"made"} and len(first) == 8
    assert set(dict(feedback(place, box.STAGE)).values()) == {"up to date"}
    with place.gradebook() as book:
        book.find_comment("why", box.NOTEBOOK, box.STAGE, "ada").manual_comment = "Well said."
        book.db.commit()
    again = dict(feedback(place, box.STAGE))
    assert again.pop("ada") == "made" and set(again.values()) == {"up to date"}
    made = root / ".grading" / "feedback"
    assert "Well said." in (made / "ada" / box.STAGE / f"{box.NOTEBOOK}.html").read_text()
    assert SCRIPT not in (made / "eve" / box.STAGE / f"{box.NOTEBOOK}.html").read_text()
