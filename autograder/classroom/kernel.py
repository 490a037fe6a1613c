"""nbgrader's `Execute`, with the learner's kernel in bubblewrap, watched from outside, in a folder of its own."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from jupyter_client.manager import AsyncKernelManager
from nbformat.v4 import new_output
from nbgrader.preprocessors import Execute
from traitlets import Bool, Float, Integer, Unicode

from autograder.classroom import tempfolders
from autograder.classroom.submission import TIMESTAMP, copy_plain
from autograder.classroom.untrusted import shown
from autograder.sandbox import bwrap, cgroup, seccomp, sockets
from course.kernels import packages
from course.paths import ROOT, cache_dir

UNPROTECTED = "i_accept_running_student_code_unprotected"
_POLL_S = 0.25
MOST_LOG = 64 << 10
MOST_MESSAGE = 4 << 20
"""Characters of one output: a page with larger ones does not open in a browser."""
MOST_NUMBER = 100
"""Characters of a result that is kept where there is too much output."""
LEAST_FREE = 100 << 20
"""Bytes that the disk keeps free: the gradebook may lie on it."""
MEMORY_PLACES = ("/", "/tmp", "/dev/shm")
PRINTED = "kernel|"


class _Watch(threading.Thread):
    """Ends a kernel that takes too much, with all that it started; `reason` says why it did."""

    def __init__(
        self,
        pid: int,
        mem_gb: float,
        processes: int,
        total_s: float,
        disk_gb: float,
        folder: str,
        group: cgroup.Group | None,
    ):
        super().__init__(daemon=True)
        self.pid, self.mem_gb, self.processes, self.total_s = pid, mem_gb, processes, total_s
        self.disk_gb, self.folder, self.group = disk_gb, folder, group
        self.reason, self._over = "", threading.Event()

    def run(self) -> None:
        deadline = time.monotonic() + self.total_s
        before = _free(self.folder)
        while not self._over.wait(_POLL_S):
            try:
                family = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            if len(family) > self.processes:
                self.reason = f"it started more than {self.processes} processes"
            elif time.monotonic() > deadline:
                self.reason = f"the notebook ran longer than {self.total_s:.0f} s"
            elif self.group.exhausted() if self.group else _more_than(self.mem_gb * 2**30, family):
                self.reason = f"it used more than {self.mem_gb:g} GB of memory"
            else:
                self.reason = self._disk(before)
            if self.reason:
                for process in family:  # the first is bubblewrap: what is inside ends with it
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
                return

    def _disk(self, before: int) -> str:
        """Why it has taken too much of the disk, or nothing. Its folder is added up only where free space has shrunk."""
        free, limit = _free(self.folder), self.disk_gb * 2**30
        short = free < LEAST_FREE
        if not short and before - free < limit:
            return ""
        taken = _on_disk(self.folder)
        if taken > limit:
            return f"it wrote more than {self.disk_gb:g} GB to the disk"
        if short and taken > LEAST_FREE / 4:  # else others have filled it
            return f"it wrote {taken / 1e6:.0f} MB to a disk that has {free / 1e6:.0f} MB left"
        return ""

    def why(self) -> str:
        """`reason`; or the group's limit on memory, if the kernel was ended by that before this thread looked."""
        ended = self.group is not None and self.group.exhausted()
        return self.reason or (f"it used more than {self.mem_gb:g} GB of memory" if ended else "")

    def stop(self) -> None:
        self._over.set()


def _free(folder: str) -> int:
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


def _on_disk(folder: str) -> int:
    total = 0
    for base, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(base, name)).st_blocks * 512
    return total


class _Log(threading.Thread):
    """Passes on what a kernel's process itself prints, the beginning of it: to stderr, as plain text, each line marked
    as the learner's, so that none can pass for the grader's own.
    """

    def __init__(self):
        super().__init__(daemon=True)
        self._read_end, self.write_end = os.pipe()

    def begin(self) -> None:
        """The process has its end of the pipe; ours is closed, so that reading ends with it."""
        os.close(self.write_end)
        self.start()

    def run(self) -> None:
        room = MOST_LOG
        while chunk := os.read(self._read_end, 1 << 16):
            if room > 0:
                for line in chunk[:room].decode(errors="replace").splitlines():
                    print(PRINTED, shown(line, MOST_LOG), file=sys.stderr)
            room -= len(chunk)
        os.close(self._read_end)


def _more_than(limit: float, family: list[psutil.Process]) -> bool:
    """Whether all together hold more than `limit` bytes of memory, in files of memory too, which belong to no process."""
    quick, files = 0, _memory_files(family)
    for process in family:
        quick += _resident(process.pid)  # shared pages once per process: too much, but quick
    if quick + files <= limit:
        return False
    own, mapped = 0, 0
    for process in family:
        for folder in _views(process.pid):
            with contextlib.suppress(OSError, KeyError):
                lines = dict(re.findall(r"^(Pss|Pss_Shmem):\s+(\d+)", (folder / "smaps_rollup").read_text(), re.M))
                own += int(lines["Pss"]) * 1024
                mapped += int(lines.get("Pss_Shmem", 0)) * 1024  # of files of memory, mapped: counted in both
                break
    return own + max(0, files - mapped) > limit


