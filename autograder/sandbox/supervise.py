"""Starts one run box and watches it. Python's standard library only.

    python -I -S supervise.py MEMORY_BYTES PROCESSES FILTER_HEX bwrap ...

PROCESSES: of the control group that the box gets (`cgroup`), or 0 where there is none. FILTER_HEX: of `seccomp.program`,
or "". The box gets the open files of this process, and no variable of its environment. Above MEMORY_BYTES it is ended, and
a line says so: by its group, or else what all its processes hold in memory together is added up fifty times a second. The
exit status is the box's.
"""

import os
import subprocess
import sys

POLL_S = 0.02
TOO_MUCH = 90


def main() -> int:
    limit, processes, program, command = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3]), sys.argv[4:]
    if program:
        reading, writing = os.pipe()
        os.write(writing, program)
        os.close(writing)
        os.set_inheritable(reading, True)
        command[1:1] = ["--seccomp", str(reading)]
    status, over = grouped(command, limit, processes) if processes else watched(command, limit)
    if over:
        print(f"It was ended: it held more than {limit / 2**30:.2g} GB of memory.", flush=True)
        return TOO_MUCH
    return status if status >= 0 else 128 - status


def grouped(command: list[str], limit: int, processes: int) -> tuple[int, bool]:
    """Run it in a group. Its exit status, and whether it took too much memory."""
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from autograder.sandbox import cgroup

    group = cgroup.create(cgroup.find(), limit, processes)
    try:
        status = subprocess.call(group.join(command), close_fds=False, env={})
        return status, group.exhausted()
    finally:
        group.close()


def watched(command: list[str], limit: int) -> tuple[int, bool]:
    """Run it and watch it, likewise."""
    box = subprocess.Popen(command, close_fds=False, env={})
    while True:
        try:
            return box.wait(POLL_S), False
        except subprocess.TimeoutExpired:
            pass
        if resident(box.pid) > limit:
            box.kill()  # --die-with-parent: what is inside ends with it
            return box.wait(), True


def resident(process: int) -> int:
    """Bytes that a process and all that it started hold in memory; a page that two share counts twice."""
    pages, parents = {}, {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        parents[int(name)], pages[int(name)] = int(fields[1]), int(fields[21])
    family = {process}
    while more := {one for one, parent in parents.items() if parent in family and one not in family}:
        family |= more
    return sum(pages.get(one, 0) for one in family) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
