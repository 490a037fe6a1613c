"""A plugin for a GPU: one library for one generation of TensorRT, and a look at it before it is loaded."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from course.errors import BuildError, DamagedFileError, EngineMismatchError, MissingFileError
from course.files import atomic_write
from course.kernels import gcc, nvcc, toolkit
from course.native import toolchain
from course.native.plugins.headers import Headers
from course.native.plugins.sources import Sources
from course.paths import cache_dir

CMAKE = Path(__file__).resolve().parent / "cmake"
_FLAGS = ["-std=c++17", "-O2", "-fPIC", "-Wall", "-Wextra", "-Wno-deprecated-declarations"]
_MARK = re.compile(rb"course-plugin-built-for-tensorrt=(\d+\.\d+\.\d+);")


def build_library(
    sources: Sources, headers: Headers, *, architecture: str = nvcc.ARCHITECTURE, tell: Callable[[str], object] = print
) -> Path:
    """Compile for a GPU, unless that was done before with the same files and headers.

    Args:
        headers: real ones. architecture: as nvcc's -arch; sm_80 runs on every newer GPU, too.
        tell: is called with a line if nvcc must be fetched first.

    Returns: the library's path in the course's cache.

    Raises:
        EngineMismatchError: TensorRT's library on this machine has another major version than the headers.
        KernelError: the .cu file does not compile, or nvcc is missing.
        BuildError: the class does not compile.
    """
    if not headers.real:
        raise BuildError(
            "The course's stand-in headers cannot make a plugin for TensorRT.",
            "They have the names of TensorRT's headers, not its memory layout.",
            "Give the real ones: plugin.headers('/path/to/include').",
        )
    installed = toolchain.find().library_version
    if installed and installed != headers.major:
        raise _mismatch("The plugin", f"The headers are TensorRT {headers.version}", str(installed))
    kernels = nvcc.build(sources.kernels, "object", architecture=architecture, tell=tell)
    cuda, gxx = toolkit.headers(tell), toolkit.gxx()
    mark = CMAKE / "tensorrt_version.cpp"
    texts = [path.read_text(errors="replace") for path in (sources.plugin, *sources.headers, mark)]
    texts += [path.read_text(errors="replace") for path in sorted(headers.folder.glob("NvInfer*.h"))]
    key = hashlib.sha256(
        "\0".join([*texts, kernels.name, "static runtime", *_FLAGS, gcc.version(gxx)]).encode()
    ).hexdigest()[:16]
    out = cache_dir() / "plugins" / f"{sources.name}-tensorrt{headers.major}-{key}.so"
    if not out.is_file():
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.stem}.") as name:
            work = Path(name)
            for source in (sources.plugin, mark):
                options = [*_FLAGS, *headers.flags, *cuda.flags, "-I", str(sources.folder)]
                done = gcc.run([gxx, *options, "-c", str(source), "-o", f"{source.stem}.o"], work)
                if done.returncode:
                    raise BuildError(
                        f"{source.name} does not compile with {headers}.",
                        gcc.first_error(done.stderr).replace(f"{sources.folder}/", ""),
                        "Repair the first error first: later ones often follow from it.",
                    )
            objects = [str(kernels), f"{sources.plugin.stem}.o", f"{mark.stem}.o"]
            runtime = [str(_runtime(toolkit.nvcc(tell)) / "libcudart_static.a"), "-lrt", "-lpthread", "-ldl"]
            done = gcc.run([gxx, "-shared", *objects, *runtime, "-o", "plugin.so"], work)
            if done.returncode:
                raise BuildError(
                    f"{sources.name} cannot be linked.", gcc.first_error(done.stderr), "Define what the cause names."
                )
            os.replace(work / "plugin.so", out)
    return out


def cmake_files(folder: str | Path) -> list[Path]:
    """Put CMakeLists.txt, and the file that it adds, beside a learner's sources; returns their paths."""
    names = ("CMakeLists.txt", "tensorrt_version.cpp")
    return [atomic_write(Path(folder) / name, (CMAKE / name).read_bytes()) for name in names]


