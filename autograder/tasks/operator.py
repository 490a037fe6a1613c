"""A custom operator: what a node of a plugin computes, and inputs that kernels get wrong."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from autograder.tasks.base import Seeds, Task

LIMITS = {"float32": (2e-5, 2e-6), "float16": (2e-3, 1e-6)}
"""Type -> largest error, relative and absolute. FP16 has steps of 2^-11 = 4.9e-4 (half of one is lost by rounding), FP32 of
6e-8; what is left is for fast exponentials and divisions, which a GPU computes to a few units in the last place."""


@dataclass(frozen=True)
class Drawn:
    """x: float32 [count], values that an operator must take; no two draws are alike. attributes: of the node, drawn, too."""

    x: np.ndarray
    attributes: Mapping[str, float]
    seed: int
    source: str

    def random(self) -> np.random.Generator:
        """Further numbers of this draw: the same at each call."""
        return np.random.default_rng([self.seed, 1])


@dataclass(frozen=True)
class Operator(Task):
    """An elementwise operator with one input and one output of the same shape and type.

    reference: "module:function": float64 or float32 array and the attributes by name -> array; computes in float64.
    node: its type in ONNX. domain: of ONNX. version, launcher: as the plugin's files have them.
    attributes: name -> (least, largest) value that is drawn. model: "module:function" that gives the PyTorch network which
    the nodes are part of; "" where there is none. onnx: "module:function" that gives the node as a function of ONNX's own
    operators (bytes of a FunctionProto).
    """

    reference: str
    node: str = ""
    domain: str = "course"
    version: str = "1"
    launcher: str = ""
    attributes: tuple[tuple[str, float, float], ...] = ()
    model: str = ""
    onnx: str = ""
    name: ClassVar[str] = "operator"
    drawn: ClassVar[str] = "Values"
    sized: ClassVar[bool] = False

    def draw(self, seeds: Seeds, purpose: str, count: int, size: Any = None) -> Drawn:
        """`count` values. Of eight or more, one each is 0, -0, subnormal in FP32, subnormal in FP16, +infinity, NaN, and far
        on either side; the rest is normal with a deviation of 4.
        """
        seed = seeds(purpose)
        rng = np.random.default_rng(seed)
        chosen = {name: float(np.float32(rng.uniform(least, most))) for name, least, most in self.attributes}
        return Drawn(
            values(count, rng), chosen, seed, "drawn at random, with zeros, subnormals, infinity and NaN among them"
        )

    def function(self):
        """The reference."""
        module, name = self.reference.split(":")
        return getattr(importlib.import_module(module), name)

    def function_of_onnx(self) -> bytes:
        """The node as a FunctionProto."""
        module, name = self.onnx.split(":")
        return getattr(importlib.import_module(module), name)()

    def answers(self, x: np.ndarray, **attributes: float) -> np.ndarray:
        """float64, of x's shape."""
        with np.errstate(all="ignore"):
            return self.function()(x.astype(np.float64), **attributes)

    def form(self, facts: Mapping) -> str:
        return ""

    def options(self, form: str) -> dict[str, object]:
        return {}

    def why_wrong(
        self,
        runs: Sequence[tuple[slice, Sequence[np.ndarray]]],
        wanted: Any,
        x: np.ndarray,
        limits: Any,
        facts: Mapping,
    ) -> str:
        for part, (answer, *_) in runs:
            if problem := wrong(answer, wanted[part], x[part]):
                return problem
        return ""

    def weights(self) -> int:
        return 0


def values(count: int, rng: np.random.Generator) -> np.ndarray:
    """float32 [count]; see `Operator.draw`."""
    x = rng.normal(0, 4, count).astype(np.float32)
    if count >= 8:
        special = [0.0, -0.0, rng.uniform(1e-40, 1e-39), rng.uniform(1e-7, 5e-5), np.inf, np.nan]
        special += [rng.uniform(1e3, 6e4), -rng.uniform(1e3, 6e4)]
        x[rng.choice(count, len(special), replace=False)] = np.array(special, np.float32)
    return x


def wrong(got: np.ndarray, wanted: np.ndarray, x: np.ndarray) -> str:
    """What is wrong with an operator's output, in words; "" if nothing is.

    got: float32 or float16. wanted: float64, for x as the kernel got it. Of FP16 the reference's answer is rounded first.
    Infinity and NaN must stand where the reference has them, and nowhere else.
    """
    if got.shape != wanted.shape:
        return f"It has the shape {list(got.shape)}, and it is {list(wanted.shape)}."
    relative, absolute = LIMITS[got.dtype.name]
    with np.errstate(all="ignore"):
        rounded = wanted.astype(got.dtype).astype(np.float64)
        numbers = got.astype(np.float64)
        good = np.isclose(numbers, rounded, rtol=relative, atol=absolute, equal_nan=True)
    if good.all():
        return ""
    first = int(np.argmin(good.reshape(-1)))
    flat_got, flat_wanted, flat_x = numbers.reshape(-1), rounded.reshape(-1), x.reshape(-1)
    bits = np.ascontiguousarray(got).reshape(-1)[first].tobytes()
    shown = "nothing was written" if bits == b"\xff" * len(bits) else f"{flat_got[first]:.6g}"
    return (
        f"Element {first} of {flat_got.size} ({got.dtype}): for x = {flat_x[first]:.6g} there is {shown}, and it is "
        f"{flat_wanted[first]:.6g}; {int((~good).sum())} elements are wrong."
    )
