"""What this machine has to build C++ for TensorRT: compiler, CMake, headers, libraries, and the next step for what it lacks."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


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
            f"The C++ compiler g++. {COMPILER_HELP}": not self.compiler,
            "TensorRT's headers (NvInferRuntime.h). Wheels hold none: take the include/ folder of "
            f"github.com/NVIDIA/TensorRT at the tag of {version}, or NVIDIA's tar or deb package, and set "
            "TENSORRT_INCLUDE_DIR to it before you start Jupyter.": not self.headers,
            "CUDA's headers (cuda_runtime_api.h). pip install nvidia-cuda-runtime nvidia-cuda-crt, or install the CUDA "
            "toolkit and set CUDA_HOME.": not self.cuda_headers,
            "TensorRT's library (libnvinfer.so). Install TensorRT; `course doctor` says how.": link
            and not self.library,
            "CUDA's runtime library (libcudart.so). pip install nvidia-cuda-runtime.": link and not self.cudart,
            f"Headers and library of one version: the headers are TensorRT {self.headers_version}, the library is "
            f"{self.library_version}. A program built so can crash. Set TENSORRT_INCLUDE_DIR to headers of version "
            f"{self.library_version}.": bool(
                link and self.headers and self.library and self.headers_version != self.library_version
            ),
        }
        return [what for what, lacking in lacks.items() if lacking]

    def __str__(self) -> str:
        def line(name: str, value: object, version: object = None) -> str:
            return f"{name:<18} {'missing' if not value else value}{f' (version {version})' if version else ''}"

        return "\n".join(
            (
                line("C++ compiler", self.compiler),
                line("CMake", self.cmake),
                line("TensorRT headers", self.headers, self.headers_version),
                line("TensorRT library", self.library, self.library_version),
                line("CUDA headers", ", ".join(map(str, self.cuda_headers))),
                line("CUDA runtime", self.cudart),
            )
        )


COMPILER_HELP = "Debian and Ubuntu: sudo apt install g++. Conda: conda install gxx."


def find() -> Toolchain:
    """Look for compiler, headers, libraries: environment variables first, then this Python's wheels, then the system."""
    root, conda = os.environ.get("TENSORRT_ROOT"), os.environ.get("CONDA_PREFIX")
    wheels = [Path(path) for path in sys.path if path and Path(path).is_dir()]
    cuda = [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    cuda += [Path("/usr/local/cuda")]
    cuda += [folder / "nvidia" / name for folder in wheels for name in ("cu13", "cuda_runtime")]
    include = [
        os.environ.get("TENSORRT_INCLUDE_DIR"),
        root and f"{root}/include",
        conda and f"{conda}/include",
        "/usr/include/x86_64-linux-gnu",
        "/usr/include/aarch64-linux-gnu",
        "/usr/local/tensorrt/include",
    ]
    headers = _first(Path(folder) / "NvInferRuntime.h" for folder in include if folder)
    packages = [folder / name for folder in wheels for name in ("tensorrt_libs", "tensorrt")]
    library = _library(
        [
            root and f"{root}/lib",
            *packages,
            conda and f"{conda}/lib",
            "/usr/lib/x86_64-linux-gnu",
            "/usr/lib/aarch64-linux-gnu",
        ]
    )
    cudart = _first(
        folder / lib / name
        for folder in cuda
        for lib in ("lib64", "lib")
        for name in ("libcudart.so", "libcudart.so.13", "libcudart.so.12")
    )
    return Toolchain(
        compiler=compiler(),
        cmake=shutil.which("cmake"),
        headers=headers and headers.parent,
        headers_version=headers and _headers_version(headers.parent),
        library=library,
        library_version=int(library.name.split(".so.")[1].split(".")[0]) if library else None,
        cuda_headers=_cuda_headers([*cuda, *(conda and [Path(conda)] or [])], wheels),
        cudart=cudart,
    )


def compiler() -> str | None:
    """The C++ compiler's path: CXX, g++, c++ or clang++."""
    names = (os.environ.get("CXX"), "g++", "c++", "clang++")
    return next((path for name in names if name and (path := shutil.which(name))), None)


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
