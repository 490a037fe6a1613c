"""infer.cpp on stand-in headers: the right program gets all points, and each forgotten call is found."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from course import exercises
from course.exercises.stage1_converter import cpp  # noqa: F401 - declares the exercises
from course.native import toolchain
from course.paths import ROOT

CPP = ROOT / "solutions" / "stage1_converter" / "cpp"
WAIT = 'check(cudaStreamSynchronize(stream), "the run");'

pytestmark = [
    pytest.mark.skipif(toolchain.compiler() is None, reason="no C++ compiler"),
    pytest.mark.skipif(not CPP.is_dir(), reason="the solutions are not in this copy"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("infer")
    shutil.copytree(CPP, place / "cpp")
    return place


def judged(text: str) -> tuple[float, str]:
    return exercises._judge(exercises.find("cpp-infer"), {"infer_cpp": text})


@pytest.mark.parametrize(
    "before, after, share, words",
    [
        ("", "", 1, "computes three batches"),
        (WAIT, "", 0, "never written"),
        (WAIT, "cudaStreamSynchronize(stream);", 0.5, "cudaStreamSynchronize failed, and infer went on"),
        ("cudaMemcpyHostToDevice, stream", "cudaMemcpyDeviceToHost, stream", 0, "does not run batch 2"),
        ("buffers.device_in, buffers.host_in, buffers.bytes_in", "buffers.device_in, buffers.host_in, 4", 0, "never written"),
        (", buffers.device_in) ||", ", buffers.host_in) ||", 0, "does not run batch 2"),
        ("names.output.c_str(), buffers.device_out", "names.input.c_str(), buffers.device_in", 0, "has no address"),
        ("last_error = text;", "(void)text;", 0.5, "The reason is missing"),
        ("if (severity > Severity::kWARNING) return;", "", 0.75, "too much"),
        ("if (severity > Severity::kWARNING) return;", "if (severity > Severity::kERROR) return;", 0.75, "no warning"),
        ("namespace {", "todo\nnamespace {", 0, "does not compile"),
    ],
)  # fmt: skip
def test_points_only_for_what_ran(folder, monkeypatch, before, after, share, words):
    monkeypatch.chdir(folder)
    text = (CPP / "infer.cpp").read_text()
    assert before in text
    found, said = judged(text.replace(before, after, 1) if before else text)
    assert (found, words in said) == (share, True), said


@pytest.mark.parametrize("text", ["todo", "int main() {}\n// YOUR CODE HERE", "", 7])
def test_what_is_no_program_earns_nothing(folder, monkeypatch, text):
    monkeypatch.chdir(folder)
    assert judged(text)[0] == 0


def test_an_empty_main_earns_nothing(folder, monkeypatch):
    monkeypatch.chdir(folder)
    share, said = judged("int main() { return 0; }")
    assert share == 0 and "Next step" in said


def test_work_that_comes_after_its_memory_was_given_back_touches_nothing(tmp_path):
    """infer.cpp without its wait: the copy came when the host's memory was gone, and now and then the process crashed."""
    (tmp_path / "late.cpp").write_text("""
#include "cuda_runtime_api.h"
#include <cstdio>
int main() {
    void *device, *host;
    cudaStream_t stream;
    cudaStreamCreate(&stream);
    cudaMallocAsync(&device, 64, stream);
    cudaMallocHost(&host, 64);
    cudaMemcpyAsync(host, device, 64, cudaMemcpyDeviceToHost, stream);
    cudaFreeHost(host);
    std::printf("%d", cudaStreamSynchronize(stream));
}
""")
    program = tmp_path / "late"
    words = [
        toolchain.compiler(),
        "-std=c++17",
        "-fsanitize=address",
        "-I",
        cpp.STAND_IN,
        tmp_path / "late.cpp",
        "-o",
        program,
    ]
    subprocess.run([str(word) for word in words], check=True, capture_output=True)
    done = subprocess.run([str(program)], capture_output=True, encoding="utf-8", env={"ASAN_OPTIONS": "detect_leaks=0"})
    assert (done.returncode, done.stdout) == (0, "700"), done.stderr[-500:]
