"""A TensorRT plugin in C++: built, and examined without TensorRT and without a GPU.

    report = plugin.examine("swish", plugin.Contract(
        "CourseSwish", lambda x, beta: x / (1 + np.exp(-beta * x)), shapes=[((3, 5),), ((1,),)], attributes={"beta": 1.5}))
    print(report)

The learner's folder holds x.cu (kernels and extern "C" launchers), x.cuh (their declarations) and x_plugin.cpp (the class and
its creator). `docs/plugins.md` lists what is examined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from course.kernels import nvcc
from course.native.plugins import headers as header_files
from course.native.plugins.building import build_library, build_with_cmake, built_for, cmake_files, load
from course.native.plugins.compiler import compile_for_examination
from course.native.plugins.contract import Contract
from course.native.plugins.examination import examine_compiled
from course.native.plugins.headers import Headers
from course.native.plugins.report import ADVICE, Finding, Report
from course.native.plugins.sources import Sources, find
from course.native.plugins.stand_in_library import stand_in_library

__all__ = [
    "ADVICE",
    "Contract",
    "Finding",
    "Headers",
    "Report",
    "Sources",
    "build",
    "build_with_cmake",
    "built_for",
    "cmake_files",
    "compile_for_examination",
    "examine",
    "examine_compiled",
    "find",
    "headers",
    "load",
    "stand_in_library",
]


def headers(folder: str | Path | None = None) -> Headers:
    """TensorRT's own headers: in this folder, else in TENSORRT_INCLUDE_DIR, TENSORRT_ROOT/include or the system's folders.

    Raises:
        MissingFileError: there are none; says the ways to get them.
    """
    return header_files.real(folder)


def build(
    sources: str | Path | Iterable[str | Path],
    *,
    include: str | Path | None = None,
    architecture: str = nvcc.ARCHITECTURE,
    tell: Callable[[str], object] = print,
) -> Path:
    """Build a plugin for a GPU; see `building.build_library` for the errors.

    Args:
        sources: the plugin's folder, or its files.
        include: the folder with TensorRT's headers, see `headers`.
        architecture: as nvcc's -arch.

    Returns: the library's path in the course's cache. `load` loads it.
    """
    return build_library(find(sources), headers(include), architecture=architecture, tell=tell)


def examine(
    sources: str | Path | Iterable[str | Path],
    contract: Contract,
    *,
    using: Headers | None = None,
    seconds: float = 10.0,
    tell: Callable[[str], object] = print,
) -> Report:
    """Compile a plugin for this CPU and drive it as TensorRT does, each call checked.

    Args:
        sources: the plugin's folder, or its files.
        using: headers: TensorRT's real ones where they are, else the course's stand-in.
        seconds: limit for each of the processes that run it.
        tell: is called with a line if something must be fetched first.

    Raises:
        MissingFileError: a source file is missing.
        KernelError: the .cu file does not compile, or g++ is missing.
        BuildError: the class does not compile, or calls a launcher that is not there.
    """
    files, chosen = find(sources), using or header_files.best()
    folder = compile_for_examination(files, chosen, tell=tell)
    return examine_compiled(folder, files, contract, headers=str(chosen), seconds=seconds)
