"""Python that a learner wrote by hand: it runs in a box, and sees what a check gives it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from autograder.artifacts import file
from autograder.artifacts.base import HARNESS, Artifact, Taken
from autograder.rejected import Rejected
from autograder.sandbox.process import Words


@dataclass(frozen=True)
class Script(Artifact):
    """A module, such as calibrator.py. The check asks its functions, one request at a time (`script_inside`)."""

    max_mb: float = 0.2
    built: ClassVar[bool] = False
    inside: ClassVar[str] = "autograder.artifacts.script_inside"
    harness: ClassVar[tuple[str, ...]] = (*HARNESS, "autograder/artifacts/script_inside.py")
    words: ClassVar[Words] = Words(
        "script",
        slow="Look for a loop without an end, and for work that is done again at every call.",
        died="Run it on your machine: it must neither end Python nor crash it.",
    )
    confined: ClassVar[bool] = True

    def take(self, workdir: Path, to: Path) -> Taken:
        return file.take(workdir, self.path, to, self.max_mb, refuse=_refuse_other_than_text)


def _refuse_other_than_text(name: str, data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Rejected(f"{name} is not UTF-8 text.", f"Byte {error.start} is no text.", "Save it as UTF-8.") from error
    if "\0" in text:
        raise Rejected(f"{name} is not Python.", "It holds zero bytes.", "Hand in the text of the script.")
