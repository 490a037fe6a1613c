"""Which line of the learner's file each machine instruction comes from."""

from __future__ import annotations

import bisect
import os
import re
import subprocess
from collections.abc import Sequence, Set
from pathlib import Path

from course.kernels.words import KernelError

_ROW = re.compile(r"^\S.*?\s+(?:\d+|-)\s+(0x[0-9a-f]+)", re.M)


def table(library: Path, own: Set[str]) -> tuple[list[str], list[tuple[int, int, int]]]:
    """Files and rows (address, file index, line), ascending; line 0 where no file of the learner's is.

    An instruction of a function that was inlined belongs to the innermost line in one of the learner's own files.

    Args:
        own: names of the learner's files.
    """
    decoded = _run(["objdump", "--dwarf=decodedline", str(library)])
    addresses = sorted({int(address, 16) for address in _ROW.findall(decoded)})
    if not addresses:
        return [], []
    answer = _run(["addr2line", "-a", "-i", "-e", str(library)], "\n".join(map(hex, addresses)))
    files: dict[str, int] = {}
    rows: list[tuple[int, int, int]] = []
    for part in re.split(r"^0x", answer, flags=re.M)[1:]:
        address, *frames = part.splitlines()
        row = (int(address, 16), 0, 0)
        for frame in frames:
            name, _, number = frame.rpartition(":")
            name = os.path.normpath(name)
            line = int(re.match(r"\d*", number)[0] or 0)
            if line and name in own:
                row = (row[0], files.setdefault(name, len(files)), line)
                break
        if not rows or rows[-1][1:] != row[1:]:
            rows.append(row)
    return list(files), rows


def look_up(files: Sequence[str], rows: Sequence[Sequence[int]], address: int) -> tuple[str, int]:
    """File and line of an address; ("", 0) if it is none of the learner's."""
    at = bisect.bisect_right(rows, address, key=lambda row: row[0]) - 1
    if at < 0 or not rows[at][2]:
        return "", 0
    return files[rows[at][1]], rows[at][2]


def _run(command: list[str], text: str = "") -> str:
    try:
        return subprocess.run(
            command, input=text, capture_output=True, encoding="utf-8", errors="replace", timeout=120
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelError(
            f"{command[0]} could not be run.", str(error), "Debian and Ubuntu: sudo apt install binutils."
        ) from error
