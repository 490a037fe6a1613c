"""The filter of a notebook, put on a process without bubblewrap: what it refuses, and what must work under it."""

from __future__ import annotations

import errno
import platform
import subprocess
import sys

import pytest

from autograder.sandbox import seccomp

pytestmark = pytest.mark.skipif(not seccomp.without_system_v(), reason=f"no filter is known for {platform.machine()}")

UNDER_IT = """
import ctypes
program = ctypes.create_string_buffer(bytes.fromhex({program!r}), {length})
class Filter(ctypes.Structure):  # struct sock_fprog of linux/filter.h
    _fields_ = [("lines", ctypes.c_ushort), ("first", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
no_new_privs, set_seccomp, filtered = 38, 22, 2  # linux/prctl.h, linux/seccomp.h
assert libc.prctl(no_new_privs, 1, 0, 0, 0) == 0
whole = Filter({length} // 8, ctypes.addressof(program))
assert libc.prctl(set_seccomp, filtered, ctypes.byref(whole), 0, 0) == 0
assert libc.shmget(0, ctypes.c_size_t(4096), 0o1600) == -1 and ctypes.get_errno() == {refused}
"""


def under_it(code: str) -> str:
    """What `code` prints."""
    program = seccomp.without_system_v()
    begin = UNDER_IT.format(program=program.hex(), length=len(program), refused=errno.ENOSYS)
    done = subprocess.run([sys.executable, "-c", begin + code], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_workers_of_pytorch_share_memory_in_files():
    code = """
import torch
if __name__ == "__main__":
    loader = torch.utils.data.DataLoader(torch.arange(8.), batch_size=4, num_workers=1)
    print(sum(batch.sum().item() for batch in loader))"""
    assert under_it(code) == "28.0\n"


@pytest.mark.gpu
def test_a_gpu_computes():
    """CUDA's libraries name shmget, and must not need it."""
    code = """
import torch
x = torch.ones(64, 64).pin_memory().to("cuda")
print((x @ x).sum().item())"""
    assert under_it(code) == f"{64.0**3}\n"
