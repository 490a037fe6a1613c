"""The kernels of all three sets as one list: planted bugs, correct ones, and the second set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from course import kernels
from course.kernels import out
from course.kernels.report import TOOLS
from tests.kernels import test_correct_kernels as correct
from tests.kernels import test_planted_bugs as planted
from tests.kernels.second_set import manifest
from tests.kernels.second_set import run as second

WAITS = ("deadlock", "divergent-barrier", "undefined-shuffle", "invalid-mask")
"""Kinds of bugs with which a real GPU may wait for ever."""


@dataclass(frozen=True)
class Case:
    """One launcher. lines: where the bug is, empty if anywhere. right: output's number -> values, rtol and atol."""

    name: str
    set: str
    file: Path
    launcher: str
    arguments: tuple
    kinds: frozenset[str] = frozenset()
    lines: frozenset[int] = frozenset()
    right: Mapping[int, tuple[np.ndarray, float]] = ()

    @property
    def correct(self) -> bool:
        return not self.kinds

    @property
    def tool(self) -> str:
        """The tool of compute-sanitizer that looks for such, or launch, or program. Empty for a correct kernel."""
        return TOOLS[sorted(self.kinds)[0]] if self.kinds else ""

    @property
    def may_wait(self) -> bool:
        return bool(self.kinds & set(WAITS))


def all_cases() -> list[Case]:
    """Not among them: the two planted kernels that never end."""
    found = []
    for bug, (file, arguments, kind) in planted.BUGS.items():
        path, lines = planted.CUDA / f"bugs_{file}.cu", frozenset(planted.marked(file, bug))
        found.append(Case(bug, "planted", path, planted.launcher(bug), arguments, frozenset({kind}), lines))
    for launcher, (file, arguments, wanted, tolerance) in correct.CASES.items():
        path = correct.CUDA / f"correct_{file}.cu"
        found.append(Case(launcher, "correct", path, launcher, arguments, right={0: (wanted, tolerance)}))
    given = (correct.X, out(1003, partial=True), out(1, np.int32), 1003)
    kept = {1: (np.array([(correct.X > 0).sum()]), 0.0)}
    path = correct.CUDA / "correct_reductions.cu"
    found.append(Case("launchCompact", "correct", path, "launchCompact", given, right=kept))
    for case in manifest.CASES:
        found.append(
            Case(
                case.file.removesuffix(".cu"),
                "second",
                second.HERE / case.file,
                case.launcher,
                tuple(second.arguments(case)),
                frozenset(second.KINDS.get(case.file, ())),
                frozenset(case.where),
            )
        )
    return found


def second_set(name: str) -> manifest.Case:
    """The manifest's own entry, which knows what is right."""
    return next(case for case in manifest.CASES if case.file == f"{name}.cu")


def checked(case: Case) -> kernels.Report:
    """What the checker on the CPU says."""
    return kernels.load(case.file).check(case.launcher, *case.arguments, seconds=20)
