"""Reads a batch at the address that a calibrator gave, when TensorRT would: after the call, safely, freed or not.

Without a GPU an address is one of this process's own memory. The kernel reads it for us (/proc/self/mem), so a wrong
one is an error and no crash. Memory that was freed when `get_batch` returned still holds its bytes for a while; TensorRT
may read something else there. So, before the real reading, unreachable objects are collected, and memory of the same
size is taken and filled with 0xFF: what was freed is overwritten, or gone, and that is seen.
"""

from __future__ import annotations

import gc
import os

import numpy as np

_PIECES = 3
_FILL = 0xFF  # as float32: NaN


class MemoryProblem(Exception):
    """What is wrong with an address, in words."""


def read_late(address: int, size: int, name: str) -> bytes:
    """`size` bytes at `address`.

    Raises:
        MemoryProblem: they cannot be read, or they changed since `get_batch` returned.
    """
    before = _read(address, size, name)
    gc.collect()
    filled = [np.full(size, _FILL, np.uint8) for _ in range(_PIECES)]
    now = _read(address, size, name, "It was freed when get_batch returned: nothing held it any more.")
    del filled
    if now != before:
        raise MemoryProblem(
            f"The memory of {name!r} changed after get_batch had returned: it was freed, and used for something else. "
            "TensorRT reads it later, so the calibrator must hold it, for example in self."
        )
    return now


def _read(address: int, size: int, name: str, why: str = "") -> bytes:
    """Whole, or an error."""
    try:
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            parts, place = [], address
            while place < address + size:
                part = os.pread(memory.fileno(), min(address + size - place, 1 << 26), place)
                if not part:
                    raise OSError("nothing is there")
                parts.append(part)
                place += len(part)
            return b"".join(parts)
    except (OSError, OverflowError, ValueError) as error:
        raise MemoryProblem(
            f"The address {address:#x} of {name!r} cannot be read for {size} bytes. "
            + (why or "It is no address of memory, or the memory is smaller than a batch of the calibration profile.")
        ) from error
