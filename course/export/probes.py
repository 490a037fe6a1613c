"""Other values for the inputs of a model, such as it could meet: what was built in shows on them.

Nobody says which values an input may hold. Values drawn from the example's own range are likely to be valid, and those
that PyTorch itself refuses, or answers with NaN, are left out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def scaled(value: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Floats of the same sign and similar size (0.25 to 0.75 times); any other dtype as it is."""
    if value.dtype.kind != "f":
        return value
    return (value * generator.uniform(0.25, 0.75, value.shape)).astype(value.dtype)


def variations(feeds: dict[str, np.ndarray], generator: np.random.Generator) -> Iterator[dict[str, np.ndarray]]:
    """The same shapes with other values, all inputs at once. A variation that changes nothing is left out."""
    for make in (_mixed, _drawn, _lower_half, _upper_half, _lowest, _highest, _below, _above):
        varied = {name: make(value, generator) for name, value in feeds.items()}
        if any(not np.array_equal(varied[name], feeds[name]) for name in feeds):
            yield varied


def _mixed(value: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Floats: each drawn from the values of the same column in other samples (and, of an image, other places), so that
    counts and order change, and a column that holds indices holds some still. A constant becomes numbers from 0 to 1."""
    if value.dtype.kind != "f" or not value.size:
        return value
    if value.ndim and value.min() == value.max() == 0:
        return generator.uniform(0, 1, value.shape).astype(value.dtype)
    axes = {0: (), 1: (), 2: (0,), 3: (0, 1)}.get(value.ndim, (0, *range(2, value.ndim)))
    index = [
        np.arange(size).reshape([-1 if a == b else 1 for b in range(value.ndim)]) for a, size in enumerate(value.shape)
    ]
    for axis in axes:
        index[axis] = generator.integers(0, value.shape[axis], value.shape)
    return value[tuple(index)] if axes else value


def _drawn(value: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Integers drawn evenly from the example's range; of a mask, a row that had a True keeps one."""
    if value.dtype == bool:
        drawn = generator.random(value.shape) < 0.5
        if value.ndim:
            lost = value.any(-1, keepdims=True) & ~drawn.any(-1, keepdims=True)
            drawn |= lost & value
        return drawn
    if not _whole(value):
        return value
    return generator.integers(value.min(), value.max(), value.shape, endpoint=True, dtype=value.dtype)


def _lower_half(value: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Another largest value than the example's."""
    if not _whole(value):
        return value
    middle = int(value.min()) + (int(value.max()) - int(value.min())) // 2
    return generator.integers(value.min(), middle, value.shape, endpoint=True, dtype=value.dtype)


def _upper_half(value: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Another smallest value than the example's."""
    if not _whole(value):
        return value
    middle = int(value.max()) - (int(value.max()) - int(value.min())) // 2
    return generator.integers(middle, value.max(), value.shape, endpoint=True, dtype=value.dtype)


def _lowest(value: np.ndarray, _) -> np.ndarray:
    return np.full_like(value, value.min()) if _whole(value) else value


def _highest(value: np.ndarray, _) -> np.ndarray:
    return np.full_like(value, value.max()) if _whole(value) or value.dtype == bool and value.any() else value


def _below(value: np.ndarray, _) -> np.ndarray:
    """An example that is the same everywhere (a length, a step, a side) has no range: its neighbours are tried."""
    constant = _whole(value) and value.min() == value.max() and value.min() > 0
    return value - value.dtype.type(1) if constant else value


def _above(value: np.ndarray, _) -> np.ndarray:
    constant = _whole(value) and value.min() == value.max() < np.iinfo(value.dtype).max
    return value + value.dtype.type(1) if constant else value


def _whole(value: np.ndarray) -> bool:
    return value.dtype.kind in "iu" and value.size > 0
