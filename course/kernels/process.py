"""One call of a launcher in a process of its own, so that a crash or a hang stays there."""

from __future__ import annotations

import contextlib
import io
import json
import marshal
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


class Calls:
    """Calls of one function with the same arguments, each in a process of its own: `with Calls(...) as calls`.

    The processes are forks of one; with `wrap` each is in a sandbox of its own.

    Args:
        library: one that `compile_cu` made. seconds: limit for one call, all its repeats together.
        trace: how many accesses are recorded at most.
        wrap: puts the command into a sandbox: gets it as a list of words, returns another. The sandbox must show the
            library and this package's loader.py, and pass file descriptors on.
    """

    def __init__(
        self,
        library: str | Path,
        function: str,
        arguments: Sequence[object],
        *,
        seconds: float = 10.0,
        shared_bytes: int = 99 << 10,
        repeats: int = 1,
        trace: int = 0,
        wrap: Wrap | None = None,
    ):
        self._given = [prepared(argument, number) for number, argument in enumerate(arguments, 1)]
        self._size = 0
        for item in self._given:
            if isinstance(item, Buffer):
                item.offset, self._size = self._size, (self._size + item.bytes + 4095) // 4096 * 4096
        self._library, self._wrap, self._trace = Path(library).resolve(), wrap, trace
        self._request = {
            "function": function,
            "arguments": [item.message() for item in self._given],
            "seconds": seconds,
            "shared_bytes": shared_bytes,
            "repeats": repeats,
            "trace": trace,
        }
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> Calls:
        with contextlib.ExitStack() as files:
            self._data, self._reply, self._record = (
                files.enter_context(_memory(name, bytes_))
                for name, bytes_ in (
                    ("data", max(self._size, 1)),
                    ("reply", 0),
                    ("trace", self._trace * TRACE.itemsize),
                )
            )
            self._printed = files.enter_context(tempfile.TemporaryFile())
            self._view = np.memmap(self._data, np.uint8, "r+") if self._size else np.zeros(0, np.uint8)
            self._files = files.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._files.close()

    def call(self, order: int = 0, *, variant: int = 0, undefined: int = 0xFF) -> Reply:
        """Call it once.

        Args:
            order: 0 forward, 1 reversed, any other number seeds a random order of threads and blocks.
            variant: 0, or 1 for the same code with zero in local variables that have no value (mode checked only).
            undefined: the byte in the result of a shuffle that has none.

        Raises:
            KernelError: the arguments do not fit the function, or the process cannot be started.
        """
        for file in (self._reply, self._printed):
            file.seek(0)
            file.truncate()
        self._view[:] = 0
        for item in self._given:
            if isinstance(item, Buffer) and item.array is not None:
                self._view[item.offset : item.offset + item.bytes] = item.array.reshape(-1).view(np.uint8)
        status = self._run({**self._request, "order": order, "variant": variant, "undefined": undefined})
        self._reply.seek(0)
        said = _parsed(self._reply.read())
        if "misuse" in said:
            raise KernelError(*said["misuse"])
        if "failed" in said:
            raise KernelError("The simulated GPU could not be set up.", said["failed"], "Use smaller arrays.")
        outputs = [
            self._view[item.offset : item.offset + item.bytes].copy().view(item.dtype).reshape(item.shape)
            for item in self._given
            if isinstance(item, Buffer) and item.flags & 2
        ]
        report = said.get("report", said if "findings" in said else {})
        self._printed.seek(0)
        answer = Reply(
            report.get("findings", []),
            outputs,
            report.get("regions", []),
            report.get("shared", []),
            report.get("launched", []),
            said.get("result", -1),
            [ns / 1e9 for ns in said.get("nanoseconds", [])],
            self._printed.read(PRINTED).decode(errors="replace"),
            report.get("accesses", 0),
            traced=report.get("trace", 0),
        )
        if not said:
            answer.findings = [_lost(status, answer.printed)]
        if self._trace:
            self._record.seek(0)
            kept = self._record.read(min(answer.traced, self._trace) * TRACE.itemsize)
            answer.trace = np.frombuffer(kept, TRACE)
        return answer

    def _run(self, request: dict) -> int | None:
        """The exit status of the call; None if it had to be killed."""
        asked = marshal.dumps(json.loads(json.dumps(request)))  # numbers of NumPy as Python's
        limit = request["seconds"] + GRACE
        if self._wrap:
            return run_limited(self._wrap(self._command(-1)), asked, self._numbers(), self._printed, limit)
        process = self._process or self._start()
        with contextlib.suppress(BrokenPipeError):  # it has ended already, and its status tells
            process.stdin.write(asked)
            process.stdin.flush()
        poll = select.poll()
        poll.register(self._ended, select.POLLIN)
        ready = poll.poll(limit * 1000)  # a status, or the end of the process
        said = os.read(self._ended, 64) if ready else b""
        try:
            return int(said)
        except ValueError:
            ended = bool(ready) and _ends(process, GRACE)
            if not ended:
                _kill(process)
            self._end()
            return process.returncode if ended else None

    def _numbers(self) -> list[int]:
        return [file.fileno() for file in (self._data, self._reply, self._record)]

    def _command(self, ended: int) -> list[str]:
        numbers = map(str, (*self._numbers(), ended))
        return [sys.executable, "-I", "-S", str(LOADER), str(self._library), *numbers]

    def _start(self) -> subprocess.Popen:
        self._ended, writing = os.pipe()
        try:
            self._process = _started(
                self._command(writing), subprocess.PIPE, self._printed, (*self._numbers(), writing)
            )
        except BaseException:
            os.close(self._ended)
            raise
        finally:
            os.close(writing)
        return self._process

    def _end(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        with contextlib.suppress(OSError):
            process.stdin.close()
        if process.poll() is None and not _ends(process, GRACE):
            _kill(process)
        os.close(self._ended)


def call(
    library: str | Path, function: str, arguments: Sequence[object], *, order: int = 0, **settings: object
) -> Reply:
    """Call a function once; settings: see `Calls`, which says what is raised, too."""
    with Calls(library, function, arguments, **settings) as calls:
        return calls.call(order)


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
        process = _started(command, asked, printed, files, what)
    try:
        return process.returncode if _ends(process, limit) else None
    finally:
        if process.poll() is None:
            _kill(process)


def _started(
    command: list[str], asked: object, printed: object, files: Sequence[int], what: str = "kernel"
) -> subprocess.Popen:
    try:
        return subprocess.Popen(
            command, stdin=asked, stdout=printed, stderr=subprocess.STDOUT, pass_fds=files, start_new_session=True
        )
    except OSError as error:
        raise KernelError(
            f"The process for the {what} could not be started.", str(error), "Try again; close other programs."
        ) from error


def _kill(process: subprocess.Popen) -> None:
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
