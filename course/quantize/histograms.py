"""Histograms that grow while activations stream through them; the activations are not kept.

The bins of a histogram end at a power of two. When a larger value comes, the range is doubled and each two bins become
one. So a bin's edges never depend on which values came first: any order and any split into batches gives the same
counts. (A range that starts at the first batch's maximum, as ONNX Runtime's does, makes the scale depend on the batch.)
"""

from __future__ import annotations

import math

import numpy as np

from course.errors import CourseError, ShapeError

BINS = 4096
"""Bins for each sign. At least half of them are in use, so a limit is known to 1/2048 of the largest value."""
AT_ONCE = 1 << 16
"""Values that are counted at once: they and the numbers of their bins fit into a core's cache."""
PARTS = ("counts", "exponents", "low", "high")
"""The arrays that a histogram consists of."""
SMALLEST_EXPONENT = -126  # of float32's normal numbers: where a histogram of zeros stands


class Histogram:
    """Counts of a tensor's values, in equal bins that cover 0 to 2**exponent for each sign.

    counts: int64 [C, 2, bins]; [:, 0] counts negative values by their magnitude, [:, 1] zero and positive ones. Bin k
        holds k * width <= |x| < (k + 1) * width, width = 2**exponent / bins.
    exponents: int64 [C]. low, high: float32 [C], the smallest and largest value, exact.
    C is the number of channels, 1 for a histogram per tensor.
    """

    def __init__(self, channels: int = 1, bins: int = BINS):
        self.counts = np.zeros((channels, 2, bins), np.int64)
        self.exponents = np.full(channels, SMALLEST_EXPONENT, np.int64)
        self.low = np.full(channels, np.inf, np.float32)
        self.high = np.full(channels, -np.inf, np.float32)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.counts.shape[0]

    @property
    def bins(self) -> int:
        """Bins for each sign."""
        return self.counts.shape[2]

    @property
    def total(self) -> np.ndarray:
        """Number of values, int64 [C]."""
        return self.counts.sum((1, 2))

    @property
    def widths(self) -> np.ndarray:
        """Width of a bin, float64 [C], in the unit of the tensor."""
        return np.exp2(self.exponents.astype(np.float64)) / self.bins

    @property
    def largest(self) -> np.ndarray:
        """Largest |x|, float32 [C]."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def magnitudes(self) -> np.ndarray:
        """Counts of |x|, int64 [C, bins]."""
        return self.counts.sum(1)

    def signed(self) -> np.ndarray:
        """Counts from the most negative bin to the most positive one, int64 [C, 2 * bins]."""
        return np.concatenate([self.counts[:, 0, ::-1], self.counts[:, 1]], 1)

    def add(self, values: np.ndarray, axis: int | None = None, name: str = "the tensor") -> None:
        """Count a batch.

        Args:
            values: float32, any shape, may be empty.
            axis: the axis of the channels; None for a histogram per tensor.
            name: for messages.

        Raises:
            CourseError: a value is NaN or infinite.
            ShapeError: another number of channels than before.
        """
        rows = _rows(values, axis)
        if rows.shape[0] != self.channels:
            raise ShapeError(
                f"{name} has {rows.shape[0]} channels.",
                f"Its histogram has {self.channels}.",
                "Use one histogram for one tensor, and the same axis each time.",
            )
        if rows.shape[1] == 0:
            return
        for channel, row in enumerate(rows):
            self._add_row(channel, row, name)

    def _add_row(self, channel: int, row: np.ndarray, name: str) -> None:
        low, high = float(row.min()), float(row.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            bad = int((~np.isfinite(row)).sum())
            raise CourseError(
                f"{name} cannot be calibrated.",
                f"{bad} of its {row.size} values are NaN or infinite.",
                "Look at the calibration data and its preprocessing; the model must give finite values.",
            )
        largest = max(-low, high)
        self._widen(channel, max(SMALLEST_EXPONENT, math.frexp(largest)[1]) if largest else SMALLEST_EXPONENT)
        limit = 2.0 ** int(self.exponents[channel])
        for start in range(0, row.size, AT_ONCE):
            self.counts[channel] += _count(row[start : start + AT_ONCE], self.bins, limit, low < 0)
        self.low[channel] = min(self.low[channel], low)
        self.high[channel] = max(self.high[channel], high)

    def _widen(self, channel: int, exponent: int) -> None:
        steps = exponent - int(self.exponents[channel])
        if steps <= 0:
            return
        together = min(2**steps, self.bins) if steps < 63 else self.bins
        merged = self.counts[channel].reshape(2, self.bins // together, together).sum(2)
        self.counts[channel] = 0
        self.counts[channel, :, : merged.shape[1]] = merged
        self.exponents[channel] = exponent

    def merge(self, other: Histogram) -> None:
        """Add another histogram's counts: of other images, perhaps collected in another process.

        Raises:
            ShapeError: another number of channels or bins.
        """
        if self.counts.shape != other.counts.shape:
            raise ShapeError(
                "Two histograms cannot be merged.",
                f"Counts have shapes {self.counts.shape} and {other.counts.shape}.",
                "Merge histograms of the same tensor, made with the same number of bins.",
            )
        other = other.copy()
        for channel in range(self.channels):
            self._widen(channel, int(other.exponents[channel]))
            other._widen(channel, int(self.exponents[channel]))
        self.counts += other.counts
        self.low, self.high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)

    def copy(self) -> Histogram:
        """An independent copy."""
        twin = Histogram(self.channels, self.bins)
        twin.counts, twin.exponents = self.counts.copy(), self.exponents.copy()
        twin.low, twin.high = self.low.copy(), self.high.copy()
        return twin

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and all(
            np.array_equal(getattr(self, part), getattr(other, part)) for part in PARTS
        )


def histogram(values: np.ndarray, axis: int | None = None, bins: int = BINS) -> Histogram:
    """Histogram of an array at once. `axis`: of the channels, None for one histogram of all values."""
    made = Histogram(1 if axis is None else np.asarray(values).shape[axis], bins)
    made.add(values, axis)
    return made


def _count(values: np.ndarray, bins: int, limit: float, negative: bool) -> np.ndarray:
    """int64 [2, bins]: negative values by magnitude, and zero and positive ones; all are smaller than `limit`.

    Multiplying by powers of two is exact, so a value's bin is exact. In two steps: bins / limit may be too large for
    float32. negative: whether there may be values below zero; without them it takes half the time.
    """
    scaled = (np.abs(values) if negative else values) * np.float32(1 / limit)
    scaled *= np.float32(bins)
    index = scaled.astype(np.intp)
    index += bins * (values >= 0) if negative else bins
    return np.bincount(index, minlength=2 * bins).reshape(2, bins)


def _rows(values: np.ndarray, axis: int | None) -> np.ndarray:
    """float32 [C, n] of the values, channels first."""
    array = np.asarray(values, np.float32)
    if axis is None:
        return array.reshape(1, -1)
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
