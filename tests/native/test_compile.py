"""C++ in the lessons: files and shapes against NumPy, what is missing in words, infer.cpp against real headers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from course.by_hand import raw
from course.errors import BuildError, CourseError, MissingFileError
from course.exercises.stage1_converter import cpp as checks
from course.native import compile as cpp_build
from course.native import programs as cpp_programs
from course.paths import ROOT

CPP = ROOT / "solutions" / "stage1_converter" / "cpp"
needs_compiler = pytest.mark.skipif(cpp_build.compiler() is None, reason="no C++ compiler here")

TOOL = """
#include "tensor_file.h"
#include <iostream>
int main(int count, char** words) try {
    const std::string what = words[1];
    if (what == "volume") std::cout << volume(parse_shape(words[2])) << " " << to_text(parse_shape(words[2])) << "\\n";
    if (what == "scalar") std::cout << volume({}) << " " << to_text({}) << "\\n";
    if (what == "open") volume({-1, 3});
    if (what == "copy") {
        const auto values = read_floats(words[2], parse_shape(words[3]));
        write_floats(words[4], values.data(), values.size());
    }
} catch (const std::exception& error) { std::cerr << error.what() << "\\n"; return 1; }
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("tool"))
        return cpp_build.program(TOOL, "tool", include=[CPP])