def build_with_cmake(
    sources: Sources, headers: Headers, build: str | Path, *, architecture: str = nvcc.ARCHITECTURE
) -> Path:
    """Build by the CMakeLists.txt that lies beside the sources.

    Args:
        build: a folder for CMake's files and the library.

    Returns: the library's path.

    Raises:
        MissingFileError: there is no CMake, or no CMakeLists.txt.
        BuildError: a step failed; holds the first error.
    """
    cmake, build = shutil.which("cmake"), Path(build).resolve()
    if cmake is None or not (sources.folder / "CMakeLists.txt").is_file():
        raise MissingFileError(
            "The plugin cannot be built by CMake.",
            "CMake is not installed." if cmake is None else f"{sources.folder.name}/CMakeLists.txt is missing.",
            "Debian and Ubuntu: sudo apt install cmake. plugin.cmake_files(folder) writes the CMakeLists.txt.",
        )
    configure = [
        f"-DTENSORRT_INCLUDE_DIR={headers.folder}",
        f"-DTENSORRT_MAJOR={headers.major}",
        f"-DCMAKE_CUDA_COMPILER={toolkit.nvcc()}",
        f"-DCMAKE_CUDA_FLAGS=-L{_runtime(toolkit.nvcc())}",
        f"-DCMAKE_CUDA_ARCHITECTURES={architecture.removeprefix('sm_')}",
        f"-DCMAKE_CXX_COMPILER={toolkit.gxx()}",
    ]
    build.mkdir(parents=True, exist_ok=True)
    for command in ([cmake, "-S", str(sources.folder), "-B", str(build), *configure], [cmake, "--build", str(build)]):
        done = gcc.run(command, build)
        if done.returncode:
            said = done.stdout + done.stderr
            found = re.search(r"^CMake Error[^\n]*\n(.*?)\n\n", said + "\n\n", re.S | re.M)
            cause = " ".join(found[1].split()) if found and "error:" not in said else gcc.first_error(said)
            raise BuildError(f"CMake could not build {sources.name}.", cause, "Repair what the cause names.")
    return build / f"lib{sources.name}.so"


def built_for(library: str | Path) -> str:
    """The version of TensorRT whose headers a plugin was built with, as "10.16.1".

    Raises:
        MissingFileError: there is no such file.
        DamagedFileError: the library does not say it.
    """
    path = Path(library)
    if not path.is_file():
        raise MissingFileError(
            f"{path.name} is missing.", f"There is no such file in {path.parent}.", "Build the plugin."
        )
    found = _MARK.search(path.read_bytes())
    if found is None:
        raise DamagedFileError(
            f"{path.name} does not say for which TensorRT it was built.",
            "It lacks the mark of tensorrt_version.cpp, so a wrong version could not be refused.",
            "Build it with plugin.build or with the course's CMakeLists.txt.",
        )
    return found[1].decode()


def load(library: str | Path, running: str) -> ctypes.CDLL:
    """Load a plugin into this process, after a look at its version. Its creators register themselves.

    Args:
        running: the version of the TensorRT that will use it (`tensorrt.__version__`).

    Raises:
        EngineMismatchError: it was built for another major version.
        MissingFileError, DamagedFileError: see `built_for`.
        BuildError: the system cannot load it; says which library or function is missing.
    """
    version = built_for(library)
    if version.split(".")[0] != running.split(".")[0]:
        raise _mismatch(Path(library).name, f"It was built for TensorRT {version}", running)
    _share_tensorrt()
    try:
        return ctypes.CDLL(str(Path(library).resolve()), ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise BuildError(
            f"{Path(library).name} cannot be loaded.",
            str(error),
            "Import tensorrt first: it brings getPluginRegistry, which the macro REGISTER_TENSORRT_PLUGIN calls.",
        ) from error


def _share_tensorrt() -> None:
    """Let libraries that are loaded from now on see TensorRT's functions.

    A plugin does not name libnvinfer as needed; REGISTER_TENSORRT_PLUGIN calls its getPluginRegistry as it is loaded.
    The wheel of 8.6 loads libnvinfer for itself alone: seen on an H200, "undefined symbol: getPluginRegistry".
    """
    maps = Path("/proc/self/maps")
    names = (
        {line.split()[-1] for line in maps.read_text().splitlines() if "/libnvinfer.so" in line}
        if maps.is_file()
        else ()
    )
    for name in names:
        ctypes.CDLL(name, ctypes.RTLD_GLOBAL)  # loaded already: dlopen only makes its symbols global


def _runtime(compiler: Path) -> Path:
    """The folder of the CUDA runtime that belongs to nvcc. NVIDIA's wheels have it where nvcc itself does not look."""
    root = compiler.parents[1]
    for folder in (root / "lib64", root / "lib", *sorted(root.glob("targets/*/lib"))):
        if (folder / "libcudart_static.a").is_file():
            return folder
    raise MissingFileError(
        "The CUDA runtime (libcudart_static.a) is not here.",
        f"nvcc is {compiler}, and {root} has none.",
        "Install the package nvidia-cuda-runtime of nvcc's version, or the CUDA toolkit.",
    )


def _mismatch(what: str, has: str, running: str) -> EngineMismatchError:
    major = running.split(".")[0]
    return EngineMismatchError(
        f"{what} and TensorRT {running} do not fit.",
        f"{has}, whose classes lie differently in memory: the first call would crash.",
        f"Build it with headers of version {major}: set TENSORRT_INCLUDE_DIR to them.",
    )
