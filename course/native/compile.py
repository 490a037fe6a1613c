"""C++ from a lesson: small programs that need nothing, and `cpp/infer.cpp`, which needs TensorRT and CUDA.

`find` says what of that is here and, for what is not, the next step. Nothing is built twice from the same source.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from course.errors import BuildError, CourseError, MissingFileError
from course.native.toolchain import COMPILER_HELP, Toolchain, compiler, find

FOLDER = Path("artifacts/cpp")
SECONDS = 300  # for one compilation, on a slow or busy machine
FLAGS = ("-std=c++17", "-O2", "-Wall", "-Wextra")


def program(
    code: str, name: str, *, include: Iterable[str | Path] = (), shared: bool = False, fast: bool = True
) -> Path:
    """Compile one source text into `artifacts/cpp/`, unless that was done before.

    Args:
        include: folders of headers; a change in a header there is noticed, too.
        shared: a shared library instead of a program.
        fast: optimised. Else the compiler needs less time, for a program that runs once.

    Returns: the program's path.

    Raises:
        MissingFileError: there is no compiler.
        BuildError: the code does not compile; holds the compiler's first error.
    """
    cxx = compiler()
    if cxx is None:
        raise MissingFileError("There is no C++ compiler.", "None of g++, c++ and clang++ was found.", COMPILER_HELP)
    folders = [Path(folder).resolve() for folder in include]
    text = code + "".join(path.read_text() for folder in folders for path in sorted(folder.glob("*.h")))
    out = (
        FOLDER
        / f"{name}-{hashlib.sha256((text + str(shared) + str(fast)).encode()).hexdigest()[:12]}{'.so' if shared else ''}"
    )
    if not out.is_file():
        FOLDER.mkdir(parents=True, exist_ok=True)
        source = FOLDER / f"{name}.cpp"
        source.write_text(code)
        partial = out.with_name(f".{out.name}.{os.getpid()}")
        _compile(
            [
                cxx,
                *FLAGS,
                *([] if fast else ["-O0"]),
                *(["-shared", "-fPIC"] if shared else []),
                *(f"-I{folder}" for folder in folders),
                str(source),
                "-o",
                str(partial),
            ],
            name,
        )
        os.replace(partial, out)
    return out.resolve()


def syntax(source: str | Path, tools: Toolchain) -> None:
    """Let the compiler read infer.cpp with the real headers, without making a program.

    Raises:
        BuildError: it does not compile.
    """
    _compile([str(tools.compiler), *FLAGS, "-fsyntax-only", *_system(tools), str(source)], Path(source).name)


def build(folder: str | Path = "cpp", tools: Toolchain | None = None, tell: Callable[[str], object] = print) -> Path:
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
        raise MissingFileError(
            "infer.cpp cannot be built on this machine.",
            f"It needs {len(lacking)} more thing(s).",
            "\n    ".join(["get", *(f"- {what}" for what in lacking)]),
        )
    folder, out = Path(folder).resolve(), (FOLDER / "infer-build").resolve()
    if not (folder / "infer.cpp").is_file():
        raise MissingFileError(
            f"{folder.name}/infer.cpp is missing.",
            "It belongs to the lesson.",
            "Run `course lab` again: it brings files back that are not there.",
        )
    if tools.cmake:
        tell("CMake: configure")
        shutil.rmtree(out, ignore_errors=True)
        _compile(
            [
                tools.cmake,
                "-S",
                str(folder),
                "-B",
                str(out),
                f"-DCMAKE_CXX_COMPILER={tools.compiler}",
                f"-DTENSORRT_INCLUDE_DIR={tools.headers}",
                f"-DTENSORRT_LIBRARY={tools.library}",
                f"-DCUDA_INCLUDE_DIRS={';'.join(map(str, tools.cuda_headers))}",
                f"-DCUDART_LIBRARY={tools.cudart}",
            ],
            "CMakeLists.txt",
        )
        tell("CMake: compile infer.cpp")
        _compile([tools.cmake, "--build", str(out)], "infer.cpp")
    else:
        tell("There is no CMake; the compiler alone builds infer.cpp")
        out.mkdir(parents=True, exist_ok=True)
        _compile(
            [
                str(tools.compiler),
                *FLAGS,
                *_system(tools),
                str(folder / "infer.cpp"),
                str(tools.library),
                str(tools.cudart),
                f"-Wl,-rpath,{tools.library.parent}:{tools.cudart.parent}",
                "-Wl,--allow-shlib-undefined",
                "-o",
                str(out / "infer"),
            ],
            "infer.cpp",
        )
    tell(f"Built {FOLDER / 'infer-build' / 'infer'}")
    return out / "infer"


def call(path: str | Path, *arguments: object, seconds: float = 120) -> str:
    """Run a program; returns what it printed.

    Raises:
        CourseError: it crashed, ended with another status than 0, or took too long; holds its last words.
    """
    name = Path(path).name.rpartition("-")[0] or Path(path).name
    try:
        done = subprocess.run(
            [str(path), *map(str, arguments)],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise CourseError(
            f"{name} did not end within {seconds:g} s.",
            "It waits for something, or loops for ever.",
            "Look for a loop without an end.",
        ) from error
    if done.returncode < 0:
        raise CourseError(
            f"{name} crashed with signal {-done.returncode}.",
            "It wrote or read outside its memory, or gave memory back twice."
            + (f" It said: {done.stderr.strip()[-300:]}" if done.stderr.strip() else ""),
            "Check every index against the size of its array, and who gives memory back.",
        )
    if done.returncode:
        raise CourseError(
            f"{name} ended with status {done.returncode}.",
            done.stderr.strip()[-600:] or "It gave no reason.",
            "Do what its message says.",
        )
    return done.stdout


def _compile(command: Sequence[str], name: str) -> None:
    environment = {**os.environ, "LC_ALL": "C"}  # errors in English: the course's texts are, too
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{name} could not be compiled.", str(error), "Run `course doctor`.") from error
    if done.returncode:
        raise BuildError(
            f"{name} does not compile.",
            _first_error(done.stdout + done.stderr),
            "Repair the first error first: later ones often follow from it.",
        )


def _first_error(text: str) -> str:
    """The first error and the two lines that show where, else the end of the text."""
    lines = [line for line in text.splitlines() if line.strip()]
    for index, line in enumerate(lines):
        if re.search(r"error:|CMake Error", line):
            shown = lines[index : index + 3]
            shown[0] = re.sub(r"^\S*/", "", shown[0])  # the file's name is enough
            return "\n    ".join(shown)
    return "\n    ".join(lines[-5:]) or "The compiler gave no reason."


def _system(tools: Toolchain) -> list[str]:
    folders = [folder for folder in (tools.headers, *tools.cuda_headers) if folder]
    return [word for folder in folders for word in ("-isystem", str(folder))]
