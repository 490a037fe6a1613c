"""bubblewrap: a command without network, without secrets, with a read-only system and limits.

Inside there are: the system's programs and libraries, Python, what `ro` and `rw` name, an empty /tmp in memory, and
nothing else. No home folder, no other process, no network (not even loopback), no user who could gain rights.
bubblewrap works for an ordinary user; it needs Linux with unprivileged user namespaces.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from course.errors import CourseError
from course.paths import ROOT

_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
    "/etc/fonts",
    "/etc/OpenCL",
    "/etc/vulkan",
)
_GPU_VARIABLES = (
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_HOME",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
)
APPARMOR = """\
Ubuntu 24.04 lets only programs with an AppArmor profile make user namespaces. As root, once:
    printf '%s\\n' 'abi <abi/4.0>,' 'include <tunables/global>' \\
        'profile bwrap /usr/bin/bwrap flags=(unconfined) {' '  userns,' '}' > /etc/apparmor.d/bwrap
    apparmor_parser -r /etc/apparmor.d/bwrap"""


class NoSandboxError(CourseError):
    """Learners' code cannot be confined on this machine."""


def bwrap(
    argv: Sequence[str],
    rw: Sequence[str | Path] = (),
    ro: Sequence[str | Path] = (),
    cwd: str | Path = "/",
    gpu: bool = False,
    mem_gb: float = 4.0,
    cpu_s: int = 600,
    env: Mapping[str, str] | None = None,
    *,
    hide: Sequence[str | Path] = (),
    processes: int = 256,
    files: int = 4096,
    file_gb: float = 2.0,
    data_gb: float | None = 0.0,
    may_raise: bool = False,
) -> list[str]:
    """The command line that runs `argv` inside.

    Start it with an empty environment, and with pipes or /dev/null as its streams: what is inside finds bubblewrap
    itself as process 1, with its environment and its open files.

    Args:
        argv: the command; its program must be visible inside.
        rw: folders that it may write. Whoever runs outside must not trust what lies in them afterwards: a link may
            point anywhere.
        ro: files and folders that it may read.
        cwd: where it starts; must be visible inside.
        gpu: pass the GPU's devices through, and the folders of LD_LIBRARY_PATH, where TensorRT or CUDA may lie.
        mem_gb: GiB of data that each process may allocate, and the size of /tmp. It is RLIMIT_DATA, since a limit on
            the address space would break CUDA. All processes together are limited by `autograder.sandbox.cgroup`, or
            watched by `autograder.classroom.kernel`.
        cpu_s: CPU seconds per process.
        env: its environment, over a few safe defaults; nothing else is inherited.
        hide: folders of the system that are empty inside, such as nbgrader's exchange. /usr/local/share, where it lies
            by default, always is.
        processes, files: how many of this user's processes may run (not enforced by Linux if the user is root), and
            how many files each may have open.
        file_gb: GiB that one file may have.
        data_gb: of RLIMIT_DATA, if not mem_gb; None sets no such limit, for programs that reserve far more than they use.
            Then somebody must watch what they use.
        may_raise: whether programs inside may raise the limit on data, as AddressSanitizer needs, which reserves 16 TiB. A
            program that takes too much by mistake still meets it; somebody must watch the others.
    """
    size = ["--size", str(int(mem_gb * 2**30))] if _knows("--size") else []  # bubblewrap 0.7 and newer
    line = [
        shutil.which("bwrap") or "bwrap",
        "--die-with-parent",
        "--new-session",
        "--unshare-user",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-net",
        "--unshare-cgroup-try",
        *(["--disable-userns"] if _can_end_userns() else []),
        "--cap-drop",
        "ALL",
        "--clearenv",
        "--hostname",
        "sandbox",
        "--ro-bind",
        "/usr",
        "/usr",
    ]
    for name in _SYSTEM:
        if os.path.islink(name):
            line += ["--symlink", os.readlink(name), name]
        elif os.path.isdir(name):
            line += ["--ro-bind", name, name]
    line += ["--proc", "/proc", "--dev", "/dev", "--dir", "/run"]
    for path in filter(os.path.isdir, map(str, ("/usr/local/share", *hide))):
        if any(Path(path).is_relative_to(shown) for shown in ("/usr", *_SYSTEM)):
            line += ["--tmpfs", path]
    line += [*size, "--tmpfs", "/dev/shm", *size, "--tmpfs", "/tmp"]
    masked = ("/usr/local/share", *map(str, hide))
    for path in (*filter(os.path.exists, _ETC), *_python(), *ro):
        if not _shown_anyway(path, masked):
            line += ["--ro-bind", str(path), str(path)]
    if gpu:
        for device in sorted(Path("/dev").glob("nvidia*")):
            line += ["--dev-bind", str(device), str(device)]
        line += ["--ro-bind", "/sys", "/sys"]
        for path in _named_libraries():
            line += ["--ro-bind", path, path]
    for path in rw:
        line += ["--bind", str(path), str(path)]
    inherited = {name: os.environ[name] for name in _GPU_VARIABLES if gpu and name in os.environ}
    inside = {
        "PATH": f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "USER": "student",
        "LOGNAME": "student",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        **inherited,
        **(env or {}),
    }
    for name, value in inside.items():
        line += ["--setenv", name, str(value)]
    limits = [
        "prlimit",
        *([] if data_gb is None else [f"--data={int((data_gb or mem_gb) * 2**30)}{':' if may_raise else ''}"]),
        f"--cpu={int(cpu_s)}",
        f"--nproc={processes}",
        f"--nofile={files}",
        f"--fsize={int(file_gb * 2**30)}",
        "--core=0",
    ]
    return [*line, "--remount-ro", "/dev", "--chdir", str(cwd), "--", *limits, "--", *argv]


