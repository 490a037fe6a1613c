"""What the checks of CUDA exercises share: a source in a string, run by the kernel checker, its first finding as a message."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from course import kernels
from course.exercises import Wrong
from course.files import atomic_write


def compiled(source: object, name: str, *launchers: str) -> kernels.Module:
    """The learner's source, compiled for the CPU.

    Args:
        name: of the notebook's variable; the messages name lines of NAME.cu.
        launchers: that it must have.

    Raises:
        Wrong: not written yet, no text, or a launcher is missing.
        KernelError: it does not compile; names the line.
    """
    if not isinstance(source, str):
        raise Wrong(
            f"`{name}` is a {type(source).__name__}.",
            "The check compiles its text.",
            'Keep it as a string: r""" … """.',
        )
    if "YOUR CODE HERE" in source:
        raise Wrong(
            f"`{name}` is not written yet.",
            "It still has a line YOUR CODE HERE.",
            "Put your C++ in its place, run that cell, then run this one again.",
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.cu"
        atomic_write(path, source.encode())
        module = kernels.load(path, tell=lambda line: None)
    if missing := [launcher for launcher in launchers if launcher not in module.launchers]:
        raise Wrong(
            f"`{name}` has no launcher {missing[0]}.",
            f"It has {', '.join(module.launchers) or 'none'}.",
            "Keep the launcher of the released cell, with its name and its parameters.",
        )
    return module


def outputs(
    module: kernels.Module,
    launcher: str,
    *arguments: object,
    case: str,
    causes: Mapping[str, str | Callable[[], str]] | None = None,
) -> tuple[np.ndarray, ...]:
    """Outputs of a launcher in which the checker finds nothing.

    Args:
        case: of which input the message speaks, such as "n = 257".
        causes: kind of a finding -> the misconception that it mostly comes from in this exercise, or what finds it out.

    Raises:
        Wrong: the checker found something, or the launcher returned an error.
    """
    report = module.check(launcher, *arguments)
    if report.findings:
        finding = report.findings[0]
        place = f"{finding.file}:{finding.line}: " if finding.line else ""
        who = (
            f" Kernel {finding.kernel}, thread {finding.thread[0]} of block {finding.block[0]}."
            if finding.kernel and finding.thread is not None and finding.block is not None
            else ""
        )
        other = f" The other: {finding.other}." if finding.other else ""
        cause = (causes or {}).get(finding.kind, "The checker looked at every access to memory.")
        if callable(cause):
            cause = cause()
        raise Wrong(
            f"{case}: {place}{finding.message} [{finding.kind}].{who}{other}",
            cause,
            finding.advice or "Repair that line.",
        )
    if report.result:
        raise Wrong(
            f"{case}: {launcher} returned CUDA error {report.result}.",
            "The launch was refused.",
            "Print the grid and the block for this size.",
        )
    return report.outputs
