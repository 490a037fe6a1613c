"""Whether a plan that a script wrote comes of a real build. It is never opened: its bytes are compared with a plan of the judge's.

TensorRT-RTX writes nearly the same bytes each time it builds a network: kernels and weights are the same, and some of them
only move, so pieces of the judge's plan are looked for anywhere in the other one. Measured with TensorRT-RTX 1.7 on the
networks of `probe`: of 400 pieces, 91 to 100 % are found again after a build at any level, with any verbosity, or with
another profile; in a plan of another network 94 to 98 %, since its kernels are the same, which is why pieces that such a
plan does not have are looked for by themselves. A forger must build, or carry all of this with him.

With a node of a plugin (`probe.with_node`; six networks, levels 0 to 5, names or details, two profiles): 95 to 100 % of all pieces, 98
to 100 % of those that only this network has, 100 % of those that only this node has, and none of these in a plan of another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from autograder.artifacts.plans_inside import plan_of

PIECE, PIECES, DISTINCT = 48, 400, 16
"""Bytes of a piece; how many are looked for; how many different values a piece has at least, so that padding is none."""
INSIDE, SEES = "autograder.artifacts.plans_inside", "autograder/artifacts/plans_inside.py"
"""Where `plan_of` runs if this process must not: it may see a GPU."""
REAL = 0.7
"""Part of the pieces that a plan must hold, and part of those that only this network has: an honest one has at least 0.91 and
0.92 of them (levels 0 to 5, three profiles), bytes that were not built none, a plan of another network none of the latter.
"""


@dataclass(frozen=True)
class Expected:
    """plan: of this network and profile, by the judge. other: of another network of the same layers, same profile.
    differs: what is said of a plan that holds nothing of what `plan` has and `other` has not.
    """

    plan: bytes
    other: bytes
    shapes: tuple[tuple[int, ...], ...]
    differs: str = "The plan is of another network than the given file."

    def problem(self, plan: bytes) -> str:
        """What is wrong with a script's plan; "" if it is one of this network."""
        if self._found(plan, only_here=False) < REAL:
            return "What was written is no plan that TensorRT-RTX built of the given file."
        if self._found(plan, only_here=True) < REAL:
            return self.differs
        return ""

    def has_profile(self, plan: bytes) -> bool:
        """Whether the three shapes stand in it, as TensorRT writes them."""
        return all(np.array(shape, np.int64).tobytes() in plan for shape in self.shapes)

    def _found(self, plan: bytes, only_here: bool) -> float:
        pieces = list(self._pieces(only_here))
        return sum(piece in plan for piece in pieces) / len(pieces) if pieces else 1.0

    def _pieces(self, only_here: bool) -> Iterator[bytes]:
        """From places that are drawn anew each time, so that nobody can know them."""
        rng, given = np.random.default_rng(), 0
        for place in rng.permutation(len(self.plan) - PIECE):
            piece = self.plan[place : place + PIECE]
            if len(set(piece)) < DISTINCT or only_here and piece in self.other:
                continue
            yield piece
            given += 1
            if given == (PIECES // 8 if only_here else PIECES):
                return


def expected(onnx: bytes, other: bytes, precision: str, name: str, shapes: Sequence[Sequence[int]]) -> Expected:
    """Build what a script is to build, and another network, with TensorRT-RTX in this process: both are the judge's own.

    Args:
        onnx, other: two networks of the same layers with other weights. name: of their input.
        precision: "int8" with Q/DQ pairs, else "tf32", which TensorRT takes for float32 unless told otherwise.
        shapes: smallest, usual and largest shape of it.

    Raises:
        BuildError, UnsupportedError: TensorRT-RTX does not work here.
    """
    mine, theirs = (plan_of(data, precision, name, shapes) for data in (onnx, other))
    return Expected(mine, theirs, tuple(map(tuple, shapes)))
