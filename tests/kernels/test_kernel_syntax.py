"""Rewriting: what nvcc accepts is accepted, what the checker does not do is refused by name and line."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from course import kernels
from course.kernels import KernelError, RefusedError, compiler, out, rewrite, tokens, toolkit

CUDA = Path(__file__).parent / "cuda"
WANTED = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 13, 14, 1, 12, 17, 18, 20, 21, 14, 23, 24, 25, 26, 27, 27, 27, 27]


@pytest.mark.parametrize("mode", ["checked", "plain"])
def test_every_way_to_write_a_launch_and_a_variable(mode: str) -> None:
    module = kernels.load(CUDA / "syntax.cu", mode)
    run = module.launch("launchSyntax", out(len(WANTED)), None)
    assert run.outputs[0].tolist() == WANTED and not run.findings and run.result == 0
    assert module.launchers == {"launchSyntax": ["y", "stream"]} and "fromHeader" in module.kernels


def test_no_line_moves() -> None:
    text = (CUDA / "syntax.cu").read_text()
    words = tokens.cut(f'# 1 "syntax.cu"\n{text}', lambda name, system: False)
    rewrite.rewrite(words, True)
    again = tokens.joined(words)
    assert again.count("\n") == text.count("\n") + 1
    for number, line in enumerate(text.splitlines(), 2):  # each line's number of y is still on that line
        if "n++" in line and "<<<" in line:
            assert "n++" in again.splitlines()[number - 1]


def test_what_is_not_rewritten_stays_byte_for_byte() -> None:
    text = (
        '# 1 "x.cu"\nint a = 1\'000; // <<<\nconst char* s = R"x(__shared__ <<< )y")x"; char q = \'"\';\n'
        "#pragma unroll\nint f(int b) { return a << 3 >> b; }\n"
    )
    words = tokens.cut(text, lambda name, system: False)
    rewrite.rewrite(words, False)
    assert tokens.joined(words) == text


KERNEL = """#include <cuda_runtime.h>
__global__ void k(float* y) {
%s
y[threadIdx.x] = 1; }
extern "C" int launch(float* y) {
%s
return 0; }
"""


def load(tmp_path: Path, device: str = "", host: str = "k<<<1, 32>>>(y);", front: str = "") -> kernels.Module:
    (tmp_path / "k.cu").write_text(front + KERNEL % (device, host))
    return kernels.load(tmp_path / "k.cu", out=tmp_path)


@pytest.mark.parametrize(
    "device, line, words",
    [
        ('asm volatile("membar.gl;");', 3, "inline ptx"),
        ("int c = clock64();", 3, "clock of the gpu"),
        ("y[0] = __shfl_down(y[1], 1);", 3, "ends in _sync"),
        ("atomicAdd_block(y, 1.f);", 3, "another scope"),
        ("nvcuda::wmma::fill_fragment(y, 0);", 3, "tensor cores"),
        ("cuda::atomic_ref<float> a(*y);", 3, "libraries of device code"),
        ("__shared__ float s[2] = {1, 2};", 3, "nvcc refuses it, too"),
        ("extern __shared__ float s;", 3, "extern __shared__ type name[]"),
        ("__shared__ float (*s)[4];", 3, "type name[size]"),
        ("__shared__ float s[4]; auto f = [=] { return s[0]; };", 3, "write [&]"),
        ("__trap();", 3, "not simulated"),
    ],
)
def test_device_code_that_is_refused_is_named_with_its_line(tmp_path: Path, device: str, line: int, words: str) -> None:
    with pytest.raises(RefusedError) as caught:
        load(tmp_path, device)
    assert (
        str(caught.value).startswith(f"k.cu:{line}: ")
        and words in str(caught.value).lower()
        and "docs/cuda_on_cpu.md" in str(caught.value)
    )


@pytest.mark.parametrize(
    "host, words",
    [
        ("cudaGraph_t g;", "CUDA graphs"),
        ("cudaLaunchCooperativeKernel((void*)k, 1, 32, nullptr);", "none can wait for another"),
        ("float* p; cudaMallocManaged(&p, 4);", "managed memory"),
        ("y ? k<<<1, 32>>>(y) : void();", "a statement of its own"),
        ("k<<<1, 32>>>({y});", "name its type"),
        ("cudaArray_t a; cudaFreeArray(a);", "cudaFreeArray is not supported"),
    ],
)
def test_host_code_that_is_refused_is_named(tmp_path: Path, host: str, words: str) -> None:
    with pytest.raises(RefusedError) as caught:
        load(tmp_path, host=host)
    assert words.lower() in str(caught.value).lower()


@pytest.mark.parametrize(
    "front, words",
    [
        ("#include <cooperative_groups.h>\n", "<cooperative_groups.h>"),
        ("#include <mma.h>\n", "<mma.h>"),
        ("#include <cub/cub.cuh>\n", "cub/cub.cuh>"),
        ("#include <cuda/atomic>\n", "cuda/atomic>"),
        ("struct S { __device__ static int x; };\n", "at file scope"),
        ("extern __device__ int x;\n", "one file is one program"),
        ("__managed__ int x;\n", "managed memory"),
    ],
)
def test_headers_and_declarations_that_are_refused_are_named(tmp_path: Path, front: str, words: str) -> None:
    with pytest.raises(RefusedError) as caught:
        load(tmp_path, front=front)
    assert words in str(caught.value).lower() and "k.cu:1: " in str(caught.value)


def test_a_refused_name_may_be_a_member_a_string_or_a_comment(tmp_path: Path) -> None:
    module = load(
        tmp_path, 'struct { int clock, asm_; } s{1, 2}; y[0] = s.clock; const char* t = "asm"; (void)t; // wmma'
    )
    assert module.check("launch", out(32)).ok


def test_recursion_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="recursion"):
        load(tmp_path, "y[1] = f(int(y[0]));", front="__device__ float f(int n) { return n ? n * f(n - 1) : 1; }\n")


def test_a_struct_through_a_function_pointer_is_refused_since_it_could_not_be_checked(tmp_path: Path) -> None:
    front = (
        "#include <cuda_runtime.h>\n__device__ float4 a(float4 v) { return v; }\n"
        "__device__ float4 b(float4 v) { v.x = 0; return v; }\n"
    )
    with pytest.raises(RefusedError, match="k.cu:6: a struct that travels"):
        load(tmp_path, "auto f = threadIdx.x ? a : b; ((float4*)y)[0] = f(((float4*)y)[1]);", front=front)


@pytest.mark.parametrize(
    "device, words",
    [
        ("y[0] = missing;", "k.cu:3:8: error: 'missing' was not declared in this scope"),
        ("atomicAdd((short*)y, (short)1);", "atomicAdd does not take a pointer of this type"),
        ("y[0] = __shfl_sync(~0u, make_float4(1, 2, 3, 4), 0).x;", "a shuffle takes int"),
        ("y[0] = 1", "error: expected ';'"),
    ],
)
def test_errors_of_the_compiler_are_shown(tmp_path: Path, device: str, words: str) -> None:
    with pytest.raises(KernelError) as caught:
        load(tmp_path, device)
    assert words in str(caught.value) and not isinstance(caught.value, RefusedError)


def test_missing_things_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KernelError, match="none.cu is missing"):
        kernels.load(tmp_path / "none.cu")
    (tmp_path / "k.cu").write_text('#include "none.cuh"\n')
    with pytest.raises(KernelError, match="none.cuh"):
        kernels.load(tmp_path / "k.cu")
    with pytest.raises(KernelError, match="no mode"):
        kernels.load(tmp_path / "k.cu", "fast")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KernelError, match="There is no g"):
        kernels.load(tmp_path / "k.cu")


def test_a_library_is_made_once_and_again_when_anything_changes(tmp_path: Path) -> None:
    first = load(tmp_path).library
    time = first.stat().st_mtime_ns
    assert load(tmp_path).library == first and first.stat().st_mtime_ns == time
    assert load(tmp_path, "y[1] = 2;").library != first
    assert kernels.load(tmp_path / "k.cu", "plain", out=tmp_path).library != first
    assert kernels.load(tmp_path / "k.cu", defines=["A=1"], out=tmp_path).library.is_file()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_pairs_of_halves_are_read_as_one_word() -> None:
    module = kernels.load(CUDA / "correct_elementwise.cu")
    trace = module.record("launchQuickGeluHalf", np.zeros(64, np.float16), out(64, np.float16), 64)
    assert set(trace.size.tolist()) == {4}


def test_the_standard_library_is_what_the_file_includes(tmp_path):
    """std::min and std::max come with CUDA's own headers under nvcc; sort, function and string by their own."""
    code = """#include <cuda_runtime.h>
#include <algorithm>
#include <functional>
#include <string>
#include <tuple>
__global__ void f(float* x) { x[threadIdx.x] = std::max(x[threadIdx.x], 1.0f); }
extern "C" int g(float* x, int n)
{
    std::function<int(int)> twice = [](int v) { return 2 * v; };
    auto [a, b] = std::make_tuple(std::string("ab").size(), 3);
    int sorted[] = {2, 1};
    std::sort(sorted, sorted + 2);
    f<<<1, std::min(n, 32)>>>(x);
    return twice(sorted[0]) + int(a) + b - 7;
}
"""
    (tmp_path / "k.cu").write_text(code)
    module = kernels.load(tmp_path / "k.cu", tell=lambda line: None)
    ran = module.launch("g", kernels.inout(np.zeros(4, np.float32)), 4)
    assert ran.result == 0 and (ran.outputs[0] == 1).all() and not ran.findings
    plain = code
    for name in ("algorithm", "functional", "string", "tuple"):
        plain = plain.replace(f"#include <{name}>\n", "")
    plain = plain[: plain.index("    std::function")] + "    f<<<1, std::min(n, 32)>>>(x);\n    return 0;\n}\n"
    (tmp_path / "p.cu").write_text(plain)
    module = kernels.load(tmp_path / "p.cu", tell=lambda line: None)
    assert (module.launch("g", kernels.inout(np.zeros(4, np.float32)), 4).outputs[0] == 1).all()


