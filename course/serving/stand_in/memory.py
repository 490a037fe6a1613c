"""The stand-in's memory: blocks of this process that stay readable for good, so that a wrong address is told, not fatal."""

from __future__ import annotations

import bisect

import numpy as np

POISON = 0xFF
"""Fills memory that nobody has written yet, and memory that was freed; as float32 and float16 it is NaN."""
_ALIGNMENT = 256  # bytes, as of cudaMalloc


class BadAddress(Exception):
    """No memory of this kind lies there, or it was freed, or it ends too early."""


class Memory:
    """Blocks on the "device" and page-locked ones on the "host", by their addresses in this process."""

    def __init__(self) -> None:
        self._blocks: dict[int, np.ndarray] = {}
        self._place: dict[int, str] = {}
        self._starts: list[int] = []

    def take(self, size: int, place: str) -> int:
        """The address of `size` new bytes, full of poison; place: "device" or "host"."""
        whole = np.full(size + _ALIGNMENT, POISON, np.uint8)
        skip = -whole.ctypes.data % _ALIGNMENT
        block = whole[skip : skip + size]
        address = block.ctypes.data
        self._blocks[address], self._place[address] = block, place
        bisect.insort(self._starts, address)
        return address

    def give_back(self, address: int, place: str) -> None:
        """Raises BadAddress if no such block begins there."""
        if self._place.get(address) != place:
            raise BadAddress(f"no {place} memory begins at {address:#x}")
        self._blocks[address][:] = POISON
        self._place[address] = "freed"  # the block itself stays, so that nothing else gets its address

    def bytes_at(self, address: int, size: int, place: str) -> np.ndarray:
        """uint8 [size], a view. Raises BadAddress."""
        index = bisect.bisect_right(self._starts, address) - 1
        start = self._starts[index] if index >= 0 else 0
        block = self._blocks.get(start)
        if block is None or address >= start + max(len(block), 1):
            raise BadAddress(f"no memory of CUDA lies at {address:#x}")
        if self._place[start] != place:
            raise BadAddress(f"the memory at {address:#x} is {self._place[start]}, not {place} memory")
        if address + size > start + len(block):
            raise BadAddress(f"{size} bytes from {address:#x} go beyond the end of their block of {len(block)}")
        return block[address - start : address - start + size]

    @property
    def held(self) -> int:
        """Bytes that were taken and not given back."""
        return sum(len(self._blocks[address]) for address, place in self._place.items() if place != "freed")
