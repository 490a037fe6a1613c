"""One call of a launcher in a process of its own, so that a crash or a hang stays there."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from course.kernels.arguments import Buffer, prepared
from course.kernels.words import KernelError

LOADER = Path(__file__).resolve().parent / "loader.py"
GRACE = 10.0  # seconds for the process to start and to report, beside the call's own limit
PRINTED = 64 << 10  # bytes kept of what kernels print
TRACE = np.dtype(
    [
        ("offset", "<u8"),
        ("block", "<u4"),
        ("pc", "<u4"),
        ("thread", "<u2"),
        ("region", "<i2"),
        ("size", "u1"),
        ("flags", "u1"),
        ("launch", "<u2"),
    ]
)
"""One access, as the checker writes it (struct Trace in shim/state.h)."""
Wrap = Callable[[list[str]], list[str]]


@dataclass
class Reply:
    """What the process said.

    findings: as the checker wrote them (`report.py` puts them into words). outputs: of `out` and `inout`, in the order
    of the arguments. launched: kernels. result: what the launcher returned. seconds: of each call. printed: by kernels
    and launcher.
    """

    findings: list[dict]
    outputs: list[np.ndarray]
    names: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
    launched: list[str] = field(default_factory=list)
    result: int = 0
    seconds: list[float] = field(default_factory=list)
    printed: str = ""
    accesses: int = 0
    trace: np.ndarray | None = None
    traced: int = 0


def call(
    library: str | Path,
    function: str,
    arguments: Sequence[object],
    *,
    order: int = 0,
    seconds: float = 10.0,
    shared_bytes: int = 99 << 10,
    repeats: int = 1,
    trace: int = 0,
    variant: int = 0,
    undefined: int = 0xFF,
    wrap: Wrap | None = None,
) -> Reply:
    """Call `function` of a library that `compile_cu` made.

    Args:
        order: 0 forward, 1 reversed, any other number seeds a random order of threads and blocks.
        seconds: limit for all calls together.
        trace: how many accesses are recorded at most.
        variant: 0, or 1 for the same code with zero in local variables that have no value (mode checked only).
        undefined: the byte in the result of a shuffle that has none.
        wrap: puts the command into a sandbox: gets it as a list of words, returns another. The sandbox must show the
            library and this package's loader.py, and pass file descriptors on.

    Raises:
        KernelError: the arguments do not fit the function, or the process cannot be started.
    """
    given = [prepared(argument, number) for number, argument in enumerate(arguments, 1)]
    size = 0
    for item in given:
        if isinstance(item, Buffer):
            item.offset, size = size, (size + item.bytes + 4095) // 4096 * 4096
    with contextlib.ExitStack() as files:
        data, reply, record = (
            files.enter_context(_memory(name, bytes_))
            for name, bytes_ in (("data", max(size, 1)), ("reply", 0), ("trace", trace * TRACE.itemsize))
        )
        printed = files.enter_context(tempfile.TemporaryFile())
        view = np.memmap(data, np.uint8, "r+") if size else np.zeros(0, np.uint8)
        for item in given:
            if isinstance(item, Buffer) and item.array is not None:
                view[item.offset : item.offset + item.bytes] = item.array.reshape(-1).view(np.uint8)
        request = {
            "function": function,
            "arguments": [item.message() for item in given],
            "order": order,
            "seconds": seconds,
            "shared_bytes": shared_bytes,
            "repeats": repeats,
            "trace": trace,
            "variant": variant,
            "undefined": undefined,
        }
        numbers = [file.fileno() for file in (data, reply, record)]
        command = [sys.executable, "-I", "-S", str(LOADER), str(Path(library).resolve()), *map(str, numbers)]
        status = run_limited(
            wrap(command) if wrap else command, json.dumps(request).encode(), numbers, printed, seconds + GRACE
        )
        reply.seek(0)
        said = _parsed(reply.read())
        if "misuse" in said:
            raise KernelError(*said["misuse"])
        if "failed" in said:
            raise KernelError("The simulated GPU could not be set up.", said["failed"], "Use smaller arrays.")
        outputs = [
            view[item.offset : item.offset + item.bytes].copy().view(item.dtype).reshape(item.shape)
            for item in given
            if isinstance(item, Buffer) and item.flags & 2
        ]
        report = said.get("report", said if "findings" in said else {})
        printed.seek(0)
        answer = Reply(
            report.get("findings", []),
            outputs,
            report.get("regions", []),
            report.get("shared", []),
            report.get("launched", []),
            said.get("result", -1),
            [ns / 1e9 for ns in said.get("nanoseconds", [])],
            printed.read(PRINTED).decode(errors="replace"),
            report.get("accesses", 0),
            traced=report.get("trace", 0),
        )
        if not said:
            answer.findings = [_lost(status, answer.printed)]
        if trace:
            record.seek(0)
            answer.trace = np.frombuffer(record.read(min(answer.traced, trace) * TRACE.itemsize), TRACE)
        return answer


def _memory(name: str, size: int) -> io.FileIO:
    """A file in memory, all zero."""
    file = io.FileIO(os.memfd_create(f"cuda-{name}"), "r+")
    os.ftruncate(file.fileno(), size)
    return file


def run_limited(
    command: list[str], request: bytes, files: Sequence[int], printed: object, limit: float, what: str = "kernel"
) -> int | None:
    """Run a program in a session of its own, with `request` on stdin and `files` open.

    limit: seconds. what: whom it serves, for the message.

    Returns: the exit status; None if it had to be killed.

    Raises:
        KernelError: it could not be started.
    """
    with _memory("request", 0) as asked:
        asked.write(request)
        asked.seek(0)
        try:
            process = subprocess.Popen(
                command,
                stdin=asked,
                stdout=printed,
                stderr=subprocess.STDOUT,
                pass_fds=files,
                start_new_session=True,
            )
        except OSError as error:
            raise KernelError(
                f"The process for the {what} could not be started.", str(error), "Try again; close other programs."
            ) from error
    try:
        return process.returncode if _ends(process, limit) else None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _ends(process: subprocess.Popen, seconds: float) -> bool:
    """Wait for its end, which is noticed at once: `Popen.wait` with a limit looks twenty times a second, and a call
    takes no longer than that.
    """
    try:
        pidfd = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # Linux before 5.3
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        return process.poll() is not None
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return False
    finally:
        os.close(pidfd)
    process.wait()
    return True


def _parsed(text: bytes) -> dict:
    try:
        return json.loads(text)
    except ValueError:
        return {}


def _lost(status: int | None, printed: str) -> dict:
    """The finding for a process that ended without a word."""
    if status is None:
        return {"kind": "timeout"}
    if status == -signal.SIGXFSZ:
        return {"kind": "crash", "signal": int(signal.SIGXFSZ), "last_words": "It printed more than 64 MB."}
    return {"kind": "crash", "signal": -status if status < 0 else 0, "last_words": printed.strip()[-300:]}
