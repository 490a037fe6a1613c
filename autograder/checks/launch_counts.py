"""What a service asks the GPU to run, counted outside of its programs: CUDA's driver loads a library of ours into its processes
(`artifacts/launch_counts.cpp`), and CUPTI calls that at each launch.

The counts come out of the box, where a program could forge them. So they may cost points and never earn any.
"""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autograder.checks.base import OpenHere
from course.errors import CourseError
from course.kernels import toolkit
from course.paths import ROOT

SOURCE = ROOT / "autograder" / "artifacts" / "launch_counts.cpp"
LAYOUT = struct.Struct("<8s3Q")
"""Of a counts file: magic, error, graphs, kernels."""
MAGIC, NO_CUPTI = b"LAUNCHES", 1_000_000
SUFFIX = ".launches"
MOST_FILES = 1000
COMPILE_S = 120


@dataclass(frozen=True)
class Launches:
    """Of all processes together. graphs, kernels: launches of CUDA graphs, and of kernels one by one. processes: how many
    counted; errors: why others could not."""

    graphs: int
    kernels: int
    processes: int
    errors: tuple[str, ...] = ()

    def __sub__(self, before: Launches) -> Launches:
        return Launches(self.graphs - before.graphs, self.kernels - before.kernels, self.processes, self.errors)


def library(folder: Path) -> Path:
    """The library, compiled into `folder`.

    Raises:
        OpenHere: there is no C++ compiler, or it fails.
    """
    target = folder / "liblaunch_counts.so"
    try:
        line = [toolkit.gxx(), "-std=c++17", "-O2", "-shared", "-fPIC", str(SOURCE), "-o", str(target), "-ldl"]
        done = subprocess.run(line, capture_output=True, encoding="utf-8", errors="replace", timeout=COMPILE_S)
    except CourseError as error:
        raise OpenHere(f"Launches of CUDA graphs cannot be counted here. {error.cause} {error.next_step}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OpenHere(f"Launches of CUDA graphs cannot be counted here. The compiler failed: {error}") from None
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), "the compiler gave no reason")
        raise OpenHere(f"Launches of CUDA graphs cannot be counted here. {SOURCE.name} does not compile: {reason}")
    return target


def cupti() -> Path:
    """CUPTI's library: of a wheel beside PyTorch, which loads it itself, or of an installed toolkit.

    Raises:
        OpenHere: it is not here.
    """
    for folder in _folders():
        if found := sorted(folder.glob("libcupti.so*"), key=lambda path: len(path.name)):
            return found[0]
    raise OpenHere(
        "Launches of CUDA graphs cannot be counted here: libcupti.so was not found. It comes with the CUDA toolkit "
        "(extras/CUPTI) and with `pip install nvidia-cuda-cupti`."
    )


def _folders() -> Iterator[Path]:
    """Where CUPTI may lie. The one that PyTorch would load comes first: a process must not hold two."""
    named = (Path(part) for part in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if part)
    for entry in (*named, *map(Path, filter(None, sys.path))):
        yield entry
        yield from sorted(entry.glob("nvidia/*/lib"))
    for root in toolkit.roots():
        yield root / "extras" / "CUPTI" / "lib64"
        yield from sorted(root.glob("targets/*/lib"))
        yield root / "lib64"


def variables(library: Path, cupti: Path, folder: Path) -> dict[str, str]:
    """Environment variables of a process whose launches are counted. folder: where its counts go; it must be able to write there."""
    return {
        "CUDA_INJECTION64_PATH": str(library),
        "LAUNCH_COUNTS_CUPTI": str(cupti),
        "LAUNCH_COUNTS_FOLDER": str(folder),
    }


def read(folder: Path) -> Launches:
    """All counts so far. The folder is the box's: links, pipes and files of another form are passed over."""
    graphs = kernels = processes = 0
    errors = []
    for name in sorted(os.listdir(folder))[:MOST_FILES]:
        if not name.endswith(SUFFIX):
            continue
        data = _content(folder / name)
        if len(data) != LAYOUT.size or not data.startswith(MAGIC):
            continue
        _, error, some_graphs, some_kernels = LAYOUT.unpack(data)
        if error:
            errors.append("CUPTI could not be loaded" if error == NO_CUPTI else f"CUPTI gave error {error}")
            continue
        graphs, kernels, processes = graphs + some_graphs, kernels + some_kernels, processes + 1
    return Launches(graphs, kernels, processes, tuple(errors))


def _content(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, LAYOUT.size + 1) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)
