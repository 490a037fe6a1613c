"""A TensorRT plugin in C++ and CUDA that a learner wrote by hand: compiled in one box, run in others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from autograder.artifacts import file
from autograder.artifacts.base import HARNESS, Artifact, Taken
from autograder.sandbox.process import Words

COMPILES = (
    "course/__init__.py",
    "course/errors.py",
    "course/files.py",
    "course/paths.py",
    "course/text.py",
    "course/kernels",
    "course/native",
)
"""What compiles it: no lesson, no exercise, no reference."""


@dataclass(frozen=True)
class CudaPlugin(Artifact):
    """A folder with x.cu (kernels and extern "C" launchers), x.cuh (their declarations) and x_plugin.cpp (the class).

    stem: the x. Other headers may lie beside them; other files are not looked at.
    """

    stem: str = ""
    max_mb: float = 0.5
    built: ClassVar[bool] = False
    inside: ClassVar[str] = "autograder.artifacts.cuda_plugin_inside"
    harness: ClassVar[tuple[str, ...]] = (
        *HARNESS,
        "autograder/artifacts/cuda_plugin_inside.py",
        "autograder/artifacts/cuda_guard.py",
        "autograder/artifacts/imports.py",
        *COMPILES,
    )
    words: ClassVar[Words] = Words(
        "plugin",
        slow="Look for a template or a constexpr function that never ends; the compiler needs seconds.",
        died="Compile it on your machine with course.native.plugin.examine.",
    )
    confined: ClassVar[bool] = True

    def problems(self):
        yield from super().problems()
        if not self.stem.isidentifier():
            yield f"Its stem is {self.stem!r}.", "Give the x of x.cu and x_plugin.cpp."

    def take(self, workdir: Path, to: Path) -> Taken:
        return file.take_folder(workdir, self.path, to, self.max_mb, max_files=30)
