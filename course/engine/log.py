"""TensorRT's log: to the Python logger "course.tensorrt" and to whoever captures it, never to stderr."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator

from course.engine.types import LogLine

logger = logging.getLogger("course.tensorrt")
logger.addHandler(logging.NullHandler())  # else Python prints warnings to stderr if nobody set logging up

_LEVELS = {
    "INTERNAL_ERROR": logging.CRITICAL,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "INFO": logging.INFO,
    "VERBOSE": logging.DEBUG,
}
_captures: list[Callable[[LogLine], None]] = []


def record(severity: str, text: str) -> None:
    """Hand one line to the Python logger and to every open capture."""
    logger.log(_LEVELS[severity], "%s", text)
    for receive in _captures:
        receive(LogLine(severity, text))


@functools.cache
def trt_logger(trt):
    """The one `ILogger` of this process for the module `trt` (TensorRT-RTX allows no second one)."""

    class Logger(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)

        def log(self, severity, message):
            try:
                record(severity.name, message)
            except Exception:  # from a handler, or at the end of Python: must not unwind through TensorRT
                return

    return Logger()


@contextlib.contextmanager
def capture(also: Callable[[LogLine], None] | None = None) -> Iterator[list[LogLine]]:
    """Collect the lines that are logged inside the block; `also` is called with each."""
    lines: list[LogLine] = []

    def receive(line: LogLine) -> None:
        lines.append(line)
        if also is not None:
            also(line)

    _captures.append(receive)
    try:
        yield lines
    finally:
        _captures.remove(receive)


@contextlib.contextmanager
def captured_stderr() -> Iterator[None]:
    """Turn what native code prints to stderr inside the block into log lines.

    TensorRT's ONNX parser prints some errors past its logger. Keep the block short: the whole process is
    mute.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        stderr = os.dup(2)
        try:
            os.dup2(file.fileno(), 2)
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            for text in file.read().decode(errors="replace").splitlines():
                if text.strip():
                    record("ERROR", text)


def errors(lines: list[LogLine], count: int = 3) -> str:
    """The first error lines as one sentence, for the cause of an error."""
    found = dict.fromkeys(
        " ".join(line.text.split())
        for line in lines
        if line.severity in ("ERROR", "INTERNAL_ERROR") and line.text.strip()
    )
    return " / ".join(list(found)[:count]) or "The runtime gave no reason."