def _disassembled(library: Path) -> str:
    words = ["objdump", "-d", "--no-show-raw-insn", str(library)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.partition("Disassembly")[2]


def test_precompiled_headers_change_no_instruction_and_no_line(tmp_path: Path) -> None:
    gxx, system = toolkit.gxx(), toolkit.headers()
    made = []
    for number, folder in enumerate((compiler.SHIM, compiler.runtime(gxx, system)[0].parent)):
        (tmp_path / str(number)).mkdir()
        where = tmp_path / str(number), folder / "device.h"
        made.append(compiler._compiled(gxx, CUDA / "bugs_races.cu", "checked", (), [], system, *where))
    assert _disassembled(made[0]) == _disassembled(made[1]) != ""
    assert compiler.read_notes(made[0]) == compiler.read_notes(made[1])


@pytest.mark.parametrize("name", ["device.h.gch", "pattern.gch", "zero.gch"])
def test_where_gcc_cannot_take_its_precompiled_headers_it_reads_the_others(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = tmp_path / "ready"
    objects = compiler.runtime(toolkit.gxx(), toolkit.headers())
    shutil.copytree(objects[0].parent, ready)
    (ready / name).write_bytes((ready / name).read_bytes()[:100_000])
    monkeypatch.setattr(compiler, "runtime", lambda *_: [ready / path.name for path in objects])
    assert load(tmp_path).launchers
