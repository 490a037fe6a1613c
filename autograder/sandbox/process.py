"""A box: a process with limits, in bubblewrap where there is one, that answers requests over two pipes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from autograder.rejected import Rejected
from autograder.sandbox import bwrap, cgroup, messages, sockets
from course.paths import ROOT

START_S = 180.0
MOST_LOG = 64 << 10
MOST_CALLS = 4
PROCESSES = 256
OnCall = Callable[[dict, "list[np.ndarray]"], "tuple[dict, list[np.ndarray]]"]
"""Answers what a box asks while it works: the head that it sent, and arrays. Both may be anything: they are checked."""
_KEPT_VARIABLES = (
    "PATH",
    "LANG",
    "PYTHONHOME",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_HOME",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
)


class BoxBroke(Exception):
    """The box failed for a reason of its own: no fault of what is in it. Holds the end of its log."""


@dataclass(frozen=True)
class Words:
    """How a learner is told what happened in a box.

    thing: what is in it, such as "model". slow, died: next steps.
    """

    thing: str
    slow: str
    died: str


@dataclass
class Budget:
    """What all requests to some boxes may take together. seconds: of it. spent: of it, so far."""

    seconds: float
    spent: float = 0.0

    @property
    def left(self) -> float:
        """Seconds; 0 if there are none."""
        return max(0.0, self.seconds - self.spent)


class Box:
    """The process. Use it in a `with` block; it is dead afterwards, with everything it started.

    Args:
        inside: our module that runs in it (`python -m`); it gets the two pipes' numbers, the limits on memory (bytes)
            and CPU time (seconds), then `arguments`.
        sees: files and folders that it may read, besides the system's and Python's packages. Everything else of this
            machine is out of its sight.
        words: for the learner.
        memory_gb: what the process may allocate; where there are control groups, what all in the box may hold together.
        cpu_s: CPU seconds (all threads together) after which the kernel ends it.
        gpu: whether the GPU's devices are passed into the sandbox.
        confined: whether it must not run without bubblewrap, since it runs code that somebody handed in.
        budget: the time that its requests, and those to other boxes with the same one, may take together.

    `why_open` is None in bubblewrap, else the reason why there is none.

    Raises:
        NoSandboxError: it must be confined, and there is no bubblewrap.
        BoxBroke: it does not start.
    """

    def __init__(
        self,
        inside: str,
        *arguments: str,
        sees: Sequence[str | Path],
        words: Words,
        memory_gb: float,
        cpu_s: int,
        gpu: bool = False,
        confined: bool = False,
        budget: Budget | None = None,
    ):
        self.words, self._memory_gb, self._dead = words, memory_gb, None
        self._budget = budget or Budget(float("inf"))
        self.why_open = bwrap.available()
        if confined:
            bwrap.require()
        self._home = tempfile.TemporaryDirectory(prefix="grader-run-", dir=sockets.parent())  # a service has some
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        os.set_blocking(self._write, False)
        limits = (str(int(memory_gb * 2**30)), str(cpu_s))
        argv = [sys.executable, "-m", inside, str(to_read), str(to_write), *limits, *arguments]
        env = _environment(self._home.name)
        if self.why_open is None:
            argv = bwrap.bwrap(
                argv,
                rw=(self._home.name,),
                ro=(*sees, *_libraries()),
                cwd=self._home.name,
                gpu=gpu,
                mem_gb=memory_gb,
                cpu_s=cpu_s,
                env=env,
                processes=PROCESSES,
            )
            env = {}  # what is inside can read bubblewrap's own
        self._group = cgroup.make(int(memory_gb * 2**30), PROCESSES)
        if self._group:
            argv = self._group.join(argv)
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._home.name,
            env=env,
            pass_fds=(to_read, to_write),
            start_new_session=True,
        )
        os.close(to_read)
        os.close(to_write)
        self._log = bytearray()
        self._reader = threading.Thread(target=self._keep_log, daemon=True)
        self._reader.start()
        try:
            head, _ = messages.receive(self._read, deadline=time.monotonic() + START_S, most_body=0)
            if head.get("ready") is not True:
                raise messages.WireError(f"its first message was {str(head)[:200]}")
        except messages.WireError as error:
            self.close()
            raise BoxBroke(f"The box did not start: {error}\n{self.log()}") from error

    def ask(
        self,
        command: str,
        arrays: Sequence[np.ndarray] = (),
        *,
        seconds: float,
        most_answer: int = 64 << 20,
        on_call: OnCall | None = None,
        **head,
    ) -> tuple[dict, list[np.ndarray]]:
        """Send a request and wait for its answer, `seconds` at most, and no longer than the budget allows.

        Args:
            most_answer: bytes of arrays that one message from the box may have.
            on_call: answers what the box asks meanwhile (`serve.ask_outside`), MOST_CALLS times at most. What it gets
                is untrusted; the time it takes is its own. A `Rejected` from it ends the box.

        Raises:
            Rejected: what is in the box was refused, took too long, or ended the process, now or at an earlier request.
            BoxBroke: our own code in the process failed.
        """
        if self._dead is not None:
            raise self._dead
        allowed = min(seconds, self._budget.left)
        start, outside, calls = time.monotonic(), 0.0, 0
        deadline = start + allowed
        try:
            messages.send(self._write, {**head, "command": command}, arrays, deadline=deadline)
            while True:
                answer, results = messages.receive(self._read, deadline=deadline, most_body=most_answer)
                if "call" not in answer:
                    break
                calls += 1
                if on_call is None or calls > MOST_CALLS:
                    raise messages.WireError(f"it asked {'too often' if on_call else 'what nobody answers'}")
                begin = time.monotonic()
                reply, more = on_call(answer, results)
                outside += time.monotonic() - begin
                deadline = start + outside + allowed
                messages.send(self._write, reply, more, deadline=deadline)
        except messages.WireTimeout:
            self.close()
            cause = f"{command} was ended after {seconds:.0f} s."
            if allowed < seconds:
                cause = (
                    f"All that was asked of it took {self._budget.seconds:.0f} s together; {command} was ended then."
                )
            self._dead = self.too_much(command) or Rejected(
                f"The {self.words.thing} took too long.", cause, self.words.slow
            )
            raise self._dead from None
        except messages.WireError as error:
            self._dead = self._died(command, error)
            raise self._dead from error
        except Rejected as error:  # of on_call: the box still waits for an answer
            self.close()
            self._dead = error
            raise
        finally:
            self._budget.spent += time.monotonic() - start - outside
        if ("bug" in answer or "refused" in answer) and (too_much := self.too_much(command)):
            self.close()
            self._dead = too_much
            raise too_much
        if "bug" in answer:
            raise BoxBroke(f"{command}: {answer['bug']}")
        if "refused" in answer:
            refused = answer["refused"]
            whole = isinstance(refused, list) and len(refused) == 3
            raise Rejected(*(str(part)[:1000] for part in (refused if whole else (str(refused), "", self.words.died))))
        return answer, results

    @property
    def home(self) -> Path:
        """The folder that it may write, seen from here under the same name. Trust nothing that lies in it."""
        return Path(self._home.name)

    @property
    def pid(self) -> int:
        """Of bubblewrap, or of the process itself where there is none."""
        return self._process.pid

    def pause(self) -> None:
        """Stop every process in it, so that it takes no time from another one that is being timed."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def too_much(self, command: str) -> Rejected | None:
        """What the learner reads if its group's limit on memory has ended something in the box."""
        if not (self._group and self._group.exhausted()):
            return None
        return Rejected(
            f"The {self.words.thing} needs too much memory.",
            f"During {command!r}: it used more than {self._memory_gb:g} GB of memory, and was ended.",
            self.words.died,
        )

    def _signal(self, number: int) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            first = psutil.Process(self._process.pid)
            inside = first.children(recursive=True) if self.why_open is None else [first, *first.children(True)]
            for process in inside:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)

    def _died(self, command: str, error: messages.WireError) -> Rejected:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        code = self._process.poll()
        end = (
            "it was ended" if code is None else f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
        )
        self.close()
        return self.too_much(command) or Rejected(
            f"The {self.words.thing} ended the process that ran it.",
            f"During {command!r}: {error} ({end}). Its memory is limited to {self._memory_gb:g} GB.",
            self.words.died,
        )

    def _keep_log(self) -> None:
        """Only the end of what it prints is kept: it may print without end."""
        while chunk := os.read(self._process.stdout.fileno(), 1 << 16):
            self._log += chunk
            del self._log[:-MOST_LOG]

    def log(self) -> str:
        """The end of what the process and its libraries printed."""
        return bytes(self._log[-4000:]).decode(errors="replace")

    def close(self) -> None:
        """End the process and all that it started. Calling it twice is fine."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._group:
            self._group.close()
        for name in ("_read", "_write"):
            if getattr(self, name) is not None:
                os.close(getattr(self, name))
                setattr(self, name, None)
        self._reader.join(5)
        self._home.cleanup()

    def __enter__(self) -> Box:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._process.stdout.close()


def _environment(home: str) -> dict[str, str]:
    """A clean one: no secret, no student's PYTHON* variables, threads as the machine has cores."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    path = os.pathsep.join(map(str, (ROOT, *_libraries())))
    return {
        **kept,
        "HOME": home,
        "TMPDIR": home,
        "COURSE_CACHE": home,
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": str(_cores()),
    }


def _libraries() -> tuple[Path, ...]:
    """Folders of packages that the grader's own PYTHONPATH names; never the course's folder, which holds
    solutions.
    """
    folders = (Path(part) for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part)
    return tuple(path for path in folders if path.is_absolute() and path.is_dir() and not ROOT.is_relative_to(path))


def _cores() -> int:
    """Physical cores that this process may use: what ONNX Runtime takes by itself, and PyTorch gets as
    well.
    """
    allowed = len(os.sched_getaffinity(0))
    return max(1, min(psutil.cpu_count(logical=False) or allowed, allowed))
