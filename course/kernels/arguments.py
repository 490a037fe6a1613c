"""What is passed to a launcher: arrays, outputs, numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from course.kernels.words import KernelError

HOLDS, WRITABLE, OUTPUT = 1, 2, 4


@dataclass
class Buffer:
    """An array in the memory of the simulated GPU.

    array: its values before the call, None where there are none. flags: HOLDS values, WRITABLE by kernels, OUTPUT
    (every
    element must be written).
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    flags: int
    array: np.ndarray | None = None
    offset: int = field(default=0, compare=False)

    @property
    def bytes(self) -> int:
        """Size."""
        return math.prod(self.shape) * self.dtype.itemsize

    def message(self) -> dict:
        """For the loader."""
        return {
            "kind": "array",
            "offset": self.offset,
            "bytes": self.bytes,
            "dtype": self.dtype.name,
            "flags": self.flags,
        }


@dataclass
class Scalar:
    """A number; None is a null pointer or the default stream."""

    value: int | float | None

    def message(self) -> dict:
        """For the loader."""
        return {"kind": "scalar", "value": self.value}


def out(shape: int | Sequence[int], dtype: object = np.float32, *, partial: bool = False) -> Buffer:
    """An output: memory without values that the kernel writes.

    Args:
        partial: the kernel need not write all of it. Without it, an element that was never written is a finding.
    """
    sides = (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(int(side) for side in shape)
    return Buffer(sides, np.dtype(dtype), WRITABLE | (0 if partial else OUTPUT))


def inout(array: np.ndarray) -> Buffer:
    """An array that the kernel reads and writes; the given one stays as it is, the result holds the new values."""
    array = np.ascontiguousarray(array)
    return Buffer(array.shape, array.dtype, HOLDS | WRITABLE, array)


def prepared(argument: object, number: int) -> Buffer | Scalar:
    """An argument as it travels.

    Raises:
        KernelError: it is nothing that a launcher can take.
    """
    if isinstance(argument, Buffer):
        return Buffer(argument.shape, argument.dtype, argument.flags, argument.array)  # a copy: it gets an offset
    if isinstance(argument, np.ndarray):
        array = np.ascontiguousarray(argument)
        return Buffer(array.shape, array.dtype, HOLDS, array)
    if argument is None:
        return Scalar(None)
    if isinstance(argument, (bool, int, np.integer, np.bool_)):
        return Scalar(int(argument))
    if isinstance(argument, (float, np.floating)):
        return Scalar(float(argument))
    raise KernelError(
        f"Argument {number} is a {type(argument).__name__}.",
        "A launcher takes arrays, numbers and None.",
        "Give a NumPy array (for a PyTorch tensor: tensor.numpy()), kernels.out(shape), kernels.inout(array), or a "
        "number.",
    )
