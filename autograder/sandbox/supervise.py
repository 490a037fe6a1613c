"""Starts one run box and watches it. Of Python's standard library as little as `groups`.

    python -I -S supervise.py MEMORY_BYTES PROCESSES VERSION MEMORY PIDS FILTER_HEX bwrap ...

VERSION, MEMORY, PIDS: where the box's control group is made (`cgroup.Place`); version 0: there is none. PROCESSES: that may
run in it. FILTER_HEX: of `seccomp.program`, or "". The box gets the open files of this process, and no variable of its
environment. Above MEMORY_BYTES it is ended, and a line says so: by its group, or else what all its processes hold in memory
together is added up fifty times a second. The exit status is the box's; 125 if it could not enter its group.
"""

import os
import select
import sys

if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from autograder.sandbox import groups

POLL_S = 0.02
TOO_MUCH = 90


def main() -> int:
    limit, processes, version, memory, pids, program, *command = sys.argv[1:]
    if program:
        reading, writing = os.pipe()
        os.write(writing, bytes.fromhex(program))
        os.close(writing)
        os.set_inheritable(reading, True)
        command[1:1] = ["--seccomp", str(reading)]
    if int(version):
        status, over = grouped(command, int(limit), int(processes), int(version), memory, pids)
    else:
        status, over = watched(command, int(limit))
    if over:
        print(f"It was ended: it held more than {int(limit) / 2**30:.2g} GB of memory.", flush=True)
        return TOO_MUCH
    return status if status >= 0 else 128 - status


def grouped(command: list[str], limit: int, processes: int, version: int, memory: str, pids: str) -> tuple[int, bool]:
    """Run it in a group. Its exit status, and whether it took too much memory."""
    name = groups.new_name()
    memory, pids = f"{memory}/{name}", f"{pids}/{name}" if pids else ""
    folders = groups.both(memory, pids)
    groups.create(version, memory, pids, limit, processes)
    try:
        box = start(command, lambda: groups.enter(folders))
        return ended(box), groups.exhausted(version, memory)
    finally:
        groups.close(folders)


def watched(command: list[str], limit: int) -> tuple[int, bool]:
    """Run it and watch it, likewise."""
    box = start(command)
    poll = select.poll()
    try:
        poll.register(os.pidfd_open(box), select.POLLIN)
    except OSError:  # Linux before 5.3: its end is noticed a little later
        pass
    while True:
        poll.poll(POLL_S * 1000)
        process, status = os.waitpid(box, os.WNOHANG)
        if process:
            return os.waitstatus_to_exitcode(status), False
        if resident(box) > limit:
            os.kill(box, groups.KILL)  # --die-with-parent: what is inside ends with it
            return ended(box), True


def start(command: list[str], enter=None) -> int:
    """Its process. Nothing of it runs outside the group."""
    if box := os.fork():
        return box
    try:
        if enter:
            enter()
        os.execve(command[0], command, {})
    except OSError as error:
        print(f"The box was not started: {error}", file=sys.stderr, flush=True)
    os._exit(125)


def ended(box: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(box, 0)[1])


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
