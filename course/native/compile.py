"""C++ from a lesson: small programs that need nothing, and `cpp/infer.cpp`, which needs TensorRT and CUDA.

`find` says what of that is here and, for what is not, the next step. Nothing is built twice from the same source.
"""
from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from course.errors import BuildError, CourseError, MissingFileError

FOLDER = Path("artifacts/cpp")
SECONDS = 300  # for one compilation, on a slow or busy machine
FLAGS = ("-std=c++17", "-O2", "-Wall", "-Wextra")


@dataclass(frozen=True)
class Toolchain:
    """What was found; None where it is missing. Versions are major versions.

    cuda_headers: one folder, or two where the wheels split them.
    """

    compiler: str | None = None
    cmake: str | None = None
    headers: Path | None = None
    headers_version: int | None = None
    library: Path | None = None
    library_version: int | None = None
    cuda_headers: tuple[Path, ...] = ()
    cudart: Path | None = None

    def missing(self, link: bool = True) -> list[str]:
        """What infer.cpp needs and this machine lacks, each with its next step. link=False: to compile only."""
        version = f"TensorRT {self.library_version}" if self.library_version else "your TensorRT"
        lacks = {
            f"The C++ compiler g++. {_COMPILER_HELP}": not self.compiler,
            "TensorRT's headers (NvInferRuntime.h). Wheels hold none: take the include/ folder of "
            f"github.com/NVIDIA/TensorRT at the tag of {version}, or NVIDIA's tar or deb package, and set "
            "TENSORRT_INCLUDE_DIR to it before you start Jupyter.": not self.headers,
            "CUDA's headers (cuda_runtime_api.h). pip install nvidia-cuda-runtime nvidia-cuda-crt, or install the CUDA "
            "toolkit and set CUDA_HOME.": not self.cuda_headers,
            "TensorRT's library (libnvinfer.so). Install TensorRT; `course doctor` says how.":
                link and not self.library,
            "CUDA's runtime library (libcudart.so). pip install nvidia-cuda-runtime.": link and not self.cudart,
            f"Headers and library of one version: the headers are TensorRT {self.headers_version}, the library is "
            f"{self.library_version}. A program built so can crash. Set TENSORRT_INCLUDE_DIR to headers of version "
            f"{self.library_version}.":
                bool(link and self.headers and self.library and self.headers_version != self.library_version),
        }
        return [what for what, lacking in lacks.items() if lacking]

    def __str__(self) -> str:
        def line(name: str, value: object, version: object = None) -> str:
            return f"{name:<18} {'missing' if not value else value}{f' (version {version})' if version else ''}"

        return "\n".join((
            line("C++ compiler", self.compiler), line("CMake", self.cmake),
            line("TensorRT headers", self.headers, self.headers_version),
            line("TensorRT library", self.library, self.library_version),
            line("CUDA headers", ", ".join(map(str, self.cuda_headers))), line("CUDA runtime", self.cudart)))


_COMPILER_HELP = "Debian and Ubuntu: sudo apt install g++. Conda: conda install gxx."


