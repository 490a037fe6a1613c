"""A compiled .cu file: call its launchers, check them, record who touches what."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from course.kernels import process
from course.kernels.arguments import Buffer, prepared
from course.kernels.compiler import compile_cu, read_notes
from course.kernels.explain import explained
from course.kernels.report import Finding, Report, merged
from course.kernels.trace import Trace, traced
from course.kernels.words import KernelError

ORDERS = (0, 1, 2, 3)
"""Thread orders of a check: forward, reversed, and two random ones."""

FILLINGS = (0x3C, 0x7B, 0xFB)
"""Bytes that an undefined value is made of in further runs, after 0xFF (a NaN): a small one, a very large one (1.3e36 as a
float, 6.1e4 as a half) and a very small one. A maximum or minimum shows one of the last two."""


@dataclass(frozen=True)
class Run:
    """One call (or several in a row) of a launcher.

    outputs: of `out` and `inout`, in the order of the arguments. seconds: of each call, measured around it, without the
    start of the process and the copies. result: what the launcher returned (0 is cudaSuccess).
    """

    outputs: tuple[np.ndarray, ...]
    seconds: tuple[float, ...]
    result: int
    findings: tuple[Finding, ...]
    printed: str = ""


class Module:
    """A library of `compile_cu`. `load` compiles and opens, `Module(path)` opens.

    kernels: names of the __global__ functions. launchers: name -> parameter names of the extern "C" functions.
    wrap: see `process.Calls`; every call goes through it.

    Raises:
        KernelError: the file is no such library.
    """

    def __init__(self, library: str | Path, wrap: process.Wrap | None = None):
        self.library, self.wrap = Path(library), wrap
        self.notes = read_notes(self.library)
        self.kernels: list[str] = self.notes.kernels
        self.launchers: dict[str, list[str]] = self.notes.exports

    def __repr__(self) -> str:
        return f"<{self.notes.source} for the CPU, {self.notes.mode}: {', '.join(self.launchers) or 'no launcher'}>"

    def launch(
        self,
        launcher: str,
        *arguments: object,
        order: int = 0,
        seconds: float = 10.0,
        shared_bytes: int = 99 << 10,
        repeats: int = 1,
    ) -> Run:
        """Call a launcher in a process of its own.

        Args:
            arguments: one for each parameter: an array (an input), `out`, `inout`, a number, None (null, default
                stream).
            order: 0 forward, 1 reversed, any other number seeds a random order of blocks and threads.
            seconds: limit for all calls together.
            shared_bytes: most shared memory of a block, as the GPU has it (99 kB from compute capability 8.6, 227 kB on
                an H100).
            repeats: calls, one after the other, on the same memory.

        Raises:
            KernelError: the arguments do not fit, or the kernel crashed or did not end and so gave no answer.
        """
        reply = process.call(
            self.library,
            launcher,
            arguments,
            order=order,
            seconds=seconds,
            shared_bytes=shared_bytes,
            repeats=repeats,
            wrap=self.wrap,
        )
        findings = self._findings(reply, order, launcher, arguments)
        for finding in findings:
            if finding.kind in ("crash", "timeout"):
                where = f" ({finding.file}:{finding.line})" if finding.line else ""
                who = f"Kernel {finding.kernel}, thread {finding.thread} of block {finding.block}."
                raise KernelError(
                    f"{self.notes.source}, {launcher}: {finding.message}{where}",
                    who if finding.kernel else "It happened outside a kernel.",
                    finding.advice,
                )
        return Run(tuple(reply.outputs), tuple(reply.seconds), reply.result, tuple(findings), reply.printed)

    def check(
        self,
        launcher: str,
        *arguments: object,
        orders: Sequence[int] = ORDERS,
        seconds: float = 10.0,
        shared_bytes: int = 99 << 10,
    ) -> Report:
        """Call a launcher in each thread order, each time in a new process, and gather what the checker finds.

        One more call, with other values in the local variables that have none, shows whether the result depends on
        them. After an order that did not end in time no further one is tried.

        Args:
            orders: see `launch`; seconds is the limit for one of them.

        Raises:
            KernelError: the library was compiled in mode plain, or the arguments do not fit.
        """
        self._must_be_checked()
        if not orders:
            raise KernelError("There is nothing to check.", "orders is empty.", "Give at least one thread order.")
        findings: list[Finding] = []
        ran: list[int] = []
        first = None
        with process.Calls(
            self.library, launcher, arguments, seconds=seconds, shared_bytes=shared_bytes, wrap=self.wrap
        ) as calls:
            for order in orders:
                reply = calls.call(order)
                found = self._findings(reply, order, launcher, arguments)
                without = [finding for finding in found if finding.kind != "undefined-shuffle"]
                if len(without) < len(found) and not any(
                    _differ(reply, calls.call(order, undefined=byte)) for byte in FILLINGS
                ):
                    found = without  # the undefined value is thrown away, whatever it is
                if first is None:
                    first = reply
                    if reply.seconds and _differ(reply, calls.call(order, variant=1)):
                        found += self._uninitialized(reply, orders)
                findings += found
                ran.append(order)
                if any(finding.kind == "timeout" for finding in found):
                    break  # the other orders would take as long
        return Report(
            self.notes.source, launcher, merged(findings), tuple(ran), tuple(first.outputs), first.result, first.printed
        )

    def record(
        self, launcher: str, *arguments: object, order: int = 0, seconds: float = 10.0, most: int = 1_000_000
    ) -> Trace:
        """Which thread touches what: every access to global and shared memory of one call, in the order they ran.

        Args:
            most: accesses that are kept; `Trace.total` says how many there were.

        Raises:
            KernelError: the library was compiled in mode plain, or the arguments do not fit.
        """
        self._must_be_checked()
        reply = process.call(
            self.library, launcher, arguments, order=order, seconds=seconds, trace=most, wrap=self.wrap
        )
        return traced(reply, self.notes)

    def _must_be_checked(self) -> None:
        if self.notes.mode != "checked":
            raise KernelError(
                f"{self.notes.source} was compiled in mode {self.notes.mode}.",
                "It does not look at accesses.",
                'Load it with mode="checked".',
            )

    def _uninitialized(self, reply: process.Reply, orders: Sequence[int]) -> list[Finding]:
        """The outputs depend on what a local variable holds before it has a value. Which one, the compiler may know.

        One order is enough to see it, and it counts for all: no thread knows another one's variables.
        """
        ran = {name.split("<")[0].split("::")[-1] for name in reply.launched}
        named = []
        for file, line, text, functions in self.notes.warnings:
            kernels = [name for name in self.kernels if re.search(rf"\b{name}\b", " ".join(functions))]
            if not kernels or ran & set(kernels):
                named.append({"file": file, "line": line, "text": text, "kernel": (kernels or [""])[0]})
        named = named or [{"kernel": reply.launched[0] if len(reply.launched) == 1 else ""}]
        return [
            explained({"kind": "uninitialized-variable", **found}, self.notes, order, {})
            for found in named
            for order in orders
        ]

    def _findings(self, reply: process.Reply, order: int, launcher: str, arguments: Sequence[object]) -> list[Finding]:
        given = [prepared(argument, number) for number, argument in enumerate(arguments, 1)]
        names = [name or f"argument {number}" for number, name in enumerate(self.launchers[launcher], 1)]
        sizes = {name: item.dtype.itemsize for name, item in zip(names, given) if isinstance(item, Buffer)}
        return [explained(found, self.notes, order, sizes) for found in reply.findings]


def load(
    source: str | Path,
    mode: str = "checked",
    *,
    defines: Sequence[str] = (),
    include: Iterable[str | Path] = (),
    out: str | Path | None = None,
    tell: Callable[[str], object] = print,
) -> Module:
    """Compile a .cu file for the CPU (half a second, once for the same text) and open it.

    Args: see `compile_cu`.

    Raises:
        RefusedError: the file uses what the CPU checker does not do.
        KernelError: it does not compile, or g++ or CUDA's headers are missing.
    """
    return Module(compile_cu(source, mode, defines=defines, include=include, out=out, tell=tell))


def check(
    source: str | Path,
    launcher: str,
    *arguments: object,
    orders: Sequence[int] = ORDERS,
    seconds: float = 10.0,
    shared_bytes: int = 99 << 10,
    defines: Sequence[str] = (),
) -> Report:
    """Compile a .cu file and check one of its launchers: `load(source).check(launcher, ...)`."""
    return load(source, defines=defines).check(
        launcher, *arguments, orders=orders, seconds=seconds, shared_bytes=shared_bytes
    )


def _differ(a: process.Reply, b: process.Reply) -> bool:
    return a.result != b.result or any(one.tobytes() != other.tobytes() for one, other in zip(a.outputs, b.outputs))
