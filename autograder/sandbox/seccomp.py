"""System calls that a box has no use for, as filters for bubblewrap's --seccomp.

`program`, of a run box, denies: new processes and threads, memory that no limit counts (memfd, shared anonymous mappings,
System V), other processes' memory, sockets, new namespaces and mounts, and interfaces of the kernel that only attackers
want. A denied call fails with EPERM.

`without_system_v`, of a notebook, denies shared memory, semaphores and message queues of System V only: no limit of a
process counts them, they need not be mapped, and from outside their namespace nobody sees them. A denied call fails with
ENOSYS, as on a Linux that was built without them. (PyTorch and Python's multiprocessing take files in /dev/shm.)

Either way code for another architecture, which numbers its calls otherwise, ends the process.
"""

from __future__ import annotations

import errno
import os
import platform
import struct
from collections.abc import Iterable

# Numbers: asm/unistd_64.h of x86-64, asm-generic/unistd.h for aarch64.
_X86 = {
    "socket": 41,
    "socketpair": 53,
    "shmget": 29,
    "shmat": 30,
    "semget": 64,
    "msgget": 68,
    "clone": 56,
    "fork": 57,
    "vfork": 58,
    "ptrace": 101,
    "pivot_root": 155,
    "chroot": 161,
    "mount": 165,
    "umount2": 166,
    "add_key": 248,
    "request_key": 249,
    "keyctl": 250,
    "unshare": 272,
    "perf_event_open": 298,
    "open_by_handle_at": 304,
    "setns": 308,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "memfd_create": 319,
    "bpf": 321,
    "userfaultfd": 323,
    "io_uring_setup": 425,
    "clone3": 435,
    "memfd_secret": 447,
}
_ARM = {
    "mount": 40,
    "umount2": 39,
    "pivot_root": 41,
    "chroot": 51,
    "unshare": 97,
    "ptrace": 117,
    "msgget": 186,
    "semget": 190,
    "shmget": 194,
    "shmat": 196,
    "socket": 198,
    "socketpair": 199,
    "add_key": 217,
    "request_key": 218,
    "keyctl": 219,
    "clone": 220,
    "perf_event_open": 241,
    "open_by_handle_at": 265,
    "setns": 268,
    "process_vm_readv": 270,
    "process_vm_writev": 271,
    "memfd_create": 279,
    "bpf": 280,
    "userfaultfd": 282,
    "io_uring_setup": 425,
    "clone3": 435,
    "memfd_secret": 447,
}
_MACHINES = {"x86_64": (0xC000003E, 9, _X86), "aarch64": (0xC00000B7, 222, _ARM)}
"""Machine -> AUDIT_ARCH, number of mmap, denied numbers."""

_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06  # linux/bpf_common.h
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000  # linux/seccomp.h
_DENY, _ABSENT = _ERROR | errno.EPERM, _ERROR | errno.ENOSYS
_NUMBER, _ARCH, _FLAGS = 0, 4, 16 + 3 * 8  # struct seccomp_data; the fourth argument
_SHARED_ANONYMOUS = 0x21
_X32 = 0x40000000


_SYSTEM_V = ("shmget", "semget", "msgget")
"""What makes them; nothing is there to be used without."""


def program(machine: str = "") -> bytes:
    """The filter, struct sock_filter after struct sock_filter; empty for a machine whose numbers are not known here."""
    if (machine := machine or platform.machine()) not in _MACHINES:
        return b""
    arch, mmap, denied = _MACHINES[machine]
    shared = [
        (_EQUAL, 0, 3, mmap),
        (_LOAD, 0, 0, _FLAGS),
        (_AND, 0, 0, _SHARED_ANONYMOUS),
        (_EQUAL, 1, 0, _SHARED_ANONYMOUS),
    ]
    return _filter(arch, denied.values(), shared, _DENY)


def without_system_v(machine: str = "") -> bytes:
    """As `program`, the lesser filter."""
    if (machine := machine or platform.machine()) not in _MACHINES:
        return b""
    arch, _, known = _MACHINES[machine]
    return _filter(arch, [known[name] for name in _SYSTEM_V], [], _ABSENT)


def _filter(arch: int, denied: Iterable[int], further: list[tuple[int, int, int, int]], refuse: int) -> bytes:
    """Code of `arch` may call all but `denied`, and what `further` lines let reach the first of two lines after them,
    which allows; the second does not.
    """
    numbers, end = sorted(denied), [*further, (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, refuse)]
    lines = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, arch), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NUMBER)]
    # Jumps count the instructions that they leave out: all before the last one.
    lines += [(_AT_LEAST, len(numbers) + len(end) - 1, 0, _X32)]
    lines += [(_EQUAL, len(numbers) - index + len(end) - 2, 0, number) for index, number in enumerate(numbers)]
    return b"".join(struct.pack("=HBBI", *line) for line in (*lines, *end))


def opened(program: bytes) -> int:
    """A descriptor from which bubblewrap can read a filter; yours to pass on and to close."""
    reading, writing = os.pipe()
    os.write(writing, program)  # far less than a pipe holds
    os.close(writing)
    return reading
