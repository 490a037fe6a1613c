"""The run box: a compiled library of a learner's, our loader, fresh inputs, and nothing else.

`course.kernels` and `course.native.plugins` start a process for each call, with arrays in open files; `wrapper` puts each
of them into bubblewrap. There is no compiler in it, no source, no reference, no secret and no network. It starts no further
process. Its memory is limited as a whole: by a control group, where this user may make one (`cgroup`). Everywhere:

- what it keeps in files: /tmp and /dev/shm are in memory and have a size; a file has one, too;
- what it keeps in memory that no limit of a single process counts: `seccomp` refuses it;
- all the rest, where there is no group: added up from outside (`supervise`), since RLIMIT_DATA would count the addresses
  that AddressSanitizer and the simulated GPU only reserve.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from autograder.sandbox import bwrap, cgroup, seccomp

MEMORY_GB = 1.0
TEMPORARY_GB = 0.0625
CPU_S = 120
PROCESSES = 16
SUPERVISE = Path(__file__).with_name("supervise.py")
COMPILERS = ("/usr/lib/gcc", "/usr/libexec", "/usr/include", "/usr/local", "/usr/share", "/usr/src")
"""Empty inside: what a compiler driver needs to do anything."""


def wrapper(
    *shows: str | Path, memory_gb: float = MEMORY_GB, hide: Sequence[str] = COMPILERS
) -> Callable[[list[str]], list[str]]:
    """What puts a command into a box: gets its words, returns others.

    Args:
        shows: files and folders that it may read, besides the system's and Python's.
        memory_gb: GiB that all of it may hold.
        hide: folders of the system that are empty inside.

    Raises:
        NoSandboxError: there is no bubblewrap.
    """
    bwrap.require()
    hidden = [path for path in hide if not any(Path(each).is_relative_to(path) for each in (sys.prefix, *_homes()))]
    place = None if cgroup.available() else cgroup.find()
    group = [str(place.version), str(place.memory), str(place.pids or "")] if place else ["0", "", ""]

    def wrap(command: list[str]) -> list[str]:
        line = bwrap.bwrap(
            command,
            ro=shows,
            mem_gb=TEMPORARY_GB,
            data_gb=None,
            cpu_s=CPU_S,
            processes=PROCESSES,
            files=64,
            file_gb=TEMPORARY_GB,
            hide=hidden,
        )
        limits = [str(int(memory_gb * 2**30)), str(PROCESSES), *group, seccomp.program().hex()]
        return [sys.executable, "-I", "-S", str(SUPERVISE), *limits, *line]

    return wrap


def _homes() -> tuple[str, ...]:
    return (sys.base_prefix, str(Path(sys.executable).resolve()))
