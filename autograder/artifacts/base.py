"""What may be handed in: a kind of artifact is one class in a module of this folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from autograder.sandbox.process import Words

HARNESS = (
    "autograder/__init__.py",
    "autograder/artifacts/__init__.py",
    "autograder/sandbox/__init__.py",
    "autograder/sandbox/messages.py",
    "autograder/sandbox/serve.py",
)
"""What a module inside a box needs to answer the grader, and no more. Add that module itself."""


@dataclass(frozen=True)
class Taken:
    """A private copy, which nobody else can write: a file, or a folder of plain files.

    name: the learner's path, for messages. sha256: of the file, or of a folder's names and contents.
    """

    name: str
    path: Path
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Artifact(ABC):
    """A file or folder that is handed in. Parameters of a kind come as further fields.

    path: below the notebook's folder. max_mb: 10^6 bytes, all files together.

    A kind sets:
    built: the notebook makes it, so it is removed before the notebook runs: one that came along might be anybody's. A
        kind that is written by hand says False, and survives the run.
    inside: our module that opens or runs it in a box; without one, no check can ask for a box. Its `main` gets the two
        pipes' numbers, the limits on memory (bytes) and CPU time (s), and the path of the copy; see `script_inside`.
    words: what a learner reads about that box.
    harness: what that module needs of this project, from its top folder; the box sees this much of it.
    confined: it is a program, so that box must be bubblewrap's.
    """

    path: str
    max_mb: float = 1.0
    built: ClassVar[bool]
    inside: ClassVar[str] = ""
    words: ClassVar[Words] = Words("file", slow="Make it smaller.", died="Make it again.")
    harness: ClassVar[tuple[str, ...]] = ()
    confined: ClassVar[bool] = False

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong with the declaration, and what it must be like."""
        if any(part in ("", ".", "..") for part in self.path.split("/")):
            yield (
                f"The artifact {self.path!r} is no plain path.",
                "Give a path below the notebook's folder, such as artifacts/model.onnx.",
            )
        if not isinstance(getattr(type(self), "built", None), bool):
            yield f"{type(self).__name__} does not say whether the notebook makes it.", "Set `built` to True or False."
        if not self.max_mb > 0:
            yield f"The artifact {self.path!r} has max_mb={self.max_mb}.", "It must be above 0."

    @abstractmethod
    def take(self, workdir: Path, to: Path) -> Taken:
        """Copy it into the empty folder `to`.

        Raises:
            Rejected: it is missing, or not what it must be; says what was found and what to do.
        """
