"""Progress of a build, its cancellation, and a Ctrl-C that never lands inside native code."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator

from course.engine.types import BuildProgress, LogLine
from course.errors import BuildError

# What TensorRT's log says when it moves on; without IProgressMonitor (8.6) this is all there is.
_LOG_PHASES = (
    (re.compile(r"^Applying generic optimizations"), "Optimise the graph"),
    (re.compile(r"^=+ Computing costs for"), "Time kernels"),
    (re.compile(r"^Formats and tactics selection completed"), "Generate the engine"),
    (re.compile(r"^Engine generation completed"), "Serialise"),
)
_LAYER_COUNT = re.compile(r"^After [\w\- ]+: (\d+) layers")


class Progress:
    """Passes phases on to the caller's function and remembers that it, or a Ctrl-C, said stop."""

    def __init__(self, report: Callable[[BuildProgress], bool] | None):
        self._report = report
        self._start = time.perf_counter()
        self.stopped = False
        self.error: BaseException | None = None
        self._layers: int | None = None
        self._phase, self._step = "", 0

    @property
    def seconds(self) -> float:
        """Since the build began."""
        return time.perf_counter() - self._start

    def tell(self, phase: str, step: int = 0, steps: int | None = None, parent: str | None = None) -> bool:
        """Report; False says that the build should stop. Safe to call from native code: it never raises."""
        if self._report is not None and not self.stopped:
            try:
                answer = self._report(BuildProgress(phase, step, steps, self.seconds, parent))
            except BaseException as error:  # an exception must not unwind through TensorRT
                self.error = error
            if self.error is not None or answer is False:
                self.stopped = True
        return not self.stopped

    def stop(self) -> None:
        """Ask the build to end as soon as the runtime allows."""
        self.stopped = True

    def follow_log(self, line: LogLine) -> None:
        """Derive phases from log lines."""
        if count := _LAYER_COUNT.match(line.text):
            self._layers = int(count[1])
        for pattern, phase in _LOG_PHASES:
            if pattern.match(line.text):
                self._step = self._step + 1 if phase == self._phase else 0
                self._phase = phase
                self.tell(phase, self._step, self._layers if phase == "Time kernels" else None, "Build")

    def check(self, name: str) -> None:
        """Raise what stopped the build, if anything did.

        Raises:
            BuildError: the caller's function returned False.
            Exception: what the caller's function raised.
        """
        if self.error is not None:
            raise self.error
        if self.stopped:
            raise BuildError(
                f"The build of {name} was cancelled after {self.seconds:.1f} s.",
                "The progress function returned False.",
                "Build again when you want the engine.",
            )


@contextlib.contextmanager
def ctrl_c_waits(stop: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Inside the block Ctrl-C only calls `stop`; KeyboardInterrupt is raised when the block ends.

    Raised in the middle of a TensorRT callback it would end the whole process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread only
        return
    pressed = []

    def remember(*_):
        pressed.append(True)
        stop()

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt
