"""How far two sets of logits agree, and how sure that is."""

from __future__ import annotations

import math

import numpy as np


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927)."""
    z, part = 1.96, hits / count
    centre = (part + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(part * (1 - part) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def drop_interval(answer: np.ndarray, wanted: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """95 % interval of the accuracy lost, paired by image (normal approximation)."""
    lost = (wanted.argmax(1) == labels).astype(float) - (answer.argmax(1) == labels)
    half = 1.96 * lost.std() / math.sqrt(len(lost))
    return float(lost.mean() - half), float(lost.mean() + half)


def error_of(answer: np.ndarray, wanted: np.ndarray) -> float:
    """Root mean square of the difference, relative to that of the reference around each image's mean logit.

    Infinite for another shape, NaN or infinity.
    """
    if answer.shape != wanted.shape or not np.isfinite(answer).all():
        return math.inf
    spread = np.sqrt(np.mean((wanted - wanted.mean(axis=1, keepdims=True)) ** 2))
    return float(np.sqrt(np.mean((answer.astype(np.float64) - wanted) ** 2)) / max(float(spread), 1e-12))


def why_wrong(answer: np.ndarray, wanted: np.ndarray, error: float) -> str:
    if answer.shape != wanted.shape:
        return f"The output has the shape {list(answer.shape)}, PyTorch's has {list(wanted.shape)}."
    if not np.isfinite(answer).all():
        return f"The output holds {int((~np.isfinite(answer)).sum())} values that are NaN or infinite."
    return f"The logits are wrong by {100 * error:.0f} %: those of another network."
