"""One style, held by a tool; imports run downwards only. `pre-commit install` runs the same before each commit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from course.paths import ROOT

PROGRAMS = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("lint-imports", "--no-logo", "--no-cache")],
    ids=" ".join,
)
def test_the_tool_finds_nothing(command):
    done = subprocess.run([PROGRAMS / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}{done.stderr[-2000:]}"


def test_an_import_upwards_is_found(tmp_path):
    """A copy in which errors, at the bottom, imports the command line: the contracts must notice."""
    for name in ("course", "autograder"):
        for path in (ROOT / name).rglob("*.py"):
            target = tmp_path / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(path.read_text())
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    errors = tmp_path / "course" / "errors.py"
    errors.write_text(errors.read_text() + "\n\ndef up():\n    from course import cli\n    return cli\n")
    command = [PROGRAMS / "lint-imports", "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "course.errors is not allowed to import course.cli" in done.stdout


def test_no_path_is_patched_and_the_root_is_known_in_one_place():
    found = []
    for folder in ("course", "autograder", "tests", "tools", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text()
            if path == Path(__file__) or "fixtures" in path.parts:
                continue
            if "sys.path.insert" in text and path.name not in ("dump.py", "script_inside.py"):
                found.append(f"{path.relative_to(ROOT)}: sys.path")
            if "__file__).resolve().parents[" in text and path != ROOT / "course" / "paths.py":
                found.append(f"{path.relative_to(ROOT)}: use course.paths.ROOT")
    assert not found
