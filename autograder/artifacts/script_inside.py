"""The process that holds a learner's script. It knows the inputs that it was sent, and nothing else.

    call: a function of the script, once for each group of arrays; gives back what it returned.

Whatever the script prints goes to the log. Whatever it does to this process, the judge outside believes answers only.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from autograder.sandbox import messages
from autograder.sandbox.serve import Refused, limit, serve


def load(path: Path) -> ModuleType:
    """The script as a module of its file's name, so that it finds modules that lie beside it.

    Raises:
        Refused: it does not run; names the line.
    """
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    guarded(path, f"{path.name} does not run.", spec.loader.exec_module, module)
    return module


def guarded(path: Path, what: str, function: Callable, *arguments: object, **words: object) -> object:
    """Call learner's code; whatever it raises is told with the script's own line.

    Raises:
        Refused: it raised something, or wanted to end Python.
    """
    try:
        return function(*arguments, **words)
    except MemoryError:
        raise
    except BaseException as error:
        lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f" in line {lines[-1].lineno}: {lines[-1].line}" if lines else ""
        if isinstance(error, SyntaxError) and error.filename == str(path):
            where = f" in line {error.lineno}"
        cause = f"{type(error).__name__}{where}\n{error}" if str(error) else f"{type(error).__name__}{where}"
        raise Refused(what, cause[:800], f"Run {path.name} on your machine, and repair that line.") from None


class Script:
    def __init__(self, path: Path):
        self.path, self.module = path, None

    def call(
        self, *arrays: np.ndarray, function: str, groups: Sequence[int], settings: dict | None = None
    ) -> tuple[dict, list[np.ndarray]]:
        """Call `function` with the first groups[0] arrays, then with the next groups[1], and so on.

        settings: keywords of every call. Answers: "counts", how many arrays each call returned, and the arrays.
        """
        if self.module is None:
            self.module = load(self.path)
        found = getattr(self.module, function, None)
        if not callable(found):
            raise Refused(
                f"{self.path.name} has no function {function}.", "It is asked for by this name.", f"Write {function}."
            )
        counts, answers, given = [], [], iter(arrays)
        for count in groups:
            result = guarded(
                self.path,
                f"{function} of {self.path.name} raised an error.",
                found,
                *(next(given) for _ in range(count)),
                **(settings or {}),
            )
            several = [np.asarray(part) for part in (result if isinstance(result, (tuple, list)) else [result])]
            for part in several:
                if part.dtype.name not in messages.DTYPES:
                    raise Refused(
                        f"{function} of {self.path.name} returned no numbers.",
                        f"One answer is of dtype {part.dtype}.",
                        "Return NumPy arrays of numbers.",
                    )
            counts.append(len(several))
            answers += several
        return {"counts": counts}, answers


def keep_memory() -> None:
    """Let arrays of some MB come from memory that this process has had before, where the C library is glibc (mallopt(3)).

    From fresh pages, a run of twice as many calls takes far more than twice as long, and the time of one call, the difference
    of both (`autograder.checks.race`), says more about pages than about the function.
    """
    trim_threshold, mmap_threshold = -1, -3
    if tell := getattr(ctypes.CDLL(None), "mallopt", None):
        tell(trim_threshold, 64 << 20)
        tell(mmap_threshold, 32 << 20)


def main(read_fd: int, write_fd: int, memory_bytes: int, cpu_seconds: int, path: str) -> None:
    limit(memory_bytes, cpu_seconds)
    keep_memory()
    script = Script(Path(path))
    serve({"call": script.call}, read_fd, write_fd, memory_bytes, "Look for an array that grows at every call.")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]), sys.argv[5])
    os._exit(0)  # a thread that the script left running must not keep this process
