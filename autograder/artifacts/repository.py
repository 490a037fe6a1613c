"""A model repository for Triton that a learner wrote by hand: configurations and programs for the Python backend."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from autograder.artifacts import file, repository_guard
from autograder.artifacts.base import HARNESS, Artifact, Taken
from autograder.sandbox.process import Words


@dataclass(frozen=True)
class Repository(Artifact):
    """A folder with a folder for each model. A server in a box serves it (`service_inside`)."""

    max_mb: float = 200.0
    built: ClassVar[bool] = False
    inside: ClassVar[str] = "autograder.artifacts.service_inside"
    harness: ClassVar[tuple[str, ...]] = (
        *HARNESS,
        "autograder/artifacts/service_inside.py",
        "autograder/artifacts/service_relay.py",
    )
    words: ClassVar[Words] = Words(
        "service",
        slow="Start it on your machine with course.serving.Server, and look at its log.",
        died="Start it on your machine with course.serving.Server, and look at its log.",
    )
    confined: ClassVar[bool] = True

    def take(self, workdir: Path, to: Path) -> Taken:
        taken = file.take_folder(workdir, self.path, to, self.max_mb)
        repository_guard.check(taken)
        return taken
