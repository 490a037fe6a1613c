"""The loop inside a box: answer the grader's requests until its pipe closes. Imports nothing of the course."""

from __future__ import annotations

import os
import resource
import traceback
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from autograder.sandbox import messages

Command = Callable[..., tuple[dict, list[np.ndarray]]]
"""Takes the request's arrays, and its head as keywords; gives the answer's head and arrays."""


_pipes: tuple[int, int] | None = None


class Refused(Exception):
    """What was handed in is to blame: what, cause and next step go to the learner."""

    def __init__(self, what: str, cause: str, next_step: str):
        super().__init__(what)
        self.what, self.cause, self.next_step = what, cause, next_step


def limit(memory_bytes: int, cpu_seconds: int) -> None:
    """Limits that hold without bubblewrap as well: memory, CPU time, the size of a file, no core dump."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 30, 2 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def ask_outside(call: str, arrays: Sequence[np.ndarray] = (), **head: object) -> tuple[dict, list[np.ndarray]]:
    """Ask the judge something while a command is at work; it answers a few times only (`Box.ask`, on_call).

    Raises:
        RuntimeError: no command is at work.
    """
    if _pipes is None:
        raise RuntimeError("nobody outside is waiting")
    read_fd, write_fd = _pipes
    messages.send(write_fd, {**head, "call": call}, arrays)
    return messages.receive(read_fd)


def serve(commands: Mapping[str, Command], read_fd: int, write_fd: int, memory_bytes: int, out_of_memory: str) -> None:
    """Answer requests until the pipe closes.

    An error that has `what`, `cause` and `next_step` (`Refused`, and every `CourseError`) is the artifact's; any other
    is ours.

    Args:
        out_of_memory: the next step for who needed more memory than `memory_bytes`.
    """

    def too_much() -> list[str]:
        return ["It needs too much memory.", f"The limit is {memory_bytes / 2**30:.1f} GB.", out_of_memory]

    global _pipes
    messages.send(write_fd, {"ready": True, "pid": os.getpid()})
    while True:
        try:
            head, arrays = messages.receive(read_fd)
        except messages.WireError:
            return
        results: list[np.ndarray] = []
        _pipes = read_fd, write_fd
        try:
            answer, results = commands[head.pop("command")](*arrays, **head)
        except MemoryError:
            answer = {"refused": too_much()}
        except Exception as error:
            if hasattr(error, "next_step"):
                grown = "bad_alloc" in error.cause or "Failed to allocate memory" in error.cause
                answer = {"refused": too_much() if grown else [error.what, error.cause, error.next_step]}
            else:
                answer = {"bug": traceback.format_exc()}
        finally:
            _pipes = None
        messages.send(write_fd, answer, results)