@pytest.fixture()
def tool(compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return compiled


@needs_compiler
@pytest.mark.parametrize("shape", [(1,), (4, 3, 224, 224), (0, 7), (70_000, 70_000), (2_000_000_000, 4)])
def test_volumes_are_those_of_numpy(tool: Path, shape: tuple[int, ...]) -> None:
    text = "x".join(map(str, shape))
    assert cpp_build.call(tool, "volume", text).split() == [str(np.prod(shape, dtype=np.int64)), text]


@needs_compiler
def test_a_scalar_holds_one_value(tool: Path) -> None:
    assert cpp_build.call(tool, "scalar").split() == ["1", "scalar"]


@needs_compiler
def test_files_are_copied_bit_for_bit(tool: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    values[0, 0, :4] = np.nan, np.inf, -0.0, 1e-42
    values.tofile("in.f32")
    cpp_build.call(tool, "copy", "in.f32", "3x4x5", "out.f32")
    assert Path("out.f32").read_bytes() == values.tobytes()
    assert not list(tmp_path.glob("*.partial"))


@needs_compiler
@pytest.mark.parametrize(
    "arguments, words",
    [
        (("volume", "4xx3"), "no shape"),
        (("volume", ""), "no shape"),
        (("volume", "4x-1"), "no shape"),
        (("volume", "999999999999x999999999999"), "larger than any memory"),
        (("open",), "open side"),
        (("copy", "none.f32", "3", "out.f32"), "none.f32 is no file"),
        (("copy", ".", "3", "out.f32"), ". is no file"),
        (("copy", "in.f32", "4", "out.f32"), "has 12 bytes; float32 4 needs 16"),
        (("copy", "in.f32", "3", "no/folder/out.f32"), "cannot be written"),
    ],
)
def test_mistakes_are_named(tool: Path, arguments: tuple[str, ...], words: str) -> None:
    np.zeros(3, np.float32).tofile("in.f32")
    with pytest.raises(CourseError) as caught:
        cpp_build.call(tool, *arguments)
    assert words in str(caught.value)


@needs_compiler
def test_the_same_source_is_compiled_once_and_a_changed_header_is_noticed(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / "value.h").write_text("#define VALUE 1\n")
    code = '#include "value.h"\n#include <cstdio>\nint main() { std::printf("%d", VALUE); }\n'
    first = cpp_build.program(code, "value", include=["h"])
    made = first.stat().st_mtime_ns
    assert cpp_build.program(code, "value", include=["h"]) == first and first.stat().st_mtime_ns == made
    (tmp_path / "h" / "value.h").write_text("#define VALUE 2\n")
    assert cpp_build.call(cpp_build.program(code, "value", include=["h"])) == "2"
    assert {path.name for path in tmp_path.iterdir()} == {"h", "artifacts"}


@needs_compiler
def test_errors_of_compiler_and_program_are_told(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BuildError, match="(?s)broken does not compile.*broken.cpp:1"):
        cpp_build.program("int main() { return x; }", "broken")
    crash = cpp_build.program("#include <cstdlib>\nint main() { std::abort(); }", "crash")
    with pytest.raises(CourseError, match="crash crashed with signal 6"):
        cpp_build.call(crash)
    endless = cpp_build.program("#include <thread>\nint main() { for (;;) std::this_thread::yield(); }", "endless")
    with pytest.raises(CourseError, match="did not end within 0.5 s"):
        cpp_build.call(endless, seconds=0.5)


def test_without_a_compiler_the_way_to_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(MissingFileError, match="apt install g"):
        cpp_build.program("int main() {}", "none")


def test_everything_that_is_missing_is_listed() -> None:
    lacking = cpp_build.Toolchain().missing()
    assert len(lacking) == 5 and any("TENSORRT_INCLUDE_DIR" in text for text in lacking)
    assert len(cpp_build.Toolchain().missing(link=False)) == 3
    with pytest.raises(MissingFileError, match="(?s)g\\+\\+.*NvInferRuntime.h.*cuda_runtime_api.h.*libnvinfer"):
        cpp_build.build(CPP, cpp_build.Toolchain())


@pytest.mark.parametrize(
    "text, version",
    [
        ("#define NV_TENSORRT_MAJOR 8 //!< TensorRT major version.\n", 8),
        ("#define TRT_MAJOR_ENTERPRISE 10\n#define NV_TENSORRT_MAJOR TRT_MAJOR_ENTERPRISE //!<\n", 10),
    ],
)
def test_headers_and_library_of_different_versions_are_refused(tmp_path, monkeypatch, text, version) -> None:
    (tmp_path / "include").mkdir()
    (tmp_path / "lib").mkdir()
    (tmp_path / "include" / "NvInferRuntime.h").touch()
    (tmp_path / "include" / "NvInferVersion.h").write_text(text)
    (tmp_path / "lib" / "libnvinfer.so.9.1.0").touch()
    (tmp_path / "lib" / "libnvinfer.so.9").touch()
    monkeypatch.setenv("TENSORRT_ROOT", str(tmp_path))
    monkeypatch.delenv("TENSORRT_INCLUDE_DIR", raising=False)
    tools = cpp_build.find()
    assert tools.headers_version == version and tools.library_version == 9
    assert any(f"headers are TensorRT {version}, the library is 9" in text for text in tools.missing())
    assert f"(version {version})" in str(tools)


@needs_compiler
def test_infer_compiles_with_the_headers_that_are_here() -> None:
    """With TENSORRT_INCLUDE_DIR set to headers of 8.6, 10 or 11; without headers there is nothing to compile with."""
    tools = cpp_build.find()
    if lacking := tools.missing(link=False):
        pytest.skip(lacking[0])
    cpp_build.syntax(CPP / "infer.cpp", tools)


@pytest.mark.skipif(shutil.which("cmake") is None, reason="no CMake here")
@needs_compiler
def test_cmake_without_headers_names_the_next_step(tmp_path: Path) -> None:
    if cpp_build.find().headers:
        pytest.skip("TensorRT's headers are here")
    done = subprocess.run(["cmake", "-S", str(CPP), "-B", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode and "TENSORRT_INCLUDE_DIR" in done.stderr and "NVIDIA/TensorRT" in done.stderr


def test_the_table_of_names_is_that_of_infer_and_of_the_python_module() -> None:
    text = (CPP / "infer.cpp").read_text()
    try:
        trt = raw.module()
    except CourseError as error:
        pytest.skip(str(error))
    for python, name in checks.NAMES.items():
        assert f"{name}(" in text, name
        owner, _, member = python.partition(".")
        assert hasattr(getattr(trt, owner), member or "__init__"), python
        assert checks._in_library(name) in (True, None), name


@needs_compiler
@pytest.mark.parametrize(
    "code",
    [
        # a deep copy, and one that moves: neither is the solution's way, both are right
        """class Buffer { public: explicit Buffer(std::size_t n) : n_(n), p_(allocate(n)) {}
       Buffer(const Buffer& o) : n_(o.n_), p_(allocate(o.n_)) {}
       Buffer& operator=(const Buffer& o) { if (this != &o) { release(p_); p_ = allocate(n_ = o.n_); } return *this; }
       ~Buffer() { release(p_); } void* get() const { return p_; } private: std::size_t n_; void* p_; };""",
        """class Buffer { public: explicit Buffer(std::size_t n) : p_(allocate(n), release) {} void* get() const { return
       p_.get(); } private: std::unique_ptr<void, void (*)(void*)> p_; };""",
    ],
)
def test_other_right_owners_pass(tmp_path, monkeypatch, code: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert "once in every case" in checks.cpp_owner(code)


@needs_compiler
def test_the_programs_around_a_learners_code_compile_without_warnings(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cpp_build, "FLAGS", (*cpp_build.FLAGS, "-Werror"))
    right = (
        "std::vector<float> preprocess(const std::uint8_t* p, int h, int w) { std::vector<float> r(3u * h * w);"
        "for (int i = 0; i < h * w; ++i) for (int c = 0; c < 3; ++c) r[c * h * w + i] = (p[i * 3 + c] / 255.0f - "
        "MEAN[c]) / STD[c]; return r; }"
    )
    cpp_build.program(cpp_programs.preprocess(right), "a", include=[CPP])
    cpp_build.program(cpp_programs.preprocess_library(right), "b", include=[CPP], shared=True)
    cpp_build.program(cpp_programs.lifetime(["x", "y"]), "c")