def find() -> Toolchain:
    """Look for compiler, headers, libraries: environment variables first, then this Python's wheels, then the system."""
    root, conda = os.environ.get("TENSORRT_ROOT"), os.environ.get("CONDA_PREFIX")
    wheels = [Path(path) for path in sys.path if path and Path(path).is_dir()]
    cuda = [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    cuda += [Path("/usr/local/cuda")]
    cuda += [folder / "nvidia" / name for folder in wheels for name in ("cu13", "cuda_runtime")]
    include = [os.environ.get("TENSORRT_INCLUDE_DIR"), root and f"{root}/include", conda and f"{conda}/include",
               "/usr/include/x86_64-linux-gnu", "/usr/include/aarch64-linux-gnu", "/usr/local/tensorrt/include"]
    headers = _first((Path(folder) / "NvInferRuntime.h" for folder in include if folder))
    packages = [folder / name for folder in wheels for name in ("tensorrt_libs", "tensorrt")]
    library = _library([root and f"{root}/lib", *packages, conda and f"{conda}/lib", "/usr/lib/x86_64-linux-gnu",
                        "/usr/lib/aarch64-linux-gnu"])
    cudart = _first(folder / lib / name for folder in cuda for lib in ("lib64", "lib")
                    for name in ("libcudart.so", "libcudart.so.13", "libcudart.so.12"))
    return Toolchain(
        compiler=compiler(), cmake=shutil.which("cmake"),
        headers=headers and headers.parent, headers_version=headers and _headers_version(headers.parent),
        library=library, library_version=int(library.name.split(".so.")[1].split(".")[0]) if library else None,
        cuda_headers=_cuda_headers([*cuda, *(conda and [Path(conda)] or [])], wheels), cudart=cudart)


def compiler() -> str | None:
    """The C++ compiler's path: CXX, g++, c++ or clang++."""
    names = (os.environ.get("CXX"), "g++", "c++", "clang++")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def program(code: str, name: str, *, include: Iterable[str | Path] = (), shared: bool = False) -> Path:
    """Compile one source text into `artifacts/cpp/`, unless that was done before.

    Args:
        include: folders of headers; a change in a header there is noticed, too.
        shared: a shared library instead of a program.

    Returns: the program's path.

    Raises:
        MissingFileError: there is no compiler.
        BuildError: the code does not compile; holds the compiler's first error.
    """
    cxx = compiler()
    if cxx is None:
        raise MissingFileError("There is no C++ compiler.", "None of g++, c++ and clang++ was found.", _COMPILER_HELP)
    folders = [Path(folder).resolve() for folder in include]
    text = code + "".join(path.read_text() for folder in folders for path in sorted(folder.glob("*.h")))
    out = FOLDER / f"{name}-{hashlib.sha256((text + str(shared)).encode()).hexdigest()[:12]}{'.so' if shared else ''}"
    if not out.is_file():
        FOLDER.mkdir(parents=True, exist_ok=True)
        source = FOLDER / f"{name}.cpp"
        source.write_text(code)
        partial = out.with_name(f".{out.name}.{os.getpid()}")
        _compile([cxx, *FLAGS, *(["-shared", "-fPIC"] if shared else []), *(f"-I{folder}" for folder in folders),
                  str(source), "-o", str(partial)], name)
        os.replace(partial, out)
    return out.resolve()


def syntax(source: str | Path, tools: Toolchain) -> None:
    """Let the compiler read infer.cpp with the real headers, without making a program.

    Raises:
        BuildError: it does not compile.
    """
    _compile([str(tools.compiler), *FLAGS, "-fsyntax-only", *_system(tools), str(source)], Path(source).name)


def build(folder: str | Path = "cpp", tools: Toolchain | None = None,
          tell: Callable[[str], object] = print) -> Path:
    """Build `infer` from the folder with infer.cpp: by CMake where it is, else by the compiler alone.

    Args:
        tell: is called with a line for each step.

    Returns: the program's path, below artifacts/.

    Raises:
        MissingFileError: lists everything that is missing, each with its next step.
        BuildError: the code does not compile; holds the compiler's first error.
    """
    tools = tools or find()
    if lacking := tools.missing():
        raise MissingFileError("infer.cpp cannot be built on this machine.",
                               f"It needs {len(lacking)} more thing(s).",
                               "\n    ".join(["get", *(f"- {what}" for what in lacking)]))
    folder, out = Path(folder).resolve(), (FOLDER / "infer-build").resolve()
    if not (folder / "infer.cpp").is_file():
        raise MissingFileError(f"{folder.name}/infer.cpp is missing.", "It belongs to the lesson.",
                               "Run `course lab` again: it brings files back that are not there.")
    if tools.cmake:
        tell("CMake: configure")
        shutil.rmtree(out, ignore_errors=True)
        _compile([tools.cmake, "-S", str(folder), "-B", str(out), f"-DCMAKE_CXX_COMPILER={tools.compiler}",
                  f"-DTENSORRT_INCLUDE_DIR={tools.headers}", f"-DTENSORRT_LIBRARY={tools.library}",
                  f"-DCUDA_INCLUDE_DIRS={';'.join(map(str, tools.cuda_headers))}", f"-DCUDART_LIBRARY={tools.cudart}"],
                 "CMakeLists.txt")
        tell("CMake: compile infer.cpp")
        _compile([tools.cmake, "--build", str(out)], "infer.cpp")
    else:
        tell("There is no CMake; the compiler alone builds infer.cpp")
        out.mkdir(parents=True, exist_ok=True)
        _compile([str(tools.compiler), *FLAGS, *_system(tools), str(folder / "infer.cpp"), str(tools.library),
                  str(tools.cudart), f"-Wl,-rpath,{tools.library.parent}:{tools.cudart.parent}",
                  "-Wl,--allow-shlib-undefined", "-o", str(out / "infer")], "infer.cpp")
    tell(f"Built {FOLDER / 'infer-build' / 'infer'}")
    return out / "infer"


def call(path: str | Path, *arguments: object, seconds: float = 120) -> str:
    """Run a program; returns what it printed.

    Raises:
        CourseError: it crashed, ended with another status than 0, or took too long; holds its last words.
    """
    name = Path(path).name.rpartition("-")[0] or Path(path).name
    try:
        done = subprocess.run([str(path), *map(str, arguments)], capture_output=True, encoding="utf-8",
                              errors="replace", timeout=seconds, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise CourseError(f"{name} did not end within {seconds:g} s.", "It waits for something, or loops for ever.",
                          "Look for a loop without an end.") from error
    if done.returncode < 0:
        raise CourseError(f"{name} crashed with signal {-done.returncode}.",
                          "It wrote or read outside its memory, or gave memory back twice."
                          + (f" It said: {done.stderr.strip()[-300:]}" if done.stderr.strip() else ""),
                          "Check every index against the size of its array, and who gives memory back.")
    if done.returncode:
        raise CourseError(f"{name} ended with status {done.returncode}.",
                          done.stderr.strip()[-600:] or "It gave no reason.", "Do what its message says.")
    return done.stdout


def _compile(command: Sequence[str], name: str) -> None:
    environment = {**os.environ, "LC_ALL": "C"}  # errors in English: the course's texts are, too
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=SECONDS,
                              stdin=subprocess.DEVNULL, env=environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{name} could not be compiled.", str(error), "Run `course doctor`.") from error
    if done.returncode:
        raise BuildError(f"{name} does not compile.", _first_error(done.stdout + done.stderr),
                         "Repair the first error first: later ones often follow from it.")


def _first_error(text: str) -> str:
    """The first error and the two lines that show where, else the end of the text."""
    lines = [line for line in text.splitlines() if line.strip()]
    for index, line in enumerate(lines):
        if re.search(r"error:|CMake Error", line):
            shown = lines[index:index + 3]
            shown[0] = re.sub(r"^\S*/", "", shown[0])  # the file's name is enough
            return "\n    ".join(shown)
    return "\n    ".join(lines[-5:]) or "The compiler gave no reason."


def _system(tools: Toolchain) -> list[str]:
    folders = [folder for folder in (tools.headers, *tools.cuda_headers) if folder]
    return [word for folder in folders for word in ("-isystem", str(folder))]


def _first(paths: Iterable[Path]) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def _library(folders: Iterable[str | Path | None]) -> Path | None:
    for folder in folders:
        if folder and (found := sorted(Path(folder).glob("libnvinfer.so.[0-9]*"), key=lambda path: len(path.name))):
            return found[0]
    return None


def _headers_version(folder: Path) -> int | None:
    try:
        text = (folder / "NvInferVersion.h").read_text(errors="replace")
    except OSError:
        return None
    found = re.search(r"define (?:NV_TENSORRT_MAJOR|TRT_MAJOR_ENTERPRISE) (\d+)", text)
    return int(found[1]) if found else None


def _cuda_headers(folders: Iterable[Path], wheels: Iterable[Path]) -> tuple[Path, ...]:
    """The folder with cuda_runtime_api.h, and, where a wheel leaves crt/ out, another one that has it."""
    for folder in folders:
        if (folder / "include" / "cuda_runtime_api.h").is_file():
            main = folder / "include"
            if (main / "crt" / "host_defines.h").is_file():
                return (main,)
            parts = ("nvidia/cu13", "nvidia/cuda_nvcc", "nvidia/cuda_crt", "triton/backends/nvidia")
            places = [wheel / part / "include" for part in parts for wheel in wheels]
            if crt := next((place for place in places if (place / "crt" / "host_defines.h").is_file()), None):
                return (main, crt)
    return ()
