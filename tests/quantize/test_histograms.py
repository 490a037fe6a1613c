"""Streaming histograms: exact bins, and the same whatever the order and the batches."""

from __future__ import annotations

import numpy as np
import pytest

from course.errors import CourseError, ShapeError
from course.quantize import histograms as module
from course.quantize.histograms import SMALLEST_EXPONENT, Histogram, histogram


def values(seed: int, size: int = 5000) -> np.ndarray:
    """Values over many magnitudes, of both signs, with zeros."""
    rng = np.random.default_rng(seed)
    made = rng.standard_normal(size) * np.exp2(rng.integers(-12, 6, size))
    made[rng.random(size) < 0.1] = 0
    return made.astype(np.float32)


def counted_by_numpy(x: np.ndarray, exponent: int, bins: int) -> np.ndarray:
    """int64 [2, bins], from the definition."""
    index = np.floor(np.abs(x.astype(np.float64)) / 2.0**exponent * bins).astype(int)
    return np.stack([np.bincount(index[x < 0], minlength=bins), np.bincount(index[x >= 0], minlength=bins)])


@pytest.mark.parametrize(
    "x",
    [values(0), np.abs(values(1)), -np.abs(values(2)) - 1, np.float32([4.0, -4.0, 2.0]), np.zeros(7, np.float32)],
    ids=["both signs", "positive", "negative", "edges", "zeros"],
)
def test_counts_are_exact(x):
    one = histogram(x, bins=64)
    np.testing.assert_array_equal(one.counts[0], counted_by_numpy(x, int(one.exponents[0]), 64))
    assert one.total[0] == x.size
    assert (one.low[0], one.high[0]) == (x.min(), x.max())
    assert np.abs(x).max() < 2.0 ** one.exponents[0], "the largest value lies inside"


def test_any_order_and_any_batches_give_the_same():
    x = values(3)
    whole, rng = histogram(x), np.random.default_rng(4)
    for _ in range(5):
        parts = Histogram()
        for part in np.split(rng.permutation(x), np.sort(rng.integers(0, x.size, 7))):
            parts.add(part)
        assert parts == whole
    assert histogram(x[::-1]) == whole and histogram(x[1:]) != whole


def test_merged_histograms_are_those_of_all_values():
    x = values(5)
    for cut in (100, 4900):
        one, other = histogram(x[:cut]), histogram(x[cut:])
        before = other.copy()
        one.merge(other)
        assert one == histogram(x) and other == before, "the other one stays as it is"
    with pytest.raises(ShapeError, match="Two histograms cannot be merged"):
        histogram(x).merge(histogram(x, bins=16))


def test_widening_from_nothing_and_by_more_than_all_bins():
    one = histogram(np.zeros(3, np.float32), bins=16)
    assert one.exponents[0] == SMALLEST_EXPONENT and one.widths[0] > 0
    one.add(np.float32([3e-20, -3e-20]))
    one.add(np.float32([5.0]))
    assert one == histogram(np.float32([0, 0, 0, 3e-20, -3e-20, 5.0]), bins=16)
    assert one.counts[0, 1, 0] == 4 and one.counts[0, 0, 0] == 1


def test_channels_have_ranges_of_their_own():
    x = values(6, 3 * 40 * 5).reshape(40, 3, 5) * np.float32([1, 100, 0])[:, None]
    one = histogram(x, axis=1)
    for channel in range(3):
        alone = histogram(x[:, channel])
        assert one.exponents[channel] == alone.exponents[0]
        np.testing.assert_array_equal(one.counts[channel], alone.counts[0])
    with pytest.raises(ShapeError, match="has 2 channels"):
        one.add(x[:, :2], axis=1)


def test_signed_and_magnitudes_are_views_of_the_same_counts():
    one = histogram(np.float32([-3.9, -0.1, 0, 0.1, 1.1]), bins=4)
    np.testing.assert_array_equal(one.signed(), [[1, 0, 0, 1, 2, 1, 0, 0]])
    np.testing.assert_array_equal(one.magnitudes(), [[3, 1, 0, 1]])


def test_values_are_counted_in_parts(monkeypatch):
    whole = histogram(values(7, 1001))
    monkeypatch.setattr(module, "AT_ONCE", 100)
    assert histogram(values(7, 1001)) == whole
    assert whole.total[0] == 1001


@pytest.mark.parametrize("exponent", [SMALLEST_EXPONENT, -120, 127, 128])
def test_counts_are_exact_at_both_ends_of_float32(exponent):
    """Where 1 / width or the limit itself is no float32."""
    x = np.array([-0.875, -0.5, -(2.0**-13), 0, 2.0**-13, 0.25, 0.75, 0.96875]) * 2.0**exponent
    one = histogram(x.astype(np.float32))
    assert one.exponents[0] == exponent
    np.testing.assert_array_equal(one.counts[0], counted_by_numpy(x, exponent, one.bins))


def test_more_than_float32_can_count():
    """A counter in float32 would stop at 2**24."""
    one = histogram(np.ones((1 << 24) + 3, np.float32))
    assert one.total[0] == (1 << 24) + 3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(bad):
    one = Histogram()
    with pytest.raises(CourseError, match="Tensor 'x' cannot be calibrated.*\n.*1 of its 3 values"):
        one.add(np.float32([1, bad, 2]), name="Tensor 'x'")
    assert one.total[0] == 0


def test_empty_batches_change_nothing():
    one = histogram(np.float32([1, 2]))
    before = one.copy()
    one.add(np.empty((0, 3), np.float32))
    assert one == before
