"""Findings of the checker in words: what, where, who, the other access, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

TOOLS = {
    "out-of-bounds": "memcheck",
    "misaligned": "memcheck",
    "use-after-free": "memcheck",
    "array-index": "memcheck",
    "host-access": "memcheck",
    "write-to-input": "memcheck",
    "invalid-free": "memcheck",
    "memory-leak": "memcheck",
    "copy-direction": "memcheck",
    "race": "racecheck",
    "uninitialized-read": "initcheck",
    "uninitialized-variable": "initcheck",
    "unwritten-output": "initcheck",
    "divergent-barrier": "synccheck",
    "deadlock": "synccheck",
    "invalid-mask": "synccheck",
    "undefined-shuffle": "synccheck",
    "invalid-launch": "launch",
    "unsupported": "launch",
    "device-only": "launch",
    "assert": "program",
    "division-by-zero": "program",
    "crash": "program",
    "timeout": "program",
}
"""Kind of a finding -> the tool of compute-sanitizer that looks for such, or launch, or program."""

Index = tuple[int, int, int]


@dataclass(frozen=True)
class Place:
    """Which thread of which block did what, where in the source. access: read, write, atomic, or the name of a
    barrier."""

    file: str
    line: int
    thread: Index | None = None
    block: Index | None = None
    access: str = ""

    def __str__(self) -> str:
        what = f"{self.access} at " if self.access else ""
        who = f" by thread {self.thread} of block {self.block}" if self.thread is not None else ""
        return f"{what}{self.file}:{self.line}{who}"


@dataclass(frozen=True)
class Finding:
    """One bug.

    kind: a key of TOOLS. file, line: where, or "" and 0. thread, block: who came there first; None if nobody in
    particular.
    buffer: a parameter's or a __shared__ variable's name. offset: bytes from its beginning. other: the access that it
    conflicts with. orders: thread orders in which it was found. details: what the checker wrote.
    """

    kind: str
    message: str
    advice: str
    file: str = ""
    line: int = 0
    kernel: str = ""
    thread: Index | None = None
    block: Index | None = None
    buffer: str = ""
    offset: int | None = None
    other: Place | None = None
    orders: tuple[int, ...] = ()
    details: dict = field(default_factory=dict, compare=False, repr=False)

    @property
    def tool(self) -> str:
        """memcheck, racecheck, initcheck or synccheck, as compute-sanitizer has them; launch or program for the
        rest."""
        return TOOLS[self.kind]

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.line else ""
        who = f"\n    in kernel {self.kernel}" if self.kernel else ""
        if self.kernel and self.thread is not None and self.block is not None:
            who += f", thread {self.thread} of block {self.block}"
        other = f"\n    the other: {self.other}" if self.other else ""
        return f"{where}{self.message} [{self.kind}]{who}{other}\n    -> {self.advice}"


@dataclass(frozen=True)
class Report:
    """What a check found.

    source, launcher: what ran. orders: the thread orders. outputs: of the first order, in the order of the arguments.
    result: what the launcher returned (0 is cudaSuccess). printed: by kernels and launcher.
    """

    source: str
    launcher: str
    findings: tuple[Finding, ...]
    orders: tuple[int, ...]
    outputs: tuple[np.ndarray, ...] = ()
    result: int = 0
    printed: str = ""

    @property
    def ok(self) -> bool:
        """Nothing was found."""
        return not self.findings

    @property
    def kinds(self) -> set[str]:
        """Kinds of the findings."""
        return {finding.kind for finding in self.findings}

    def __str__(self) -> str:
        ran = f"{self.source}, {self.launcher}, {len(self.orders)} thread order{'s' if len(self.orders) > 1 else ''}"
        if self.ok:
            return f"{ran}: nothing found"
        return "\n".join(
            [
                f"{ran}: {len(self.findings)} finding{'s' if len(self.findings) > 1 else ''}",
                *(f"{number}. {finding}" for number, finding in enumerate(self.findings, 1)),
            ]
        )


def merged(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Findings of several orders, each bug once, with the orders that showed it."""
    first: dict[tuple, Finding] = {}
    orders: dict[tuple, list[int]] = {}
    for finding in findings:
        other = (finding.other.file, finding.other.line) if finding.other else ("", 0)
        lines = sorted({(finding.file, finding.line), other})
        key = (finding.kind, finding.kernel, finding.buffer, *lines)
        first.setdefault(key, finding)
        orders.setdefault(key, []).extend(order for order in finding.orders if order not in orders.get(key, []))
    return tuple(Finding(**{**finding.__dict__, "orders": tuple(orders[key])}) for key, finding in first.items())
