"""The files of control groups: make a group, enter it, ask it, remove it. `cgroup` finds out where that is possible.

Of Python's standard library what a bare start has loaded anyway: `supervise` starts for each call of a learner's kernel,
and `dataclasses`, `pathlib`, `re` and `subprocess` would take it longer than the call does.
"""

import os
import time

TASKS = 4
"""Tasks for each process that a box may have: threads count in a group."""
END_S = 5.0
FULL = 0.9
KILL = 9  # signal.SIGKILL, without what `signal` loads


def new_name() -> str:
    """With the process that makes it: `cgroup.sweep` removes it when that has ended."""
    return f"trt-course-{os.getpid()}-{os.urandom(4).hex()}"


def create(version: int, memory: str, pids: str, memory_bytes: int, processes: int) -> None:
    """Make the group's folders `memory` and `pids` ("": none; the same one in version 2), with limits.

    memory_bytes: that all in it may hold together; none of it in swap, where the kernel counts swap.
    processes: that may run in it at once; the limit is for TASKS times as many tasks.
    Raises OSError; then nothing is left.
    """
    folders = both(memory, pids)
    try:
        for folder in folders:
            os.mkdir(folder)
        if version == 2:
            put(f"{memory}/memory.max", memory_bytes)
            wishes = [("memory.swap.max", 0), ("memory.oom.group", 1)]  # one is ended: all are
        else:
            put(f"{memory}/memory.limit_in_bytes", memory_bytes)
            wishes = [("memory.memsw.limit_in_bytes", memory_bytes)]
        for name, value in wishes:
            try:
                put(f"{memory}/{name}", value)
            except OSError:  # kernels without swap accounting
                pass
        if pids:
            put(f"{pids}/pids.max", TASKS * processes)
    except OSError:
        close(folders)
        raise


def both(memory: str, pids: str) -> list[str]:
    """The group's folders, each once."""
    return [memory] if pids in ("", memory) else [memory, pids]


def enter(folders: list[str]) -> None:
    """Put this process into the group. Raises OSError."""
    for folder in folders:
        put(f"{folder}/cgroup.procs", os.getpid())


def exhausted(version: int, memory: str) -> bool:
    """Whether the limit on memory has ended something in the group. (Where the whole machine runs out of memory, the
    kernel may end it as well, without its fault.) False for a group that is gone.
    """
    counts = {"oom": 0, "oom_kill": 0}
    try:
        if version == 2:
            events = get(f"{memory}/memory.events")
        else:
            events = get(f"{memory}/memory.oom_control")
            most, limit = (int(get(f"{memory}/memory.{name}_in_bytes")) for name in ("max_usage", "limit"))
            counts["oom"] = int(most > FULL * limit)  # Linux 6.18 leaves memory.failcnt at 0
        for line in events.splitlines():
            name, _, count = line.partition(" ")
            if name in counts:
                counts[name] = int(count)
    except (OSError, ValueError):
        pass
    return min(counts.values()) > 0


def close(folders: list[str]) -> None:
    """End what is in a group and remove it. Calling it twice is fine. What cannot be removed now, `cgroup.sweep` removes
    later.
    """
    deadline = time.monotonic() + END_S
    while any([_remove(folder) for folder in folders]) and time.monotonic() < deadline:
        time.sleep(0.002)


def members(folder: str) -> list[int]:
    """The processes in a group; 0 is one of another PID namespace."""
    try:
        return [int(pid) for pid in get(f"{folder}/cgroup.procs").split()]
    except OSError:
        return []


def _remove(folder: str) -> bool:
    """Kill what is in a group and remove it; whether it is still there."""
    inside = members(folder)
    if inside and os.path.exists(f"{folder}/cgroup.kill"):
        try:
            put(f"{folder}/cgroup.kill", 1)
        except OSError:
            pass
    for pid in inside:
        try:
            os.kill(pid, KILL)
        except OSError:
            pass
    try:
        os.rmdir(folder)
    except OSError:
        pass
    return os.path.isdir(folder)


def put(path: str, value: int) -> None:
    with open(path, "w") as file:
        file.write(str(value))


def get(path: str) -> str:
    with open(path) as file:
        return file.read()
