"""From a plugin's sources to what the examination runs: kernels.so and plugin.so in one folder.

kernels.so is what `course.kernels` makes of the .cu file. plugin.so is the learner's class, compiled with
AddressSanitizer, and the host around it (host/*.cpp). Both can run where there is no compiler and no source.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from course.errors import BuildError
from course.kernels import compile_cu, compiler, gcc, packages, toolkit
from course.native.plugins.headers import Headers, best
from course.native.plugins.sources import Sources
from course.paths import cache_dir

HOST = Path(__file__).resolve().parent / "host"
_FLAGS = ["-std=c++17", "-g1", "-O1", "-fPIC", "-fno-omit-frame-pointer", "-fsanitize=address", "-Wall", "-Wextra"]
_FLAGS += ["-Wno-deprecated-declarations", "-fno-gnu-unique"]
_REDEFINED = {
    "memcpy": "plug_memcpy",
    "memmove": "plug_memmove",
    "memset": "plug_memset",
    "__assert_fail": "plug_assert_fail",
}


def compile_for_examination(
    sources: Sources, headers: Headers, *, out: str | Path | None = None, tell: Callable[[str], object] = print
) -> Path:
    """Compile for this CPU, unless the same text was compiled before.

    Args:
        out: a folder for the result instead of the course's cache.
        tell: is called with a line if something takes long.

    Returns: the folder with kernels.so and plugin.so.

    Raises:
        KernelError: the .cu file does not compile, or uses what the CPU checker does not do.
        BuildError: the class does not compile, or calls a launcher that the .cu file does not have.
    """
    gxx, cuda = toolkit.gxx(), toolkit.headers(tell)
    kernels = compile_cu(sources.kernels, tell=tell)
    text = "".join(path.name + path.read_text(errors="replace") for path in (sources.plugin, *sources.headers))
    ours = host(gxx, headers, cuda.flags)
    key = _key(text, kernels.name, str(ours), " ".join(_FLAGS))
    folder = (Path(out).resolve() if out else cache_dir() / "plugins") / f"{sources.name}-{key}"
    if folder.is_dir():
        return folder
    with _aside(folder) as work:
        shutil.copyfile(kernels, work / "kernels.so")
        command = [gxx, *_FLAGS, *headers.flags, *cuda.flags, "-I", str(sources.folder), "-c", str(sources.plugin)]
        done = gcc.run([*command, "-o", "plugin.o"], work)
        if done.returncode:
            raise _does_not_compile(sources, headers, done.stderr)
        renames = [word for pair in _REDEFINED.items() for word in ("--redefine-sym", "=".join(pair))]
        gcc.must(gcc.run(["objcopy", *renames, "plugin.o"], work), "objcopy")
        objects = [str(path) for path in sorted(ours.glob("*.o"))]
        link = [gxx, "-shared", "-fsanitize=address", "-Wl,-z,defs", "-Wl,-rpath,$ORIGIN", *objects, "plugin.o"]
        done = gcc.run([*link, "kernels.so", "-o", "plugin.so"], work)
        if done.returncode:
            raise _does_not_link(sources, done.stderr)
        (work / "plugin.o").unlink()
    return folder


def prepare(tell: Callable[[str], object] = print) -> None:
    """Compile what is the same for all: CUDA's headers, the simulated GPU, the host. Else the first kernel and the first
    plugin wait for it."""
    cuda, gxx = toolkit.headers(tell), toolkit.gxx()
    compiler.runtime(gxx, cuda)
    host(gxx, best(), cuda.flags)


def sanitizer() -> str:
    """The libraries that the examining process loads first, for LD_PRELOAD: AddressSanitizer's, and libstdc++, whose
    exceptions it can follow only if it finds them at the start."""
    return _sanitizer(toolkit.gxx())


@functools.cache
def _sanitizer(gxx: str) -> str:
    names = ("libasan.so", "libstdc++.so.6")
    paths = [gcc.run([gxx, f"-print-file-name={name}"], "/").stdout.strip() for name in names]
    return ":".join(str(Path(path).resolve()) for path in paths)


def host(gxx: str, headers: Headers, cuda: list[str]) -> Path:
    """The host's object files, compiled once for a set of headers."""
    sources = sorted(HOST.glob("*.cpp"))
    own = [path.read_text() for path in (*sources, HOST / "host.h")]
    theirs = [path.read_text(errors="replace") for path in sorted(headers.folder.glob("NvInfer*.h"))]
    flags = [*_FLAGS, *headers.flags, *cuda]
    folder = packages.kept(f"host-{_key(*own, *theirs, *flags, gcc.version(gxx))}")
    if not folder.is_dir():
        with _aside(folder) as work, ThreadPoolExecutor(2) as pool:

            def one(path: Path) -> None:
                command = [gxx, *flags, "-c", str(path), "-o", f"{path.stem}.o"]
                gcc.must(gcc.run(command, work), f"{path.name} with {headers}")

            list(pool.map(one, sources))
    return folder


class _aside:  # noqa: N801 - reads as what it does: with _aside(folder) as work
    """A folder that is made whole or not at all."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self) -> Path:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.holder = tempfile.TemporaryDirectory(dir=self.folder.parent, prefix=f".{self.folder.name}.")
        work = Path(self.holder.name) / "work"
        work.mkdir()
        return work

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                try:
                    os.replace(Path(self.holder.name) / "work", self.folder)
                except OSError:
                    if not self.folder.is_dir():  # else another process was faster
                        raise
        finally:
            self.holder.cleanup()


def _key(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _does_not_compile(sources: Sources, headers: Headers, said: str) -> BuildError:
    error = gcc.first_error(said).replace(f"{sources.folder}/", "")
    next_step = "Repair the first error first: later ones often follow from it."
    if abstract := _still_pure(said):
        return BuildError(
            f"{sources.plugin.name} does not compile with {headers}: methods of the interface are missing.",
            f"Still pure: {', '.join(abstract)}.",
            "Declare each as NvInferRuntime.h does, with `noexcept override`: then the compiler says what differs.",
        )
    if "looser exception specification" in said or "looser throw specifier" in said:
        next_step = "Add noexcept: no exception may cross the border to TensorRT."
    elif "marked 'override', but does not override" in said:
        next_step = "The name, a parameter's type or a const differs from NvInferRuntime.h."
    return BuildError(f"{sources.plugin.name} does not compile with {headers}.", error, next_step)


def _still_pure(said: str) -> Iterable[str]:
    if (
        "because the following virtual functions are pure" not in said
        and "invalid new-expression of abstract" not in said
    ):
        return []
    return sorted(set(re.findall(r"note:\s+'virtual [^']*?(\w+)\([^']*\)[^']*'$", said, re.M)))


def _does_not_link(sources: Sources, said: str) -> BuildError:
    missing = sorted(set(re.findall(r"undefined reference to [`']([^`']+)'", said)))
    return BuildError(
        f"{sources.plugin.name} calls what is not there: {', '.join(missing[:5]) or 'see the cause'}.",
        "Neither the .cu file nor the simulated CUDA runtime defines it." if missing else gcc.first_error(said),
        f'Define it in {sources.kernels.name} as extern "C", and declare it so in the .cuh that both files include.',
    )
