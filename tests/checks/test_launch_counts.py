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
for runtime, driver in (
    (b"cudaLaunchKernel", b"cuLaunchKernel"),  # one launch, seen twice
    (b"__cudaLaunchKernel_ptsz", None),  # as programs of CUDA 13 launch
    (None, b"cuLaunchKernelEx"),
    (b"cudaGraphLaunch", b"cuGraphLaunch_ptsz"),
    (b"cudaGraphLaunch_ptsz", None),
    (None, b"cuGraphLaunch"),
    (b"cudaGraphInstantiate", b"cuGraphInstantiateWithFlags"),
    (b"cudaMemcpyAsync", b"cuMemcpyHtoDAsync_v2"),
    (b"cudaLaunchHostFunc", b"cuLaunchHostFunc"),
):
    cupti.fake_call(runtime, driver)
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


def test_what_is_written_out_of_cupti_is_cuptis():
    headers = [root / "include" / "cupti_callbacks.h" for root in toolkit.roots()]
    header = next((path for path in headers if path.is_file()), None)
    if header is None:
        pytest.skip("CUPTI's headers are not here")
    text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
    for number in (
        r"CUPTI_CB_DOMAIN_DRIVER_API\s*=\s*1,",
        r"CUPTI_CB_DOMAIN_RUNTIME_API\s*=\s*2,",
        r"CUPTI_API_ENTER\s*=\s*0,",
    ):
        assert re.search(number, text), number
    assert re.search(r"struct \{\s*CUpti_ApiCallbackSite callbackSite;\s*const char \*functionName;", text)
    assert re.search(
        r"cuptiEnableDomain\(uint32_t enable,\s*CUpti_SubscriberHandle subscriber,\s*CUpti_CallbackDomain", text
    )
    runtime = (header.parent / "cupti_runtime_cbid.h").read_text()
    driver = (header.parent / "cupti_driver_cbid.h").read_text()
    names = re.findall(r"CUPTI_(?:RUNTIME|DRIVER)_TRACE_CBID_(\w*Launch\w*)\s*=", runtime + driver)
    assert {"cudaGraphLaunch_v10000", "cuGraphLaunch_ptsz", "cuLaunchKernelEx"} <= set(names)
    assert all(re.match(r"(__)?(cuda|cu)(Graph)?Launch|(cuda|cu)GraphKernelNode", name) for name in names), names


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
