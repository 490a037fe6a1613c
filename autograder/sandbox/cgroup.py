"""Control groups: limits on memory and processes for all that a box holds together, kept by the kernel.

A group counts what no limit of a single process does: files in memory (tmpfs, memfd, also those in flight between two
sockets), System V shared memory, children. What takes more than it may is ended by the kernel. Groups are made below the
one that this process is in, so whatever limits that one has hold as well; where this user may not make any, `available`
says why, and boxes are watched from outside, as far as that goes.

The tests run where this user may make groups: so far version 1, on every change. Version 2 was run once by hand, in Linux 6.1
(user-mode Linux): the tests as root, and PROGRAMS of the tests as another user in a scope that the user manager of systemd 252
had made with Delegate=yes.

`groups` has what is done with a group's files, which `supervise` uses, too.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autograder.sandbox import groups

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
TASKS = groups.TASKS
LEAF = "grader"
_OURS = re.compile(r"trt-course-(\d+)-[0-9a-f]+")
_JOIN = """\
n=$1; shift
while [ "$n" -gt 0 ]; do echo $$ > "$1" || exit 125; shift; n=$((n - 1)); done
exec env -u PWD -u OLDPWD -u SHLVL -u _ "$@"
"""
DELEGATE = "start the grader with: systemd-run --user --scope -p Delegate=yes COMMAND"


@dataclass(frozen=True)
class Place:
    """Where groups can be made: the parent folder, in version 1 one for each of the two hierarchies."""

    version: int
    memory: Path
    pids: Path | None

    @property
    def parents(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(filter(None, (self.memory, self.pids))))


class NoGroupError(Exception):
    """Why this process can make no group."""


@dataclass
class Group:
    """One group. `close` it: then all that is in it is ended, and it is gone."""

    place: Place
    name: str
    _exhausted: bool = field(default=False, init=False)

    @property
    def folders(self) -> tuple[Path, ...]:
        return tuple(parent / self.name for parent in self.place.parents)

    def join(self, argv: Sequence[str]) -> list[str]:
        """The command line that enters the group, then becomes `argv`: nothing of it ever runs outside. If it cannot
        enter, it ends with status 125.
        """
        doors = [str(folder / "cgroup.procs") for folder in self.folders]
        return ["/bin/sh", "-c", _JOIN, "join", str(len(doors)), *doors, *argv]

    def exhausted(self) -> bool:
        """Whether its limit on memory has ended something in it; still known after `close`. (Where the whole machine runs
        out of memory, the kernel may end it as well, without its fault.)
        """
        self._exhausted |= groups.exhausted(self.place.version, str(self.place.memory / self.name))
        return self._exhausted

    def close(self) -> None:
        """Calling it twice is fine. What cannot be removed now, `sweep` removes later."""
        self.exhausted()
        groups.close(list(map(str, self.folders)))


def make(memory_bytes: int, processes: int) -> Group | None:
    """A new group, or None where `available` has a reason.

    Args:
        memory_bytes: that all in it may hold together; none of it in swap, where the kernel counts swap.
        processes: that may run in it at once; the limit is for TASKS times as many tasks.

    Raises:
        OSError: the kernel refused, though it did not when `available` tried.
    """
    return None if available() else create(find(), memory_bytes, processes)


def create(place: Place, memory_bytes: int, processes: int) -> Group:
    """As `make`, where it is known that groups work."""
    group = Group(place, groups.new_name())
    pids = str(place.pids / group.name) if place.pids else ""
    groups.create(place.version, str(place.memory / group.name), pids, memory_bytes, processes)
    return group


@functools.lru_cache(maxsize=1)
def available() -> str | None:
    """None if groups work here, tried once; else the reason why not. Groups of dead graders are removed."""
    limit = 32 << 20
    try:
        place = find()
        sweep(place)
        group = create(place, limit, 16)
    except NoGroupError as error:
        return str(error)
    except OSError as error:
        return f"no group can be made: {error}"
    try:
        doors = [str(folder / "cgroup.procs") for folder in group.folders]
        line = group.join(["/bin/sh", "-c", 'echo $$; for f; do echo $(cat "$f"); done', "sh", *doors])
        done = subprocess.run(
            line, capture_output=True, encoding="utf-8", errors="replace", timeout=20, stdin=subprocess.DEVNULL
        )
        one, *members = done.stdout.splitlines() or [""]
        if done.returncode or len(members) != len(doors) or not all(one in line.split() for line in members):
            return f"no process can be put into a group: {done.stderr.strip()[-200:]}"
        name = "memory.max" if place.version == 2 else "memory.limit_in_bytes"
        if (held := (place.memory / group.name / name).read_text().strip()) != str(limit):
            return f"a limit of {limit} bytes was read back as {held}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no process can be put into a group: {error}"
    finally:
        group.close()
    return None


def words() -> str:
    """Which limits hold for boxes here: one line for the instructor."""
    if reason := available():
        return f"limits of boxes: watched from outside; no control group: {reason}"
    return f"limits of boxes: by control groups (cgroup v{find().version}), children and files in memory included"


def sweep(place: Place) -> int:
    """End and remove the groups whose maker has ended; how many."""
    swept = set()
    for parent in place.parents:
        for folder in parent.glob("trt-course-*"):
            named = _OURS.fullmatch(folder.name)
            if named and not os.path.exists(f"/proc/{named[1]}") and 0 not in groups.members(str(folder)):
                Group(place, folder.name).close()
                swept.add(folder.name)
    return len(swept)


def find() -> Place:
    """Raises:
    NoGroupError: this user may make no group with a limit on memory.
    """
    own = _own_groups()
    if "memory" in own:
        return _version_1(own)
    if "" in own and "memory" in _words(ROOT / "cgroup.controllers"):
        return _version_2(own[""])
    raise NoGroupError(f"{ROOT} has no controller of memory")


def _own_groups() -> dict[str, Path]:
    """Controller -> folder of this process's group, for version 1; "" -> that of version 2."""
    groups = {}
    with contextlib.suppress(OSError):
        for line in OWN.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for name in controllers.split(","):
                base = ROOT / name
                groups[name] = found if (found := base / path.lstrip("/")).is_dir() else base
    return {name: folder for name, folder in groups.items() if folder.is_dir()}


