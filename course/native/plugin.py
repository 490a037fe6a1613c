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

from course.native.plugins import headers as header_files
from course.native.plugins.compiler import compile_for_examination
from course.native.plugins.contract import Contract
from course.native.plugins.examination import examine_compiled
from course.native.plugins.headers import Headers
from course.native.plugins.report import ADVICE, Finding, Report
from course.native.plugins.sources import Sources, find

__all__ = [
    "ADVICE",
    "Contract",
    "Finding",
    "Headers",
    "Report",
    "Sources",
    "compile_for_examination",
    "examine",
    "examine_compiled",
    "find",
]


def examine(
    sources: str | Path | Iterable[str | Path],
    contract: Contract,
    *,
    headers: Headers | None = None,
    seconds: float = 10.0,
    tell: Callable[[str], object] = print,
) -> Report:
    """Compile a plugin for this CPU and drive it as TensorRT does, each call checked.

    Args:
        sources: the plugin's folder, or its files.
        headers: TensorRT's real ones where they are, else the course's stand-in.
        seconds: limit for each of the processes that run it.
        tell: is called with a line if something must be fetched first.

    Raises:
        MissingFileError: a source file is missing.
        KernelError: the .cu file does not compile, or g++ is missing.
        BuildError: the class does not compile, or calls a launcher that is not there.
    """
    files, chosen = find(sources), headers or header_files.best()
    folder = compile_for_examination(files, chosen, tell=tell)
    return examine_compiled(folder, files, contract, headers=str(chosen), seconds=seconds)
