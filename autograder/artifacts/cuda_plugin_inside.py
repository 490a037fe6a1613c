"""The build box of a plugin: the learner's sources, our compiler, flags and order of steps; libraries come out.

    for_cpu: two libraries, the kernels with the simulated GPU and the checker, and the class with the host that examines it.
    for_gpu: one library, for this machine's TensorRT and GPU.

Nothing of the learner's runs here, and there are no inputs, no network and no GPU. What lies prepared (our own object files)
is linked from where the judge compiled it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from autograder.artifacts import cuda_guard, imports
from autograder.sandbox.serve import Refused, limit, serve
from course.errors import BuildError
from course.kernels import compiler, gcc, packages, toolkit
from course.native.plugins import building, headers
from course.native.plugins import compiler as plugin_compiler
from course.native.plugins.sources import Sources, find


class Builder:
    def __init__(self, folder: Path, stem: str):
        self.folder, self.stem = folder, stem

    def for_cpu(self, *, include: str, cuda: str, prepared: list[str]):
        """Answers: the bytes of kernels.so and plugin.so. Of a class that does not compile or link: "class", which says
        why (what, cause, next step), and kernels.so alone, for right kernels count without it.

        include: folder of TensorRT's headers, "" for the course's stand-in. cuda: of CUDA. prepared: folders of object files
        and precompiled headers.
        """
        sources, chosen = self._sources(), _headers(include)
        _prepare(cuda, prepared)
        kernels = compiler.compile_cu(sources.kernels, tell=lambda line: None)
        gxx, system = toolkit.gxx(), toolkit.headers()
        mathematics = Path(gcc.run([gxx, "-print-file-name=libm.so.6"], "/").stdout.strip()).resolve()
        runtime = compiler.runtime(gxx, system)
        imports.refuse(kernels, runtime, [mathematics])
        answer, libraries = {"headers": str(chosen)}, [kernels]
        try:
            made = plugin_compiler.compile_for_examination(
                sources, chosen, out=Path.cwd() / "out", tell=lambda line: None
            )
        except BuildError as error:
            answer["class"] = [error.what, error.cause, error.next_step]
        else:
            host = sorted(plugin_compiler.host(gxx, chosen, system.flags).glob("*.o"))
            libraries = [made / "kernels.so", made / "plugin.so"]
            imports.refuse(libraries[1], host, [mathematics, libraries[0]])
        return answer, [np.frombuffer(path.read_bytes(), np.uint8) for path in libraries]

    def for_gpu(self, *, include: str, cuda: str, architecture: str):
        """Answers: the library's bytes."""
        sources = self._sources()
        _prepare(cuda, [])
        made = building.build_library(sources, headers.real(include), architecture=architecture, tell=lambda line: None)
        return {}, [np.frombuffer(made.read_bytes(), np.uint8)]

    def _sources(self) -> Sources:
        sources = find([self.folder / f"{self.stem}.cu", self.folder / f"{self.stem}_plugin.cpp"])
        texts = {}
        for path in (sources.kernels, sources.plugin, *sources.headers):
            try:
                texts[path.name] = path.read_bytes().decode()
            except UnicodeDecodeError as error:
                raise Refused(
                    f"{path.name} is not UTF-8 text.", f"Byte {error.start} is no text.", "Save it as UTF-8."
                ) from None
        cuda_guard.refuse(texts)
        return sources


def _headers(include: str) -> headers.Headers:
    return headers.real(include) if include else headers.stand_in(10)


def _prepare(cuda: str, prepared: list[str]) -> None:
    os.environ["COURSE_CACHE"], os.environ["CUDA_HOME"] = str(Path.cwd()), cuda
    for path in prepared:
        target = packages.kept(Path(path).name)
        target.parent.mkdir(exist_ok=True)
        if not target.is_symlink():
            target.symlink_to(path)


def main(read_fd: int, write_fd: int, memory_bytes: int, cpu_seconds: int, folder: str, stem: str) -> None:
    limit(memory_bytes, cpu_seconds)
    builder = Builder(Path(folder), stem)
    commands = {"for_cpu": builder.for_cpu, "for_gpu": builder.for_gpu}
    serve(commands, read_fd, write_fd, memory_bytes, "Look for an array or a template that is far larger than needed.")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]), *sys.argv[5:7])
