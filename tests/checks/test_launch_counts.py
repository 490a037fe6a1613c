"""Launches on a GPU, counted from outside: the library with a CUPTI of ours, CUPTI's own numbers, and a reader that trusts no file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from autograder.checks import launch_counts
from autograder.checks.base import OpenHere
from autograder.checks.launch_counts import LAYOUT, MAGIC, Launches
from course.kernels import toolkit
from course.paths import ROOT

FAKE = ROOT / "tests" / "serving" / "fake_gpu" / "fake_cupti.cpp"
PROGRAM = """
import ctypes, os
counter = ctypes.CDLL(os.environ["CUDA_INJECTION64_PATH"])
counter.InitializeInjection(), counter.InitializeInjection()
cupti = ctypes.CDLL(os.environ["LAUNCH_COUNTS_CUPTI"])
for number in (307, 307, 653, 515, 514, 515, 10):
    cupti.fake_launch(number)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return launch_counts.library(tmp_path_factory.mktemp("library"))


def run(library: Path, cupti: Path, folder: Path, program: str = PROGRAM) -> Launches:
    variables = launch_counts.variables(library, cupti, folder)
    subprocess.run([sys.executable, "-c", program], env={**os.environ, **variables}, check=True, timeout=60)
    return launch_counts.read(folder)


def test_each_launch_is_counted_once_in_every_process(library, tmp_path):
    cupti = tmp_path / "libcupti.so.13"
    subprocess.run([toolkit.gxx(), "-shared", "-fPIC", str(FAKE), "-o", str(cupti)], check=True)
    folder = tmp_path / "counts"
    folder.mkdir()
    first = run(library, cupti, folder)
    assert first == Launches(graphs=3, kernels=3, processes=1)
    assert run(library, cupti, folder) - first == Launches(graphs=3, kernels=3, processes=2)


def test_what_keeps_cupti_from_counting_is_said(library, tmp_path):
    found = run(library, tmp_path / "libcupti.so", tmp_path, PROGRAM.split("cupti =")[0])
    assert found == Launches(0, 0, 0, ("CUPTI could not be loaded",))


def test_the_programs_numbers_are_cuptis():
    headers = [root / "include" / "cupti_driver_cbid.h" for root in toolkit.roots()]
    header = next((path for path in headers if path.is_file()), None)
    if header is None:
        pytest.skip("CUPTI's headers are not here")
    real = dict(re.findall(r"CUPTI_DRIVER_TRACE_CBID_(\w+)\s*=\s*(\d+)", header.read_text()))
    ours = dict(re.findall(r"^    (cu\w+) = (\d+),", launch_counts.SOURCE.read_text(), re.M))
    assert len(ours) == 8 and all(real[name] == number for name, number in ours.items())
    callbacks = (header.parent / "cupti_callbacks.h").read_text()
    assert re.search(r"CUPTI_CB_DOMAIN_DRIVER_API\s*=\s*1,", callbacks)
    assert re.search(r"CUPTI_API_ENTER\s*=\s*0,", callbacks)


def test_the_reader_follows_nothing_and_waits_for_nothing(tmp_path):
    good = LAYOUT.pack(MAGIC, 0, 5, 7)
    (tmp_path / "1.launches").write_bytes(good)
    (tmp_path / "2.launches").write_bytes(LAYOUT.pack(MAGIC, 39, 0, 0))
    (tmp_path / "3.launches").write_bytes(good + b"more")
    (tmp_path / "4.launches").write_bytes(LAYOUT.pack(b"OTHERS!!", 0, 5, 7))
    (tmp_path / "elsewhere").write_bytes(good)
    (tmp_path / "5.launches").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "6.launches")
    (tmp_path / "7.launches").mkdir()
    (tmp_path / "http").write_bytes(good)
    assert launch_counts.read(tmp_path) == Launches(5, 7, 1, ("CUPTI gave error 39",))


def test_a_machine_without_cupti_leaves_the_check_open(monkeypatch):
    monkeypatch.setattr(launch_counts, "_folders", lambda: iter(()))
    with pytest.raises(OpenHere, match="nvidia-cuda-cupti"):
        launch_counts.cupti()


def test_a_machine_without_a_compiler_does_too(monkeypatch, tmp_path):
    monkeypatch.setattr(toolkit, "COMPILERS", ())
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(OpenHere, match="g\\+\\+"):
        launch_counts.library(tmp_path)
