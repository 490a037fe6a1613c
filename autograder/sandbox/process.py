"""Starting, asking and ending the process that holds an artifact (`autograder.artifacts.onnx_inside`)."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autograder.rejected import Rejected
from autograder.sandbox import messages
from course.paths import ROOT

START_S = 180.0
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


class RunnerBroke(Exception):
    """The measuring process failed for a reason of its own: no fault of the artifact. Holds the process's
    log.
    """


class Runner:
    """The process. Use it in a `with` block; it is dead afterwards, with everything it started.

    Args:
        model: the private copy of the artifact, the only file in its folder.
        memory_gb: what the process may allocate.
        cpu_s: CPU seconds (all threads together) after which the kernel ends it.
        gpu: whether the GPU's devices are passed into the sandbox.
        package: top-level package of the reference, which the sandbox shows beside the course.

    `sandboxed` says whether bubblewrap holds it; `why_open` the reason if not.
    """

    def __init__(self, model: Path, *, memory_gb: float, cpu_s: int, gpu: bool, package: str = "course"):
        self._home = tempfile.TemporaryDirectory(prefix="grader-run-")
        self._log = tempfile.TemporaryFile()
        self._memory_gb = memory_gb
        self._dead: Rejected | None = None
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        os.set_blocking(self._write, False)
        argv = [
            sys.executable,
            "-m",
            "autograder.artifacts.onnx_inside",
            str(to_read),
            str(to_write),
            str(model),
            str(int(memory_gb * 2**30)),
            str(cpu_s),
        ]
        env = _environment(self._home.name)
        argv, self.why_open = boxed(argv, model.parent, self._home.name, env, memory_gb, cpu_s, gpu, package)
        self.sandboxed = self.why_open is None
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            cwd=self._home.name,
            env=env,
            pass_fds=(to_read, to_write),
            start_new_session=True,
        )
        os.close(to_read)
        os.close(to_write)
        try:
            head, _ = messages.receive(self._read, deadline=time.monotonic() + START_S, most_body=0)
            if head.get("ready") is not True:
                raise messages.WireError(f"its first message was {str(head)[:200]}")
        except messages.WireError as error:
            self.close()
            raise RunnerBroke(f"The measuring process did not start: {error}\n{self.log()}") from error

    def ask(
        self,
        command: str,
        arrays: Sequence[np.ndarray] = (),
        *,
        seconds: float,
        most_answer: int = 64 << 20,
        **head,
    ) -> tuple[dict, list[np.ndarray]]:
        """Send a request and wait for its answer, `seconds` at most.

        Raises:
            Rejected: the artifact was refused, took too long, or ended the process, now or at an earlier request.
            RunnerBroke: our own code in the process failed.
        """
        if self._dead is not None:
            raise self._dead
        deadline = time.monotonic() + seconds
        try:
            messages.send(self._write, {**head, "command": command}, arrays, deadline=deadline)
            answer, results = messages.receive(self._read, deadline=deadline, most_body=most_answer)
        except messages.WireTimeout:
            self.close()
            self._dead = Rejected(
                "The model took too long.",
                f"{command} was ended after {seconds:.0f} s.",
                "Export the given network only; it needs a fraction of this time.",
            )
            raise self._dead from None
        except messages.WireError as error:
            self._dead = self._died(command, error)
            raise self._dead from error
        if "bug" in answer:
            raise RunnerBroke(f"{command}: {answer['bug']}")
        if "refused" in answer:
            raise Rejected(*(str(part)[:1000] for part in answer["refused"]))
        return answer, results

    def _died(self, command: str, error: messages.WireError) -> Rejected:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        code = self._process.poll()
        end = (
            "it was ended" if code is None else f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
        )
        self.close()
        return Rejected(
            "The model ended the process that ran it.",
            f"During {command!r}: {error} ({end}). Its memory is limited to {self._memory_gb:g} GB.",
            "Build the file with course.engine.build on your machine and watch the memory.",
        )

    def log(self) -> str:
        """The end of what the process and its libraries printed."""
        self._log.seek(max(0, os.fstat(self._log.fileno()).st_size - 4000))
        return self._log.read().decode(errors="replace")

    def close(self) -> None:
        """End the process and all that it started. Calling it twice is fine."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for name in ("_read", "_write"):
            if getattr(self, name) is not None:
                os.close(getattr(self, name))
                setattr(self, name, None)
        self._home.cleanup()

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._log.close()


def boxed(
    argv: list[str],
    model_folder: Path,
    home: str,
    env: dict[str, str],
    memory_gb: float,
    cpu_s: int,
    gpu: bool,
    package: str,
) -> tuple[list[str], str | None]:
    """The command line inside bubblewrap, and None; or the plain one, and the reason why there is no sandbox.

    Without it the artifact is still only data, in a process of its own with limits; a flaw in ONNX Runtime or
    TensorRT would be a way out.
    """
    try:
        sandbox = importlib.import_module("autograder.sandbox.bwrap")
    except ModuleNotFoundError:
        return argv, "this copy of the grader has no sandbox module"
    if reason := sandbox.available():
        return argv, reason
    ours = (*(ROOT / name for name in sorted({"course", "autograder", package})), *_libraries())
    return sandbox.bwrap(
        argv, rw=(home,), ro=(*ours, model_folder), cwd=home, gpu=gpu, mem_gb=memory_gb, cpu_s=cpu_s, env=env
    ), None


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
    import psutil

    allowed = len(os.sched_getaffinity(0))
    return max(1, min(psutil.cpu_count(logical=False) or allowed, allowed))
