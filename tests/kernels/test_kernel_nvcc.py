"""nvcc without a GPU: registers, spills, shared memory, widths of loads; and where the tools come from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from course.kernels import nvcc, packages, toolkit
from course.kernels.words import KernelError
from course.paths import ROOT

CUDA = Path(__file__).parent / "cuda"


@pytest.fixture(scope="module")
def code() -> dict[str, nvcc.KernelCode]:
    return {kernel.name: kernel for kernel in nvcc.inspect(CUDA / "registers.cu")}


def test_every_kernel_is_listed_in_the_order_of_the_source(code: dict[str, nvcc.KernelCode]) -> None:
    assert list(code) == ["copy<__half>", "copy<float>", "copy<float2>", "copy<float4>", "spills", "shared"]


@pytest.mark.parametrize(
    "name, width", [("copy<__half>", 2), ("copy<float>", 4), ("copy<float2>", 8), ("copy<float4>", 16)]
)
def test_the_width_of_loads_and_stores_is_that_of_the_type(
    code: dict[str, nvcc.KernelCode], name: str, width: int
) -> None:
    assert code[name].widest() == code[name].widest(write=True) == width
    assert not code[name].spills and 0 < code[name].registers < 20


def test_spills_and_shared_memory_are_seen(code: dict[str, nvcc.KernelCode]) -> None:
    assert code["spills"].spills and code["spills"].registers == 32 and code["spills"].widest("local") > 0
    assert "spill stores" in str(code["spills"])
    assert code["shared"].shared == 512 and code["shared"].barriers == 1
    assert (code["shared"].widest("shared"), code["shared"].widest("shared", write=True)) == (4, 4)
    assert "LDS (load, shared, 4 bytes a thread)" in str(code["shared"])


def test_a_build_is_done_once_and_again_when_a_header_or_a_flag_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "n.cuh").write_text("#define N 1\n")
    (tmp_path / "k.cu").write_text('#include "n.cuh"\n__global__ void k(int* y) { *y = N; }\n')
    first = nvcc.build(tmp_path / "k.cu")
    time = first.stat().st_mtime_ns
    assert nvcc.build(tmp_path / "k.cu") == first and first.stat().st_mtime_ns == time
    assert nvcc.build(tmp_path / "k.cu", flags=["-lineinfo"]) != first
    (tmp_path / "n.cuh").write_text("#define N 2\n")
    assert nvcc.build(tmp_path / "k.cu") != first
    assert not [path for path in first.parent.iterdir() if path.name.startswith(".")]


def test_an_error_names_the_line_as_the_source_has_it(tmp_path: Path) -> None:
    (tmp_path / "k.cu").write_text("__global__ void k(float* y)\n{\n    y[0] = missing;\n}\n")
    with pytest.raises(KernelError) as caught:
        nvcc.build(tmp_path / "k.cu")
    assert 'k.cu:3: error: identifier "missing" is undefined\n    y[0] = missing;' in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "correct_elementwise",
        "correct_reductions",
        "correct_tiles",
        "correct_advanced",
        "syntax",
        "bugs_memory",
        "bugs_races",
        "bugs_sync",
        "relu",
    ],
)
def test_the_same_file_compiles_with_nvcc(name: str) -> None:
    assert nvcc.build(CUDA / f"{name}.cu").is_file()


WITHOUT = """
import sys
from pathlib import Path
from course.kernels import nvcc, packages, toolkit
toolkit.roots = lambda: (packages.folder(wanted) / "nvidia" / "cu13" for wanted in (packages.HEADERS,
packages.COMPILER))
"""


def run(code: str, cache: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + code],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "COURSE_CACHE": str(cache)},
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_the_assembler_refuses_is_named() -> None:
    with pytest.raises(KernelError, match="ptxas error.*uses too much shared data"):
        nvcc.build(CUDA / "bugs_static.cu", "cubin")


@pytest.mark.slow
def test_without_a_toolkit_nvcc_comes_from_pypi(tmp_path: Path) -> None:
    said = run(
        f"print(nvcc.inspect({str(CUDA / 'relu.cu')!r})[0])\nnvcc.inspect({str(CUDA / 'registers.cu')!r})", tmp_path
    )
    assert "fetching NVIDIA's compiler from PyPI (105 MB, once)" in said and "[5/5] nvidia-cuda-cccl" in said
    assert "relu (sm_80)" in said and said.count("fetching") == 2  # the compiler and the disassembler, each once
    assert not [path for path in (tmp_path / "cuda").iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_without_a_toolkit_the_headers_come_from_pypi(tmp_path: Path) -> None:
    said = run(
        "from course import kernels\nimport numpy as np\n"
        f"m = kernels.load({str(CUDA / 'relu.cu')!r})\nx = np.ones(9, np.float32)\nprint(m.check('launchRelu', x, "
        "kernels.out(9), 9, None))",
        tmp_path,
    )
    assert "fetching them from PyPI (6 MB, once)" in said and "nothing found" in said
    fetched = [path for path in (tmp_path / "cuda").iterdir() if not path.name.startswith("runtime-")]
    assert len(fetched) == 1


def test_a_package_that_cannot_be_had_leaves_nothing_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(KernelError) as caught:
        packages.fetch(["nvidia-cuda-runtime==13.0.*"], lambda line: None)
    assert "could not be fetched" in str(caught.value) and "CUDA_HOME" in str(caught.value)
    assert not list((tmp_path / "cuda").iterdir())


def test_headers_of_another_major_version_are_not_taken(tmp_path: Path) -> None:
    found = toolkit.headers()
    for folder in found.folders[:1]:
        (tmp_path / "include").symlink_to(folder)
    assert toolkit._headers(tmp_path) is not None
    (tmp_path / "include").unlink()
    (tmp_path / "include").mkdir()
    for name in ("cuda_runtime.h", "cuda_fp16.h", "cuda_bf16.h", "crt/host_defines.h", "nv/target"):
        (tmp_path / "include" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "include" / name).write_text("")
    (tmp_path / "include" / "cuda_runtime_api.h").write_text("#define CUDART_VERSION  12090\n")
    assert toolkit._headers(tmp_path) is None
