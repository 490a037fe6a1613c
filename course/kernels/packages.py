"""NVIDIA's wheels from PyPI in a folder of the course's cache, so that no environment is changed."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from course.kernels.words import KernelError
from course.paths import cache_dir

HEADERS = ("nvidia-cuda-runtime==13.0.*", "nvidia-cuda-crt==13.0.*", "nvidia-cuda-cccl==13.0.*")
"""6 MB: what a .cu file includes."""
COMPILER = ("nvidia-cuda-nvcc==13.0.*", "nvidia-nvvm==13.0.*", *HEADERS)
"""105 MB: nvcc and ptxas."""
DISASSEMBLER = ("nvidia-cuda-cuobjdump>=13.2,<14", "nvidia-cuda-nvdisasm>=13.2,<14")
"""6 MB: cuobjdump shows the machine code; it calls nvdisasm. (There is none of 13.0; newer ones read its files.)"""
SHARED = "COURSE_SHARED_PACKAGES"
"""Environment variable: a folder of what was fetched or compiled before. The grader shows its own to a learner's kernel, which
cannot write there and has no network."""
SECONDS = 900  # for one package, on a slow connection


def folder(requirements: Sequence[str]) -> Path:
    """Where `fetch` puts these packages, whether they are there or not."""
    return kept(hashlib.sha256(" ".join(requirements).encode()).hexdigest()[:10])


def kept(name: str) -> Path:
    """A folder that is made once for this machine, whether it is there or not: what the grader shows, else in the cache."""
    cache = cache_dir() / "cuda"
    shared = Path(os.environ.get(SHARED) or cache) / name
    return shared if shared.is_dir() else cache / name


def fetch(requirements: Sequence[str], tell: Callable[[str], object] = print, begin: str = "") -> Path:
    """The folder with these packages, from PyPI unless they are there already.

    Args:
        tell: is called with a line for each package. begin: the line before them, if there is something to fetch.

    Raises:
        KernelError: pip is missing, there is no network in here, or a package could not be had; nothing half done is left.
    """
    target = folder(requirements)
    if target.is_dir():
        return target
    if os.environ.get(SHARED):
        raise KernelError(
            f"The grading machine lacks NVIDIA's package {re.split('[=<>]', requirements[0])[0]}.",
            "A submission runs without a network, so nothing can be fetched from PyPI here. It is no fault of the submission.",
            "Instructor: with a connection, `python -m autograder grade` fetches it before it begins; or install the CUDA "
            "toolkit 13 in /usr/local/cuda. Then grade again with --force.",
        )
    if begin:
        tell(begin)
    if importlib.util.find_spec("pip") is None:
        raise KernelError(
            "NVIDIA's packages cannot be fetched.",
            f"{sys.executable} has no pip.",
            f"Run `{sys.executable} -m ensurepip`, or install the CUDA toolkit 13 and set CUDA_HOME.",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for number, requirement in enumerate(requirements, 1):
            started = time.perf_counter()
            _install(requirement, partial)
            tell(
                f"[{number}/{len(requirements)}] {re.split('[=<>]', requirement)[0]}, "
                f"{time.perf_counter() - started:.0f} s, "
                f"{_bytes(partial) / 1e6:.0f} MB so far"
            )
        try:
            os.replace(partial, target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _install(requirement: str, target: Path) -> None:
    """One package beside the others: pip itself would replace the folder that they share."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".pip.") as alone:
        _pip(requirement, Path(alone))
        shutil.copytree(alone, target, dirs_exist_ok=True, symlinks=True)
    for program in target.glob("nvidia/*/bin/*"):
        if program.is_file():
            program.chmod(program.stat().st_mode | 0o111)


def _pip(requirement: str, target: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--target",
        str(target),
        requirement,
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(requirement, str(error)) from error
    if done.returncode:
        lines = [
            line for line in (done.stderr or done.stdout).splitlines() if "ERROR" in line
        ] or done.stderr.splitlines()
        raise _failed(requirement, lines[-1] if lines else "pip gave no reason.")


def _failed(requirement: str, cause: str) -> KernelError:
    return KernelError(
        f"The package {requirement} could not be fetched from PyPI.",
        cause,
        "Check the connection and try again, or install the CUDA toolkit 13 and set CUDA_HOME to it.",
    )


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
