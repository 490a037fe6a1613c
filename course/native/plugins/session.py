"""One run of a program of steps (inside.py) in a process of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from course.errors import CourseError
from course.kernels.process import run_limited
from course.native.plugins.compiler import sanitizer

LOADER = Path(__file__).resolve().parent / "inside.py"
GRACE = 20.0  # seconds for the process to start and to end, beside the program's own limit
PRINTED = 64 << 10  # bytes kept of what the plugin prints
# replace_intrin: the simulated GPU copies in memory that is closed to the host. detect_leaks: the host counts itself.
_ASAN = (
    "replace_intrin=0:detect_leaks=0:handle_segv=0:handle_sigbus=0:handle_abort=0:handle_sigill=0:handle_sigfpe=0:"
    "detect_stack_use_after_return=1:alloc_dealloc_mismatch=1:allocator_may_return_null=1"
)
Wrap = Callable[[list[str]], list[str]]
"""Puts the command into a sandbox: gets its words (with /usr/bin/env in front, which sets LD_PRELOAD for what follows only),
returns others. The sandbox must show the folder, inside.py and the libraries of `compiler.sanitizer`, and pass file
descriptors on."""


class Arrays:
    """Inputs and outputs of a program, in one file in memory."""

    def __init__(self) -> None:
        self.size = 0
        self.inputs: list[tuple[int, np.ndarray]] = []

    def put(self, array: np.ndarray) -> dict:
        """A place with these values."""
        array = np.ascontiguousarray(array)
        place = self.room(array.nbytes)
        self.inputs.append((place["offset"], array))
        return place

    def room(self, size: int) -> dict:
        """A place for an output."""
        place = {"offset": self.size, "bytes": size}
        self.size += (size + 255) // 256 * 256
        return place


@dataclass
class Answers:
    """What the process said.

    steps: one answer for each step that was done, by its number. done: it came to the end. last: the step that it began last.
    ended: why not, as the host wrote it ({"ended": how, "method": ...}), or {}. crash: the simulated GPU's report, or {}.
    status: of the process; None if it had to be killed. printed: by the plugin and by AddressSanitizer.
    """

    steps: dict[int, object] = field(default_factory=dict)
    done: bool = False
    last: int = -1
    ended: dict = field(default_factory=dict)
    crash: dict = field(default_factory=dict)
    status: int | None = 0
    printed: str = ""
    data: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))

    def output(self, place: dict, dtype: object, shape: Sequence[int]) -> np.ndarray:
        """An output's values."""
        return self.data[place["offset"] : place["offset"] + place["bytes"]].view(dtype).reshape(shape)


def run(
    folder: Path,
    steps: Sequence[dict],
    arrays: Arrays,
    *,
    seconds: float = 10.0,
    order: int = 0,
    wrap: Wrap | None = None,
) -> Answers:
    """Drive the plugin in `folder` through the steps.

    Args:
        seconds: limit for all steps together. order: of threads, as in `course.kernels`.

    Raises:
        CourseError: the process cannot be started, or cannot load the plugin.
    """
    with contextlib.ExitStack() as files:
        data, reply, crash = (files.enter_context(_memory(name)) for name in ("data", "reply", "crash"))
        os.ftruncate(data.fileno(), max(1, arrays.size))
        printed = files.enter_context(tempfile.TemporaryFile())
        view = np.memmap(data, np.uint8, "r+")
        for offset, array in arrays.inputs:
            view[offset : offset + array.nbytes] = array.reshape(-1).view(np.uint8)
        program = {"steps": list(steps), "seconds": seconds, "order": order, "shared_bytes": 99 << 10}
        numbers = [file.fileno() for file in (data, reply, crash)]
        environment = ["/usr/bin/env", f"LD_PRELOAD={sanitizer()}", f"ASAN_OPTIONS={_ASAN}"]
        if wrap is None:  # a grader's notebook has a limit on data that is far below what the sanitizer reserves
            environment = ["/bin/sh", "-c", 'ulimit -S -d "$(ulimit -H -d)"; exec "$@"', "sh", *environment]
        command = [*environment, sys.executable, "-I", "-S", str(LOADER), str(folder.resolve()), *map(str, numbers)]
        status = run_limited(
            wrap(command) if wrap else command,
            json.dumps(program).encode(),
            numbers,
            printed,
            seconds + GRACE,
            "plugin",
        )
        printed.seek(0)
        answers = Answers(status=status, printed=printed.read(PRINTED).decode(errors="replace"), data=np.array(view))
        for line in _lines(reply):
            if "step" in line:
                answers.last = line["step"]
            elif "answer" in line:
                answers.steps[answers.last] = line["answer"]
            elif "ended" in line:
                answers.ended = line
            elif "done" in line:
                answers.done = True
        for line in _lines(crash):
            answers.crash = line
    if answers.last < 0 and not answers.ended and not answers.crash:
        raise CourseError(
            "The plugin could not be loaded.",
            answers.printed.strip()[-400:] or f"The process ended with status {status}.",
            "A global variable's constructor or a missing function is the usual reason.",
        )
    return answers


def _lines(file: io.FileIO) -> Iterator[dict]:
    file.seek(0)
    for line in file.read().splitlines():
        with contextlib.suppress(ValueError):
            if isinstance(message := json.loads(line), dict):
                yield message


def _memory(name: str) -> io.FileIO:
    return io.FileIO(os.memfd_create(f"plugin-{name}"), "r+")
