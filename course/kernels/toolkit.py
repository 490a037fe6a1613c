"""Where CUDA's headers, nvcc and cuobjdump are: an installed toolkit, wheels of this Python, or the course's cache."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from course.kernels import packages
from course.kernels.words import KernelError

MAJOR = 13
"""The major version of CUDA whose headers the CPU checker is written for."""
COMPILERS = ("g++", "g++-14", "g++-13", "g++-12", "g++-11")


@dataclass(frozen=True)
class Headers:
    """Folders for -isystem, and CUDA's version (13000 is 13.0)."""

    folders: tuple[Path, ...]
    version: int

    @property
    def flags(self) -> list[str]:
        """The compiler's options."""
        return [word for folder in self.folders for word in ("-isystem", str(folder))]


def headers(tell: Callable[[str], object] = print) -> Headers:
    """CUDA's headers, fetched from PyPI (6 MB, once) if no toolkit of the right version is here.

    Raises:
        KernelError: they are not here and cannot be fetched.
    """
    for root in roots():
        if found := _headers(root):
            return found
    begin = "NVIDIA's CUDA headers are not here: fetching them from PyPI (6 MB, once)"
    found = _headers(packages.fetch(packages.HEADERS, tell, begin) / "nvidia" / f"cu{MAJOR}")
    if found is None:
        raise KernelError(
            "NVIDIA's packages hold no CUDA headers.",
            "Their layout is not the one of CUDA 13.",
            f"Install the CUDA toolkit {MAJOR} and set CUDA_HOME to it.",
        )
    return found


def roots() -> Iterator[Path]:
    """Folders that may be a CUDA toolkit: environment variables, nvcc on the path, /usr/local/cuda, wheels, the
    cache."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name):
            yield Path(os.environ[name])
    if nvcc := shutil.which("nvcc"):
        yield Path(nvcc).resolve().parents[1]
    yield Path("/usr/local/cuda")
    for entry in sys.path:
        if entry:
            yield Path(entry) / "nvidia" / f"cu{MAJOR}"
    for wanted in (packages.HEADERS, packages.COMPILER):
        yield packages.folder(wanted) / "nvidia" / f"cu{MAJOR}"


def nvcc(tell: Callable[[str], object] = print) -> Path:
    """The path of nvcc, fetched from PyPI (105 MB, once) if no toolkit of the right version is here.

    Raises:
        KernelError: it is not here and cannot be fetched.
    """
    for root in roots():
        if (root / "bin" / "nvcc").is_file() and (root / "nvvm" / "bin" / "cicc").is_file() and _headers(root):
            return root / "bin" / "nvcc"
    begin = "There is no nvcc here: fetching NVIDIA's compiler from PyPI (105 MB, once)"
    return packages.fetch(packages.COMPILER, tell, begin) / "nvidia" / f"cu{MAJOR}" / "bin" / "nvcc"


def cuobjdump(tell: Callable[[str], object] = print) -> tuple[Path, Path]:
    """The paths of cuobjdump and of nvdisasm, which it calls; from PyPI (6 MB, once) if they are not here.

    Raises:
        KernelError: they are not here and cannot be fetched.
    """
    folders = [root / "bin" for root in roots()] + [Path(path).parent for path in (shutil.which("cuobjdump"),) if path]
    for folder in folders:
        if (folder / "cuobjdump").is_file() and (folder / "nvdisasm").is_file():
            return folder / "cuobjdump", folder / "nvdisasm"
    begin = "There is no cuobjdump here: fetching it from PyPI (6 MB, once)"
    folder = packages.fetch(packages.DISASSEMBLER, tell, begin) / "nvidia" / f"cu{MAJOR}" / "bin"
    return folder / "cuobjdump", folder / "nvdisasm"


def gxx() -> str:
    """The path of g++ (CXX, if that is one): the checker needs its -fsanitize=thread and x86-64 or any other Linux.

    Raises:
        KernelError: there is none.
    """
    named = os.environ.get("CXX", "")
    for name in ((named,) if "g++" in Path(named).name else ()) + COMPILERS:
        if path := shutil.which(name):
            return path
    raise KernelError(
        "There is no g++.",
        "CUDA C++ on a CPU is compiled by GCC's C++ compiler.",
        "Debian and Ubuntu: sudo apt install g++. Conda: conda install gxx.",
    )


def _headers(root: Path) -> Headers | None:
    include = root / "include"
    try:
        text = (include / "cuda_runtime_api.h").read_text(errors="replace")
    except OSError:
        return None
    version = re.search(r"#define CUDART_VERSION\s+(\d+)", text)
    folders = [folder for folder in (include, include / "cccl") if folder.is_dir()]
    needed = ("cuda_runtime.h", "crt/host_defines.h", "cuda_fp16.h", "cuda_bf16.h", "nv/target")
    whole = all(any((folder / name).is_file() for folder in folders) for name in needed)
    if not version or int(version[1]) // 1000 != MAJOR or not whole:
        return None
    return Headers(tuple(folders), int(version[1]))
