"""Lessons on CUDA fetch NVIDIA's packages from PyPI; a submission has no network, so the grader fetches them for it."""

from __future__ import annotations

import io
import subprocess

import pytest
from rich.console import Console
from traitlets.config import Config

from autograder.classroom import grade as grading
from autograder.classroom import tempfolders
from autograder.classroom.gradebook import Place
from autograder.classroom.kernel import BoxedKernelManager
from autograder.sandbox import bwrap
from course.kernels import KernelError, packages
from course.kernels import toolkit as cuda

WANTED = ("nvidia-none==1.0",)
INSIDE = """
from course.errors import CourseError
from course.kernels import packages
print((packages.fetch(("nvidia-none==1.0",)) / "there.txt").read_text())
try:
    packages.fetch(("nvidia-other>=2",), begin="fetching")
except CourseError as error:
    print(error)
"""


@pytest.mark.skipif(bwrap.available() is not None, reason=f"no sandbox: {bwrap.available()}")
def test_a_kernel_in_the_sandbox_sees_what_was_fetched_and_says_who_must_fetch_the_rest(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    fetched = packages.folder(WANTED)
    fetched.mkdir(parents=True)
    (fetched / "there.txt").write_text("fetched before")
    work = tmp_path / "work"
    work.mkdir()
    manager = BoxedKernelManager(kernel_name="python3")
    manager.limits = {"mem_gb": 2.0, "cpu_s": 60, "processes": 64, "total_s": 60, "disk_gb": 1}
    manager._folder = str(work)
    argv = manager.format_kernel_cmd()
    argv[argv.index("ipykernel_launcher") - 1 :] = ["-c", INSIDE]  # instead of the kernel
    done = subprocess.run(argv, capture_output=True, text=True, env={}, timeout=120, stdin=subprocess.DEVNULL)
    manager._leave_group()
    tempfolders.remove(manager._sockets)
    assert "fetched before" in done.stdout, done.stderr
    assert "nvidia-other" in done.stdout and "no fault of the submission" in done.stdout
    assert "Then grade again with --force" in done.stdout
    assert "fetching" not in done.stdout and "connection and try again" not in done.stdout


@pytest.mark.parametrize("text, asked", [("from course.kernels import nvcc", 3), ("from course import bench", 0)])
def test_the_grader_fetches_for_stages_that_teach_cuda_and_warns_where_it_cannot(tmp_path, monkeypatch, text, asked):
    config = Config()
    config.CourseDirectory.release_directory = "release"
    place = Place(tmp_path, config)
    place.release("stage3").mkdir(parents=True)
    (place.release("stage3") / "02_cuda.ipynb").write_text(text)
    calls = []

    def not_to_be_had(tell):
        calls.append(tell)
        raise KernelError("It is not here [bold].", "No connection.", "Install CUDA.")

    for name in ("headers", "nvcc", "cuobjdump"):
        monkeypatch.setattr(cuda, name, not_to_be_had)
    screen = Console(file=io.StringIO(), width=200)
    grading._fetch_tools(place, "stage3", screen)
    assert (
        len(calls) == asked
        and screen.file.getvalue().count("cells that need it will fail: It is not here [bold]") == asked
    )


def test_outside_of_the_grader_packages_lie_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.delenv(packages.SHARED, raising=False)
    assert packages.folder(WANTED).parent == tmp_path / "cuda"
