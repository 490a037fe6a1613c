"""TensorRT's headers: the real ones where they are, else the course's stand-in with the same names."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from course.errors import MissingFileError
from course.native import toolchain

STAND_IN = Path(__file__).resolve().parent / "stand_in"
GENERATIONS = (8, 10, 11)
"""Major versions whose API the stand-in shows."""


@dataclass(frozen=True)
class Headers:
    """A folder with NvInfer.h.

    version: as "10.16.1". real: TensorRT's own; the stand-in is good for the examination only.
    """

    folder: Path
    version: str
    real: bool

    @property
    def major(self) -> int:
        """The generation: a plugin built with these headers works in a TensorRT of the same one only."""
        return int(self.version.split(".")[0])

    @property
    def flags(self) -> list[str]:
        """The compiler's options."""
        return [*([] if self.real else [f"-DCOURSE_TENSORRT={self.major}"]), "-isystem", str(self.folder)]

    def __str__(self) -> str:
        return f"TensorRT {self.version}" if self.real else f"the course's stand-in for TensorRT {self.major}"


def real(folder: str | Path | None = None) -> Headers:
    """TensorRT's own headers.

    Args:
        folder: where; by default TENSORRT_INCLUDE_DIR, TENSORRT_ROOT/include, then the system's folders.

    Raises:
        MissingFileError: there are none; says the ways to get them.
    """
    found = Path(folder) if folder else toolchain.find().headers
    version = found and read_version(found)
    if not found or not version:
        raise MissingFileError(
            "TensorRT's headers (NvInfer.h) are not here.",
            f"{found} holds none." if found else "TENSORRT_INCLUDE_DIR is not set, and the system's folders hold none.",
            "One of these: NVIDIA's deb or tar package of TensorRT; NVIDIA's container, where they lie in\n"
            "    /usr/include/x86_64-linux-gnu; the folder include/ of github.com/NVIDIA/TensorRT at the tag of your\n"
            "    version. Wheels hold none. Then set TENSORRT_INCLUDE_DIR to the folder and start Jupyter again.",
        )
    return Headers(found.resolve(), version, True)


def stand_in(major: int = 10) -> Headers:
    """The course's own, which show the API of TensorRT 8, 10 or 11."""
    return Headers(STAND_IN, {8: "8.6.1", 10: "10.16.1", 11: "11.1.0"}[major], False)


def best() -> Headers:
    """The real ones where they are, else the stand-in for TensorRT 10 (COURSE_TENSORRT names another)."""
    try:
        return real()
    except MissingFileError:
        return stand_in(int(os.environ.get("COURSE_TENSORRT", "10")))


def read_version(folder: Path) -> str:
    """Of the headers in a folder, as "10.16.1"; "" if they say none."""
    try:
        text = (folder / "NvInferVersion.h").read_text(errors="replace")
    except OSError:
        return ""
    numbers = []
    for part in ("MAJOR", "MINOR", "PATCH"):
        found = re.search(rf"define (?:NV_TENSORRT_{part}|TRT_{part}_ENTERPRISE) (\d+)", text)
        if found is None:
            return ""
        numbers.append(found[1])
    return ".".join(numbers)
