"""Which thread touched which address: the checker's record of one call as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from course.kernels import lines
from course.kernels.compiler import Notes
from course.kernels.process import Reply

SECTOR, BANKS, BANK_BYTES, WARP = 32, 32, 4, 32
_WRITE, _ATOMIC = 1, 2


@dataclass(frozen=True, eq=False)
class Trace:
    """Accesses in the order they ran; every array has one entry an access.

    buffer: index into `buffers` (parameters, __device__ and __shared__ variables). offset: bytes from its beginning.
    size:
    bytes. thread: linear index in its block (x fastest); block: linear index in the grid; launch: 1, 2 ... line: in the
    source file. write, atomic: what kind. total: accesses that there were, more than recorded if the limit was reached.
    """

    buffers: tuple[str, ...]
    shared: np.ndarray  # bool, one a buffer
    buffer: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    thread: np.ndarray
    block: np.ndarray
    launch: np.ndarray
    line: np.ndarray
    site: np.ndarray  # two accesses of one instruction have the same number
    write: np.ndarray
    atomic: np.ndarray
    total: int

    def __len__(self) -> int:
        return len(self.offset)

    def of(self, buffer: str) -> np.ndarray:
        """Indices of the accesses to one buffer.

        Raises:
            KeyError: there is none of this name.
        """
        if buffer not in self.buffers:
            raise KeyError(f"no buffer {buffer}; there are {', '.join(self.buffers)}")
        return np.flatnonzero(self.buffer == self.buffers.index(buffer))


@dataclass(frozen=True)
class Pattern:
    """How the warps use one access of the source.

    requests: warps that executed it, each time. units: 32-byte sectors of a request to global memory, or passes of a
    request
    to shared memory (1 is free of bank conflicts), on average. ideal: what the same bytes need at least.
    """

    line: int
    buffer: str
    shared: bool
    write: bool
    size: int
    requests: int
    units: float
    ideal: float

    def __str__(self) -> str:
        what = f"line {self.line}: {'write to' if self.write else 'read of'} {self.buffer}, {self.size} bytes a thread"
        unit = "passes (1 = no bank conflict)" if self.shared else "sectors of 32 bytes"
        return f"{what}: {self.units:.2f} {unit} a warp, {self.ideal:.2f} at best"


def traced(reply: Reply, notes: Notes) -> Trace:
    """The record of a reply, with source lines."""
    rows = reply.trace if reply.trace is not None else np.zeros(0)
    buffers = (*reply.names, *reply.shared, "extern __shared__")
    region = rows["region"].astype(np.int64)
    # The runtime numbers buffers from 0, __shared__ variables from -1 downwards, and dynamic shared memory -32768.
    index = np.where(region >= 0, region, np.where(region == -32768, len(buffers) - 1, len(reply.names) - 1 - region))
    sites, inverse = np.unique(rows["pc"], return_inverse=True)
    numbers = np.array([lines.look_up(notes.files, notes.lines, int(pc))[1] for pc in sites], np.int64)
    return Trace(
        buffers,
        np.arange(len(buffers)) >= len(reply.names),
        index,
        rows["offset"].astype(np.int64),
        rows["size"].astype(np.int64),
        rows["thread"].astype(np.int64),
        rows["block"].astype(np.int64),
        rows["launch"].astype(np.int64),
        numbers[inverse] if len(sites) else np.zeros(0, np.int64),
        rows["pc"].astype(np.int64),
        rows["flags"] & _WRITE > 0,
        rows["flags"] & _ATOMIC > 0,
        reply.traced,
    )


def patterns(trace: Trace) -> list[Pattern]:
    """Coalescing and bank conflicts of every access in the source, as the hardware counts them.

    The lanes of a warp are taken together that execute the same instruction for the same time; a kernel whose lanes
    take
    different ways shows more requests than the GPU makes, never fewer.
    """
    result = []
    warp = trace.thread // WARP
    for site in dict.fromkeys(trace.site.tolist()):
        for buffer in np.unique(trace.buffer[trace.site == site]):
            at = np.flatnonzero((trace.site == site) & (trace.buffer == buffer))
            turn = _turns(np.stack([trace.launch[at], trace.block[at], trace.thread[at]], 1))
            groups = np.stack([trace.launch[at], trace.block[at], warp[at], turn], 1)
            _, request = np.unique(groups, axis=0, return_inverse=True)
            request = request.reshape(-1)
            count = int(request.max()) + 1
            size, shared = int(trace.size[at[0]]), bool(trace.shared[buffer])
            units, ideal = (_passes if shared else _sectors)(request, count, trace.offset[at], size)
            result.append(
                Pattern(
                    int(trace.line[at[0]]),
                    trace.buffers[buffer],
                    shared,
                    bool(trace.write[at[0]]),
                    size,
                    count,
                    units,
                    ideal,
                )
            )
    return sorted(result, key=lambda pattern: (pattern.line, pattern.buffer, pattern.write))


def _turns(keys: np.ndarray) -> np.ndarray:
    """For each row: how many equal rows stand before it."""
    _, group = np.unique(keys, axis=0, return_inverse=True)
    group = group.reshape(-1)
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    starts = np.r_[0, np.flatnonzero(np.diff(ordered)) + 1] if len(ordered) else np.zeros(0, np.int64)
    rank = np.arange(len(ordered)) - np.repeat(starts, np.diff(np.r_[starts, len(ordered)]))
    turn = np.empty(len(group), np.int64)
    turn[order] = rank
    return turn


def _sectors(request: np.ndarray, count: int, offset: np.ndarray, size: int) -> tuple[float, float]:
    first, last = offset // SECTOR, (offset + size - 1) // SECTOR
    touched = np.concatenate([np.stack([request, first], 1), np.stack([request, last], 1)])
    bytes_ = np.unique(np.stack([request, offset], 1), axis=0)
    needed = np.ceil(np.bincount(bytes_[:, 0], minlength=count) * size / SECTOR)
    return len(np.unique(touched, axis=0)) / count, float(needed.mean())


def _passes(request: np.ndarray, count: int, offset: np.ndarray, size: int) -> tuple[float, float]:
    """Different words in the busiest bank: 8-byte accesses go in two halves of a warp, 16-byte ones in four
    quarters."""
    words = max(1, size // BANK_BYTES)
    turn = _turns(request.reshape(-1, 1)) // (WARP // words)
    word = (offset[:, None] // BANK_BYTES + np.arange(words)).reshape(-1)
    part = np.repeat(np.stack([request, turn], 1), words, axis=0)
    distinct = np.unique(np.concatenate([part, word[:, None]], 1), axis=0)
    keys, group = np.unique(distinct[:, :2], axis=0, return_inverse=True)
    load = np.zeros((len(keys), BANKS), np.int64)
    np.add.at(load, (group.reshape(-1), distinct[:, 2] % BANKS), 1)
    busiest = load.max(1)
    return float(busiest.sum()) / count, len(keys) / count