def _version_1(own: dict[str, Path]) -> Place:
    if not _writable(own["memory"]):
        raise NoGroupError(f"{own['memory']} is not this user's (chown it, and start the grader in it)")
    return Place(1, own["memory"], own["pids"] if "pids" in own and _writable(own["pids"]) else None)


def _version_2(own: Path) -> Place:
    """A group that gives limits to those in it holds no process itself. So new groups lie beside this process's own: in
    its parent, if that is this user's and gives such limits already. Else, if systemd has left a group to this user, all
    in it move one down, and that makes it such a parent. A slice belongs to systemd, whoever may write it.
    """
    near = [group for group in (own, own.parent) if group.is_relative_to(ROOT) and group.suffix != ".slice"]
    near = [group for group in near if _writable(group) and "memory" in _words(group / "cgroup.controllers")]
    for parent in near:
        if "memory" in _words(parent / "cgroup.subtree_control"):
            return _place_2(parent)
    for parent in filter(_delegated, near):
        try:
            _clear(parent)
            return _place_2(parent)
        except OSError as error:
            raise NoGroupError(f"{parent} gives no limits to groups in it: {error}") from None
    raise NoGroupError(f"{own} is not left to this user with its memory; {DELEGATE}")


def _clear(group: Path) -> None:
    """Move all processes of a group one down, and let it give limits."""
    for pid in groups.members(str(group)):
        (group / LEAF).mkdir(exist_ok=True)
        with contextlib.suppress(ProcessLookupError):
            (group / LEAF / "cgroup.procs").write_text(str(pid))
    (group / "cgroup.subtree_control").write_text("+memory")
    with contextlib.suppress(OSError):
        (group / "cgroup.subtree_control").write_text("+pids")


def _place_2(parent: Path) -> Place:
    return Place(2, parent, parent if "pids" in _words(parent / "cgroup.subtree_control") else None)


def _delegated(group: Path) -> bool:
    """Whether it is a unit that systemd has left to its user (Delegate=yes)."""
    for manager in ("--user", "--system"):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            line = ["systemctl", manager, "show", "--property=Delegate", "--value", "--", group.name]
            done = subprocess.run(
                line, capture_output=True, encoding="utf-8", errors="replace", timeout=5, stdin=subprocess.DEVNULL
            )
            if done.stdout.strip() == "yes":
                return True
    return False


def _writable(group: Path) -> bool:
    return all(os.access(path, os.W_OK) for path in (group, group / "cgroup.procs"))


def _words(file: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return file.read_text().split()
    return []
