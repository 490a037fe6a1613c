"""An ONNX file, from which the grader builds its engines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from autograder.artifacts import file
from autograder.artifacts.base import Artifact, Taken
from autograder.sandbox.process import Words


@dataclass(frozen=True)
class Onnx(Artifact):
    """max_nodes: of all graphs in it. max_elements: numbers in all its tensors together.

    allow_ops: control flow (If, Loop, Scan ...) and operators of other domains ("domain.Operator") that this milestone
        needs; none is accepted otherwise.
    optimization_level: TensorRT's, of every engine that is built from it: 0 (quick build) to 5 (long search).
    """

    max_mb: float = 128
    max_nodes: int = 5_000
    max_elements: int = 64_000_000
    allow_ops: tuple[str, ...] = ()
    optimization_level: int = 2
    built: ClassVar[bool] = True
    inside: ClassVar[str] = "autograder.artifacts.onnx_inside"
    harness: ClassVar[tuple[str, ...]] = ("course", "autograder")
    words: ClassVar[Words] = Words(
        "model",
        slow="Export the given network only; it needs a fraction of this time.",
        died="Build the file with course.engine.build on your machine and watch the memory.",
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.optimization_level not in range(6):
            yield f"Its optimization_level is {self.optimization_level!r}.", "TensorRT knows 0 to 5."

    def take(self, workdir: Path, to: Path) -> Taken:
        return file.take(workdir, self.path, to, self.max_mb, refuse=file.refuse_other_than_onnx)
