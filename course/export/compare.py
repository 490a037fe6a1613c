"""When two answers count as the same: every output in its own scale, whatever its dtype."""

from __future__ import annotations

import numpy as np

RELATIVE = 0.01
"""Part of its scale by which a value may be off. Far above the rounding of float32, far below what a value or a
length that was built in changes."""
ROUNDING = 1e-5
"""Part of a tensor's largest value that rounding may add to its small values: float32 has 1.2e-7 a step, and a deep
network takes many."""
TIES = 0.001
"""Part of the integers of an output that may differ: an argmax between two values that rounding made equal."""
APART = 10.0
"""Channels whose largest values are this far apart are compared each in its own scale (scores beside pixels)."""


def difference(answer: np.ndarray, wanted: np.ndarray) -> str:
    """What is wrong with `answer`, in words; "" if it is `wanted` but for rounding.

    Args:
        answer, wanted: arrays of one shape and of any dtype. NaN must be where NaN is wanted, an infinity must be the
            same one. A float may be off by 1 % of its scale: that of the whole tensor, or that of its slice along any
            axis on which the largest values lie more than ten times apart.
    """
    if (answer.dtype.kind in "iu") != (wanted.dtype.kind in "iu") or (answer.dtype == bool) != (wanted.dtype == bool):
        return f"is {answer.dtype}, in PyTorch {wanted.dtype}"
    if wanted.dtype.kind not in "fc":
        return _exact(answer, wanted)
    if wanted.dtype.kind == "c" or answer.dtype.kind == "c":
        answer, wanted = (np.stack([values.real, values.imag], -1) for values in (answer, wanted))
    x, y = answer.astype(np.float64), wanted.astype(np.float64)
    usual = np.isfinite(y)
    odd = np.where(usual, ~np.isfinite(x), ~((x == y) | (np.isnan(x) & np.isnan(y))))
    if odd.any():
        place = np.unravel_index(odd.argmax(), odd.shape)
        return f"is {x[place]:g} where PyTorch gives {y[place]:g} ({odd.sum()} of {odd.size} values)"
    x, y = np.where(usual, x, 0.0), np.where(usual, y, 0.0)
    excess = np.abs(x - y) / allowed(y)
    if not excess.size or excess.max() <= 1:
        return ""
    place = np.unravel_index(excess.argmax(), excess.shape)
    scale = (allowed(y)[place] - ROUNDING * np.abs(y).max() - 1e-6) / RELATIVE
    return f"is off by {abs(x - y)[place]:.2g} (largest value {scale:.2g})"


def allowed(wanted: np.ndarray) -> np.ndarray:
    """How far each value may be off, in the unit of `wanted`: an array that broadcasts to its shape."""
    size = np.abs(wanted)
    largest = size.max(initial=0.0)
    scale = np.full(wanted.shape, largest)
    for axis in range(wanted.ndim):
        others = tuple(other for other in range(wanted.ndim) if other != axis)
        of_slice = size.max(axis=others, keepdims=True, initial=0.0)
        scale = np.minimum(scale, np.where(of_slice * APART < largest, of_slice, largest))
    return RELATIVE * scale + ROUNDING * largest + 1e-6


def _exact(answer: np.ndarray, wanted: np.ndarray) -> str:
    wrong = answer != wanted
    if wrong.sum() <= TIES * wrong.size:
        return ""
    place = np.unravel_index(wrong.argmax(), wrong.shape)
    return f"has {wrong.sum()} of {wrong.size} values wrong, the first is {answer[place]} instead of {wanted[place]}"