def _views(pid: int) -> Iterator[Path]:
    """The folders that show a process: its own, and its threads'. Where the first thread has ended, only those of others
    show its memory; and a thread may have open files of its own.
    """
    yield Path(f"/proc/{pid}")
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            if int(thread) != pid:
                yield Path(f"/proc/{pid}/task/{thread}")


def _resident(pid: int) -> int:
    """Bytes of memory that a process holds; 0 if it has ended."""
    for folder in _views(pid):
        with contextlib.suppress(OSError, IndexError):
            if pages := int((folder / "statm").read_text().split()[1]):
                return pages * os.sysconf("SC_PAGESIZE")
    return 0


def _memory_files(family: list[psutil.Process]) -> int:
    """Bytes of the sandbox's own file systems in memory (tmpfs) and of anonymous files (memfd)."""
    total, seen = 0, {os.stat(place).st_dev for place in MEMORY_PLACES}
    for process, place in itertools.product(family, MEMORY_PLACES):  # of all: any one may end meanwhile
        with contextlib.suppress(OSError):
            inside = f"/proc/{process.pid}/root{place}"
            device, room = os.stat(inside).st_dev, os.statvfs(inside)
            if device not in seen:
                seen.add(device)
                total += (room.f_blocks - room.f_bfree) * room.f_frsize
    files = {}
    for folder in (folder for process in family for folder in _views(process.pid)):
        with contextlib.suppress(OSError):
            for entry in os.scandir(folder / "fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(entry.path).startswith("/memfd:"):
                        file = entry.stat()
                        files[file.st_ino] = file.st_blocks * 512
    return total + sum(files.values())


class BoxedKernelManager(AsyncKernelManager):
    """A kernel in bubblewrap. ZeroMQ goes over unix sockets, for the sandbox has not even a loopback network."""

    limits: dict = {}
    hide: tuple[str, ...] = ()
    protected = True
    watch: _Watch | None = None
    group: cgroup.Group | None = None
    _printed: _Log | None = None
    _filter: int | None = None

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        folder = self._sockets = tempfolders.make("kernel", sockets.parent())
        self.transport, self.ip = "ipc", folder + "/k"
        self.connection_file = folder + "/c.json"
        self._folder = "/"

    @property
    def kernel_spec(self):
        spec = super().kernel_spec
        if spec is not None:
            spec.interrupt_mode = "message"  # bubblewrap does not pass signals on
        return spec

    async def _async_pre_start_kernel(self, **kwargs):
        self._folder = kwargs.get("cwd") or os.getcwd()
        if self.protected and (program := seccomp.without_system_v()):  # memory that nobody could count
            self._filter = seccomp.opened(program)
        command, options = await super()._async_pre_start_kernel(**kwargs)
        if self.protected:
            # What is inside can read bubblewrap's environment and open its files: neither is the grader's own.
            self._printed = _Log()
            options |= {"env": {}, "stdout": self._printed.write_end, "stderr": self._printed.write_end}
            if self._filter is not None:
                options["pass_fds"] = (self._filter,)
        return command, options

    def format_kernel_cmd(self, extra_arguments=None):
        command = super().format_kernel_cmd(extra_arguments)
        if not self.protected:
            return command
        limits = {name: value for name, value in self.limits.items() if name not in ("total_s", "disk_gb")}
        fetched = cache_dir() / "cuda"  # NVIDIA's packages: in there is no network to fetch them again
        fetched.mkdir(exist_ok=True)
        boxed = bwrap.bwrap(
            command,
            rw=(self._folder, self._sockets),
            ro=(ROOT / "course", ROOT / "autograder", fetched),
            cwd=self._folder,
            gpu=bwrap.has_gpu(),
            hide=self.hide,
            may_raise=True,
            **limits,
            env={
                "PYTHONPATH": str(ROOT),
                "NBGRADER_EXECUTION": "autograde",
                "JUPYTER_PLATFORM_DIRS": "1",
                packages.SHARED: str(fetched),
            },
        )
        if self._filter is not None:
            boxed[1:1] = ["--seccomp", str(self._filter)]
        self._leave_group()
        self.group = cgroup.make(int(self.limits["mem_gb"] * 2**30), self.limits["processes"])
        return self.group.join(boxed) if self.group else boxed

    def _leave_group(self) -> None:
        if self.group:
            self.group.close()

    async def _async_post_start_kernel(self, **kwargs):
        await super()._async_post_start_kernel(**kwargs)
        if self._printed:
            self._printed.begin()
        if self._filter is not None:
            os.close(self._filter)
            self._filter = None
        self.watch = _Watch(
            self.provisioner.pid,
            *(self.limits[name] for name in ("mem_gb", "processes", "total_s", "disk_gb")),
            self._folder,
            self.group,
        )
        self.watch.start()

    async def _async_cleanup_resources(self, restart: bool = False):
        await super()._async_cleanup_resources(restart=restart)
        if self.watch:
            self.watch.stop()
        self._leave_group()
        if not restart:
            tempfolders.remove(self._sockets)


class SandboxedExecute(Execute):
    """Runs a notebook; whatever its code does, the notebook comes back, with an error in each cell that did not run.

    The kernel works in a copy of the submission's folder. What it leaves there is copied back without following
    links: nbgrader writes notebooks into that folder afterwards, and a link would lead it elsewhere.
    """

    mem_gb = Float(8.0, help="GiB that the kernel and all that it starts may use").tag(config=True)
    cpu_s = Integer(3600, help="CPU seconds per process").tag(config=True)
    total_s = Float(1200.0, help="seconds for one notebook").tag(config=True)
    disk_gb = Float(4.0, help="GiB that a notebook may write to its folder").tag(config=True)
    processes = Integer(256, help="processes that may run in the sandbox").tag(config=True)
    max_output_mb = Float(8.0, help="MB of output of one notebook that are kept").tag(config=True)
    now = Unicode("", help="file that says which cell runs now, for the grader's screen").tag(config=True)
    i_accept_running_student_code_unprotected = Bool(False, help="run without a sandbox").tag(config=True)

    def __init__(self, *args, **kwargs):
        kwargs["kernel_manager_class"] = BoxedKernelManager
        super().__init__(*args, **kwargs)
        if not getattr(self, UNPROTECTED):
            bwrap.require()
        self._begun, self._room, self._manager = -1, 0.0, None
        self._notebook, self._cells = "", 0

    def create_kernel_manager(self):
        manager = super().create_kernel_manager()
        manager.limits = {name: getattr(self, name) for name in ("mem_gb", "cpu_s", "processes", "total_s", "disk_gb")}
        manager.protected = not getattr(self, UNPROTECTED)
        exchange = self.config.get("Exchange", {}).get("root")
        manager.hide = (str(exchange),) if exchange else ()
        self._manager = manager
        return manager

    def preprocess(self, nb, resources, km=None):
        folder = Path(resources["metadata"]["path"]).resolve()
        self._begun, self._room = -1, self.max_output_mb * 1e6
        self._notebook, self._cells = resources["nbgrader"]["notebook"], len(nb.cells)
        with tempfolders.temporary("box") as parent:
            work = parent / folder.name
            work.mkdir()
            copy_plain(folder, work, skip_notebooks=True)
            resources["metadata"]["path"] = str(work)
            try:
                nb, resources = super().preprocess(nb, resources, km)
            except Exception as error:
                if self._begun < 0:
                    raise  # no code of the learner ran yet: this is our own failure
                self._give_up(nb, error)
            finally:
                resources["metadata"]["path"] = str(folder)
            self._bring_back(work, folder)
        return nb, resources

    def preprocess_cell(self, cell, resources, index):
        self._begun = index
        if self.now:
            with contextlib.suppress(OSError):  # it is for the eye only
                Path(self.now).write_text(f"{self._notebook}, cell {index + 1} of {self._cells}")
        return super().preprocess_cell(cell, resources, index)

    def process_message(self, msg, cell, cell_index):
        """Drop what a notebook prints beyond the limit: it would fill the grader's memory. Widgets are not kept."""
        kind, content = msg["msg_type"], msg["content"]
        if kind.startswith("comm_"):
            return None
        if kind in ("stream", "display_data", "execute_result", "update_display_data", "error"):
            size = len(str(content))
            self._room -= size
            if self._room < 0 or size > MOST_MESSAGE:
                if kind in ("stream", "display_data", "update_display_data"):
                    return None
                # An error decides a mark, and so does a result that is a number: nbgrader gives all points for any other.
                cut = "(cut: too much output)"
                if kind == "error":
                    content |= {"evalue": cut, "traceback": [shown(str(content.get("ename")), 100) + ": " + cut]}
                else:
                    text = str(content.get("data", {}).get("text/plain", ""))
                    content |= {"data": {"text/plain": text if len(text) <= MOST_NUMBER else cut}, "metadata": {}}
        return super().process_message(msg, cell, cell_index)

    def _give_up(self, nb, error: Exception) -> None:
        watch = self._manager.watch
        why = (watch.why() if watch else "") or "it ended, or did not answer any more"
        self.log.warning("The kernel was lost: %s (%s)", why, type(error).__name__)
        for cell in nb.cells[max(0, self._begun) :]:
            if cell.cell_type == "code":
                words = f"The kernel was stopped here: {why}."
                cell.outputs = [new_output("error", ename="KernelStopped", evalue=words, traceback=[words])]

    def _bring_back(self, work: Path, folder: Path) -> None:
        taken, free = _on_disk(str(work)), _free(str(folder))
        if taken > free - LEAST_FREE / 4:  # a copy would fail half-way, and take the room of others
            raise OSError(errno.ENOSPC, f"its files take {taken >> 20} MB, and the disk has {free >> 20} MB left")
        for path in folder.iterdir():
            if path.suffix != ".ipynb" and path.name != TIMESTAMP:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        forged = work / TIMESTAMP
        shutil.rmtree(forged) if forged.is_dir() and not forged.is_symlink() else forged.unlink(missing_ok=True)
        for note in copy_plain(work, folder, skip_notebooks=True):
            self.log.warning(note)
