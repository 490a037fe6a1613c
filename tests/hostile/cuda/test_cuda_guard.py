"""The guard takes what honest learners write, and names the line of what it does not take."""

from __future__ import annotations

import pytest

from autograder.artifacts import cuda_guard
from autograder.sandbox.serve import Refused
from course.paths import ROOT

PLUGINS = sorted((ROOT / "tests/native/plugins").glob("*/*_plugin.cpp"))
KERNELS = sorted((ROOT / "tests/kernels/second_set").glob("*.cu"))


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.stem)
def test_a_right_plugin_is_taken(path):
    folder = [*path.parent.glob("*.cu"), *path.parent.glob("*.cuh"), *path.parent.glob("*.h"), path]
    cuda_guard.refuse({one.name: one.read_text() for one in folder})


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_a_right_kernel_is_taken(path):
    cuda_guard.refuse({path.name: path.read_text()})


@pytest.mark.parametrize(
    "text",
    [
        "// asm and system() in a comment\nint a;",
        "/* #include <fstream>\n #pragma GCC x\n*/ int a;",
        'const char* text = "asm __attribute__ system()";',
        "#pragma unroll 4\n#pragma once\n",
        "#define TILE(x) ((x) + \\\n    1)\nint a = TILE(2);",
        "struct Writer { void write(int); void read(int); }; void f(Writer w) { w.write(1); w.read(2); }",
        "int thread = threadIdx.x; int stat = 0, signal = 1;",
        "Mish* clone() const noexcept override;",
        "#ifdef MINE\nint a;\n#endif",
    ],
)
def test_it_is_taken(text):
    cuda_guard.refuse({"a.cu": text})


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('int a;\nasm("");', "a.cu:2:"),
        ('int a; \\\n int b;\nasm("");', "a.cu:3:"),
        ('/* one\ntwo */ asm("");', "a.cu:2:"),
        ("%:include <fstream>", "a.cu:1:"),
        ('as\\\nm("");', "a.cu:1:"),
        ('#define RUN system("id")', "a.cu:1:"),
        ("#include \\\n<fstream>", "a.cu:1:"),
        ("#  include   <thread>", "a.cu:1:"),
        ("#if defined(__SANITIZE_THREAD__)\n#endif", "a.cu:1:"),
        ("#undef __syncthreads", "a.cu:1:"),
        ('#line 7 "other.cu"', "a.cu:1:"),
        ("int x = __tsan_read4;", "a.cu:1:"),
        ('// comment \\\n asm\nasm("");', "a.cu:3:"),
    ],
)
def test_it_is_refused_with_its_line(text, place):
    with pytest.raises(Refused) as error:
        cuda_guard.refuse({"a.cu": text})
    assert str(error.value).startswith(place)