def _shown_anyway(path: str | Path, masked: Sequence[str]) -> bool:
    """Whether it is part of /usr, which is there as it is. (It may be a link, such as /usr/local/cuda, and on a link
    bubblewrap can mount nothing.)
    """
    places = (Path(path).absolute(), Path(path).resolve())
    return all(
        place.is_relative_to("/usr") and not any(place.is_relative_to(one) for one in masked) for place in places
    )


def has_gpu() -> bool:
    """Whether the driver's device is there."""
    return os.path.exists("/dev/nvidiactl")


@functools.lru_cache(maxsize=1)
def available() -> str | None:
    """None if the sandbox works here, tried once; else the reason why not, and what to do."""
    if not sys.platform.startswith("linux"):
        return "bubblewrap needs Linux; on Windows use WSL 2"
    for program, package in (("bwrap", "bubblewrap"), ("prlimit", "util-linux")):
        if shutil.which(program) is None:
            return f"{program} is not installed: sudo apt-get install {package}"
    try:
        done = subprocess.run(
            bwrap([sys.executable, "-c", "pass"]),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=60,
            stdin=subprocess.DEVNULL,
            env={},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not start: {error}"
    if done.returncode == 0:
        return None
    words = done.stderr.strip()[-300:]
    try:
        restricted = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").read_text().strip() == "1"
    except OSError:
        restricted = False
    return f"bubblewrap does not work: {words}" + (f"\n{APPARMOR}" if restricted else "")


def require() -> None:
    """Raises:
    NoSandboxError: there is no sandbox on this machine.
    """
    if reason := available():
        raise NoSandboxError(
            "Learners' code is not run without a sandbox.",
            reason,
            "Repair it. Or accept that a submission can read and change all that you can, its own marks included: "
            "python -m autograder grade STAGE --i-accept-running-student-code-unprotected",
        )


@functools.cache
def _can_end_userns() -> bool:
    """Whether user namespaces inside the sandbox can be switched off: bubblewrap 0.8, and a kernel that lets it."""
    line = ["bwrap", "--unshare-user", "--disable-userns", "--ro-bind", "/", "/", "true"]
    try:
        return subprocess.run(line, capture_output=True, timeout=20, stdin=subprocess.DEVNULL).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@functools.cache
def _knows(option: str) -> bool:
    """Whether this bubblewrap has an option."""
    try:
        return option.encode() in subprocess.run(["bwrap", "--help"], capture_output=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False


@functools.lru_cache(maxsize=1)
def _python() -> tuple[str, ...]:
    """Folders of this Python that do not lie in /usr, outer ones first."""
    found = {path for prefix in (sys.prefix, sys.base_prefix) for path in (prefix, os.path.realpath(prefix))}
    return tuple(sorted(path for path in found if path != "/usr" and not path.startswith("/usr/")))


def _named_libraries() -> list[str]:
    """Folders of LD_LIBRARY_PATH that hold libraries and do not lie in /usr; none that would show the home folder or
    anything of the course. (A .venv in the course's folder is there anyway, see `_python`.)
    """
    named = {Path(part) for part in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if part}
    home, course = Path.home().resolve(), ROOT
    return sorted(
        str(path)
        for path, real in ((path, path.resolve()) for path in named if path.is_absolute())
        if any(path.glob("*.so*"))
        and not real.is_relative_to("/usr")
        and not real.is_relative_to(course)
        and not any(folder.is_relative_to(real) for folder in (home, course))
    )
