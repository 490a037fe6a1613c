"""A notebook cannot take memory that the grader could not count; what needs none of it works."""

from __future__ import annotations

import errno
import platform

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from autograder.classroom.kernel import SandboxedExecute
from autograder.sandbox import bwrap, seccomp

pytestmark = [
    pytest.mark.skipif(bwrap.available() is not None, reason=f"no sandbox: {bwrap.available()}"),
    pytest.mark.skipif(not seccomp.without_system_v(), reason=f"no filter is known for {platform.machine()}"),
]

SYSTEM_V = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
libc.shmat.argtypes, libc.shmdt.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int], [ctypes.c_void_p]
held = 0
for _ in range(8):  # segments that nobody maps: they stay until their namespace ends
    segment = libc.shmget(0, ctypes.c_size_t(64 << 20), 0o1600)
    if segment >= 0:
        there = libc.shmat(segment, None, 0)
        ctypes.memset(there, 1, 64 << 20)
        libc.shmdt(there)
        held += 64
print(held, ctypes.get_errno())"""
OTHERS = """
for name, arguments in (("semget", (0, 32000, 0o1600)), ("msgget", (0, 0o1600))):
    print(getattr(libc, name)(*arguments), ctypes.get_errno())"""
POSIX = """
from multiprocessing import Process, Queue, shared_memory
def double(queue, name):
    shared = shared_memory.SharedMemory(name)
    shared.buf[0] *= 2
    queue.put("done")
    shared.close()
queue, shared = Queue(), shared_memory.SharedMemory(create=True, size=1 << 20)
shared.buf[0] = 21
worker = Process(target=double, args=(queue, shared.name))
worker.start()
print(queue.get(timeout=20), shared.buf[0])
worker.join()
shared.close()
shared.unlink()"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> list[str]:
    """What each cell printed, run as the grader runs it."""
    notebook = new_notebook(cells=[new_code_cell(code.strip()) for code in (SYSTEM_V, OTHERS, POSIX)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    folder = tmp_path_factory.mktemp("work")
    execute = SandboxedExecute(mem_gb=1.0, timeout=60, startup_timeout=120)
    done, _ = execute.preprocess(nbformat.from_dict(notebook), {"metadata": {"path": str(folder)}})
    return [nbformat.from_dict(cell).outputs[0].get("text", str(cell.outputs)) for cell in done.cells]


def test_shared_memory_of_system_v_is_refused(printed):
    assert printed[0] == f"0 {errno.ENOSYS}\n"


def test_so_are_its_semaphores_and_queues(printed):
    assert printed[1] == f"-1 {errno.ENOSYS}\n" * 2


def test_processes_share_memory_in_files_as_before(printed):
    assert printed[2] == "done 42\n"
