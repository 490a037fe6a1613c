"""Planted bugs: each is found in each of four thread orders, with its kind and its line."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from course import kernels
from course.kernels import inout, out

CUDA = Path(__file__).parent / "cuda"
F, H, I32, U8 = np.float32, np.float16, np.int32, np.uint8
RNG = np.random.default_rng(3)


def normal(*shape: int, dtype: type = F) -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


X, X64, X128, COUNTS = normal(1000), normal(64), normal(128), RNG.integers(0, 16, 500).astype(I32)
ROWS, SQUARE = normal(20, 50), normal(32, 32)

# bug -> file, arguments of launch<Bug>, kind of the finding (with the line that the source marks `bug: name`, if it
# does)
BUGS: dict[str, tuple[str, tuple, str]] = {
    "readTail": ("memory", (X, out(1000), 1000), "out-of-bounds"),
    "writeTail": ("memory", (X, out(1000), 1000), "out-of-bounds"),
    "readFront": ("memory", (X, out(1000), 1000), "out-of-bounds"),
    "vectorTail": ("memory", (X[:998], out(998), 998), "out-of-bounds"),
    "sharedIndex": ("memory", (X64, out(64)), "array-index"),
    "sharedPointer": ("memory", (X64, out(64)), "out-of-bounds"),
    "dynamicTooSmall": ("memory", (X64, out(64)), "out-of-bounds"),
    "dynamicForgotten": ("memory", (X64, out(64)), "out-of-bounds"),
    "misaligned4": ("memory", (X64, out(32)), "misaligned"),
    "misalignedHalf2": ("memory", (X64.astype(H), out(16, H)), "misaligned"),
    "inputWritten": ("memory", (X64, out(32)), "write-to-input"),
    "nullPointer": ("memory", (X64, None, out(32)), "out-of-bounds"),
    "hostPointer": ("memory", (out(32),), "out-of-bounds"),
    "useAfterFree": ("memory", (X64, out(64), 64), "use-after-free"),
    "constantIndex": ("memory", (X64, out(32)), "array-index"),
    "deviceIndex": ("memory", (np.arange(32, dtype=I32) % 9, out(32, I32)), "out-of-bounds"),
    "localIndex": ("memory", (X64, out(32)), "array-index"),
    "int32Overflow": ("memory", (X, out(64), 1000), "out-of-bounds"),
    "rowStride": ("memory", (ROWS, out(ROWS.shape), 20, 50), "out-of-bounds"),
    "swappedSides": ("memory", (ROWS, out(ROWS.shape), 20, 50), "out-of-bounds"),
    "copyTooLong": ("memory", (X64, out(64), 64), "out-of-bounds"),
    "hostReads": ("memory", (X64, out(1)), "host-access"),
    "freedTwice": ("memory", (out(1),), "invalid-free"),
    "leak": ("memory", (out(1),), "memory-leak"),
    "direction": ("memory", (X64, out(4)), "copy-direction"),
    "sharedHalo": ("memory", (X128, out(128), 128), "uninitialized-read"),
    "sharedTail": ("memory", (X[:100], out(2), 100), "uninitialized-read"),
    "accumulates": ("memory", (X64, out(64)), "uninitialized-read"),
    "atomicOnNothing": ("memory", (X64, out(1)), "uninitialized-read"),
    "workspace": ("memory", (X64, out(64)), "uninitialized-read"),
    "noTail": ("memory", (X[:998], out(998), 998), "unwritten-output"),
    "gridTooSmall": ("memory", (X, out(1000), 1000), "unwritten-output"),
    "localAccumulator": ("memory", (X, out(32), 1000), "uninitialized-variable"),
    "gemmLoad": ("races", (SQUARE, SQUARE, out((32, 32)), 32), "race"),
    "gemmUse": ("races", (SQUARE, SQUARE, out((32, 32)), 32), "race"),
    "tree": ("races", (X128, out(1)), "race"),
    "warpSynchronous": ("races", (X64, out(1)), "race"),
    "reusedBuffer": ("races", (X128, out(128)), "race"),
    "histogram": ("races", (COUNTS, out(16, I32), 500), "race"),
    "histogramShared": ("races", (COUNTS, out(16, I32), 500), "race"),
    "clearedLate": ("races", (COUNTS, out(16, I32), 500), "race"),
    "readBesideAtomic": ("races", (COUNTS, out(16, I32), 500), "race"),
    "overlap": ("races", (X, out(1000), 1000), "race"),
    "scanInPlace": ("races", (np.arange(128, dtype=I32), out(128, I32)), "race"),
    "stencilInPlace": ("races", (inout(X), 1000), "race"),
    "transpose": ("races", (SQUARE, out((32, 32))), "race"),
    "lastBlock": ("races", (X64, out(1)), "race"),
    "halvesOfAWarp": ("races", (X64, out(32)), "race"),
    "shuffleIsNoBarrier": ("races", (X64, out(32)), "race"),
    "neighbouringBytes": ("races", (RNG.integers(0, 256, 64).astype(U8), out(64, U8)), "race"),
    "flag": ("races", (X64, out(2)), "race"),
    "lastReaderWrites": ("races", (X64, out(96)), "race"),
    "softmaxMax": ("races", (X64, out(64), 64), "race"),
    "pipeline": ("races", (normal(4, 64), out(64), 4), "race"),
    "twoStreams": ("races", (X, out(1000), 1000), "race"),
    "barrierInIf": ("sync", (X64, out(64)), "divergent-barrier"),
    "barrierInBoth": ("sync", (out(64),), "divergent-barrier"),
    "earlyReturn": ("sync", (X[:100], out(100), 100), "divergent-barrier"),
    "tripCounts": ("sync", (X[:100], out(64), 100), "divergent-barrier"),
    "shuffleInIf": ("sync", (X64, out(32)), "deadlock"),
    "partialWarp": ("sync", (X64, out(1), 20), "undefined-shuffle"),
    "smallBlock": ("sync", (X64, out(1)), "undefined-shuffle"),
    "wrongMask": ("sync", (X64, out(32)), "invalid-mask"),
    "laneOutsideMask": ("sync", (X64, out(16)), "undefined-shuffle"),
    "twoSites": ("sync", (X64, out(32)), "deadlock"),
    "tooManyThreads": ("sync", (out(64),), "invalid-launch"),
    "emptyGrid": ("sync", (out(40), 40), "invalid-launch"),
    "gridY": ("sync", (out(70000),), "invalid-launch"),
    "noAttribute": ("sync", (out(32),), "invalid-launch"),
    "moreThanTheGpuHas": ("sync", (out(32),), "invalid-launch"),
    "bounded": ("sync", (out(256),), "invalid-launch"),
    "bigStatic": ("static", (out(32),), "invalid-launch"),
    "asserts": ("sync", (X64, out(32)), "assert"),
    "divides": ("sync", (COUNTS, out(32, I32), 0), "division-by-zero"),
}
SLOW = {"endless": ((inout(X64), 3), "timeout"), "gridBarrier": ((out(4),), "timeout")}


@cache
def module(name: str) -> kernels.Module:
    return kernels.load(CUDA / f"bugs_{name}.cu")


def marked(file: str, bug: str) -> set[int]:
    lines = (CUDA / f"bugs_{file}.cu").read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if "bug:" in line and bug in line.split("bug:")[1].split()}


def launcher(bug: str) -> str:
    return f"launch{bug[0].upper()}{bug[1:]}"


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found_in_every_order(bug: str) -> None:
    file, arguments, kind = BUGS[bug]
    report = module(file).check(launcher(bug), *arguments)
    lines = marked(file, bug)
    at_the_line = [
        finding
        for finding in report.findings
        if finding.kind == kind and (not lines or {finding.line, finding.other.line if finding.other else 0} & lines)
    ]
    assert {order for finding in at_the_line for order in finding.orders} == set(kernels.ORDERS), str(report)
    assert all(finding.advice and finding.message for finding in report.findings)


@pytest.mark.parametrize("bug", SLOW)
def test_an_endless_kernel_ends_with_the_time_limit_and_its_line(bug: str) -> None:
    arguments, kind = SLOW[bug]
    for order in (0, 2):
        report = module("sync").check(launcher(bug), *arguments, orders=[order, 3], seconds=1)
        timeouts = [finding for finding in report.findings if finding.kind == kind]
        assert [finding.line for finding in timeouts] == [*marked("sync", bug)], str(report)
        assert report.orders == (order,)  # the next one would take as long


def test_every_launcher_of_the_files_is_tried() -> None:
    tried = {(case[0], launcher(bug)) for bug, case in BUGS.items()} | {("sync", launcher(bug)) for bug in SLOW}
    assert tried == {(file, name) for file in ("memory", "races", "sync", "static") for name in module(file).launchers}
