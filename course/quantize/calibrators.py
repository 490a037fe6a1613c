"""Calibrators: from the histogram of a tensor to the range that its integers should cover.

Each is a function of a Histogram and returns a Range [C], one for each channel of the histogram. A range smaller than
the data clips its largest values so that the many small ones get finer steps; the methods weigh that differently.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from course.errors import CourseError
from course.quantize.arithmetic import LARGEST, Range
from course.quantize.histograms import Histogram

LEVELS = 128
"""Magnitudes of an INT8 number, 0 to 127."""
STRIDE = 4
"""Bins between two limits that `entropy` tries: about 1/500 to 1/1000 of the largest value."""
TIE = 1e-12
"""Divergences that differ by less are equal but for rounding: the smallest of these limits is taken."""
CANDIDATES = 400
"""Limits that `mse` tries for each side."""


def min_max(histogram: Histogram, symmetric: bool = True) -> Range:
    """Cover every value that was seen. One outlier costs all others their precision."""
    return _range(histogram, histogram.low, histogram.high, symmetric)


def percentile(histogram: Histogram, percent: float = 99.99, symmetric: bool = True) -> Range:
    """Cover this share of the values: of |x| if symmetric, else half of the rest is cut at each end.

    Raises:
        CourseError: `percent` is not above 0 and at most 100.
    """
    if not 0 < percent <= 100:
        raise CourseError(
            f"There is no percentile {percent}.",
            "It must be above 0 and at most 100.",
            "99.99 is a usual choice: one value in 10 000 is clipped.",
        )
    share = percent / 100
    if symmetric:
        limits = np.array([_quantile(counts, share) for counts in histogram.magnitudes()]) * histogram.widths
        return _range(histogram, -limits, limits, symmetric)
    counts, rest = histogram.signed(), (1 - share) / 2
    low = np.array([histogram.bins - _quantile(row[::-1], 1 - rest) for row in counts])  # bins from the left end
    high = np.array([_quantile(row, 1 - rest) - histogram.bins for row in counts])
    return _range(histogram, low * histogram.widths, high * histogram.widths, symmetric)


def entropy(histogram: Histogram, levels: int = LEVELS, symmetric: bool = True) -> Range:
    """The limit for which the quantised distribution loses the least information: smallest Kullback-Leibler divergence.

    For each limit the reference P is the histogram of |x| below it, with all that lies above counted into its last
    bin; the candidate Q is the same histogram (without what lies above) merged into `levels` groups and spread again
    over the bins that were not empty. (Migacz, "8-bit inference with TensorRT", GTC 2017.)

    The bin that holds zero counts as much as its neighbour. Zero is exact in every quantisation, but the many zeros
    behind a ReLU would share a group with small values and make every large limit look bad: the limit collapses to a
    tenth. NVIDIA's pytorch-quantization (`_compute_amax_entropy`, `bins[0] = bins[1]`) does the same; its groups are
    equally wide, too. `entropy_onnxruntime` counts the zeros.
    """
    limits = [_entropy_bin(counts.copy(), levels) for counts in histogram.magnitudes()]
    limits = np.array(limits) * histogram.widths
    return _range(histogram, -limits, limits, symmetric)


def entropy_onnxruntime(histogram: Histogram, levels: int = LEVELS, symmetric: bool = True) -> Range:
    """ONNX Runtime's method of the same name, for comparison: it differs by a factor of ten on ReLU outputs.

    (onnxruntime/quantization/calibrate.py, `get_entropy_threshold`.) It works on positive and negative values together,
    so that `levels` groups cover both signs; counts zeros; spreads Q over empty bins, too; rounds its counts down; puts
    what is left over by the division into groups into the last one; and replaces zeros by 1e-4 before it compares.
    """
    limits = []
    for channel, counts in enumerate(histogram.signed()):
        used = _used(histogram.magnitudes()[channel])
        limits.append(_onnxruntime_bin(counts[histogram.bins - used : histogram.bins + used], levels))
    limits = np.array(limits) * histogram.widths
    return _range(histogram, -limits, limits, symmetric)


def mse(histogram: Histogram, symmetric: bool = True) -> Range:
    """The range with the smallest mean squared error, rounding and clipping together.

    Symmetric: the best of 400 limits. Asymmetric: both ends in turns, until neither gets better. (Nagel et al. 2021,
    arXiv:2106.08295, section 3.1, "MSE"; the error is computed from the histogram, values at the middle of their bin.)
    """
    shares = np.arange(1, CANDIDATES + 1) / CANDIDATES
    lows, highs = np.zeros(histogram.channels), np.zeros(histogram.channels)
    for channel, counts in enumerate(histogram.signed()):
        filled = np.flatnonzero(counts)
        middles = (filled - histogram.bins + 0.5) * histogram.widths[channel]
        weights = counts[filled]
        low, high = min(0.0, float(histogram.low[channel])), max(0.0, float(histogram.high[channel]))
        if symmetric:
            limits = max(-low, high) * shares
            errors = [_error(middles, weights, -limit, limit, symmetric) for limit in limits]
            highs[channel] = limits[int(np.argmin(errors))] if len(filled) else 0
            lows[channel] = -highs[channel]
        else:
            lows[channel], highs[channel] = _best_ends(middles, weights, low, high, shares)
    return _range(histogram, lows, highs, symmetric)


@dataclass(frozen=True)
class Method:
    """A calibrator with its settings, by a name that messages and files use."""

    name: str
    function: Callable[[Histogram], Range]

    def __call__(self, histogram: Histogram) -> Range:
        return self.function(histogram)


METHODS: dict[str, Callable[..., Range]] = {
    "min-max": min_max,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
    "entropy-onnxruntime": entropy_onnxruntime,
}


def method(name: str, **settings) -> Method:
    """The calibrator of a name, for example method("percentile", percent=99.9).

    Raises:
        CourseError: there is no such method, or it has no such setting.
    """
    if name not in METHODS:
        raise CourseError(
            f"There is no calibration method {name!r}.", f"The methods are {', '.join(METHODS)}.", "Use one of these."
        )
    function = METHODS[name]
    unknown = set(settings) - set(function.__code__.co_varnames[1 : function.__code__.co_argcount])
    if unknown:
        raise CourseError(
            f"The method {name!r} has no setting {', '.join(sorted(unknown))}.",
            f"It has {', '.join(function.__code__.co_varnames[1 : function.__code__.co_argcount])}.",
            "Leave it out.",
        )
    words = [name, *(f"{key}={value}" for key, value in sorted(settings.items()))]
    return Method(" ".join(words), lambda histogram: function(histogram, **settings))


def _range(histogram: Histogram, low: np.ndarray, high: np.ndarray, symmetric: bool) -> Range:
    """The range, no wider than the data: a bin may end beyond its largest value.

    Raises:
        CourseError: a channel of the histogram saw no value.
    """
    if (histogram.total == 0).any():
        raise CourseError(
            "There is no range for this tensor.", "Its histogram has seen no value.", "Collect calibration data first."
        )
    if symmetric:
        limit = np.minimum(np.maximum(-low, high), histogram.largest).astype(np.float32)
        return Range(-limit, limit)
    return Range(np.maximum(low, histogram.low).astype(np.float32), np.minimum(high, histogram.high).astype(np.float32))


def _used(counts: np.ndarray) -> int:
    """Number of bins up to the last one that holds something, at least 1."""
    filled = np.flatnonzero(counts)
    return int(filled[-1]) + 1 if len(filled) else 1


def _quantile(counts: np.ndarray, share: float) -> float:
    """Where this share of the counts lies to the left, in bins; inside a bin by its part of the counts."""
    cumulative = np.cumsum(counts, dtype=np.float64)
    wanted = share * cumulative[-1]
    index = int(np.searchsorted(cumulative, wanted))
    before = cumulative[index - 1] if index else 0.0
    return index + (wanted - before) / max(counts[index], 1)


def _entropy_bin(counts: np.ndarray, levels: int) -> int:
    """Number of bins below the best limit; `counts` of |x| is changed.

    All limits at once. With R values in P, r in a bin, and C values in Q, of which each bin of a group that is not empty
    has e, the divergence is a sum over bins that does not depend on the limit, and one over the groups:

        sum of r/R * log((r/R) / (e/C))  =  (sum of r log r  -  sum over groups of r log e) / R  +  log(C / R)
    """
    if len(counts) > 1:
        counts[0] = counts[1]
    used = _used(counts)
    if used <= levels:
        return used  # each bin has a level of its own
    sums, filled = _prefix(counts), _prefix(counts > 0)
    ends = np.append(np.arange(levels, used, STRIDE), used)  # the whole range is always one of them
    edges = np.arange(levels + 1) * ends[:, None] // levels  # [limits, levels + 1]
    mass, occupied = np.diff(sums[edges]), np.diff(filled[edges])
    clipped = sums[-1] - sums[ends]  # counted into the last bin of P, not into Q
    last = counts[ends - 1].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.log(mass / occupied, out=np.zeros(mass.shape), where=mass > 0)
        own = _entropies(counts)[ends - 1] + _xlogx(last + clipped)
        inside = sums[ends]
        divergence = (own - (mass * each).sum(1) - clipped * each[:, -1]) / sums[-1] + np.log(inside / sums[-1])
    # Where P has something that Q has not, in the last bin, and where Q has nothing at all, it is infinite.
    divergence[((last == 0) & (clipped > 0)) | (inside == 0)] = np.inf
    least = divergence.min()
    return int(ends[np.argmax(divergence <= least + TIE)]) if np.isfinite(least) else used


def _xlogx(counts: np.ndarray) -> np.ndarray:
    return np.multiply(counts, np.log(counts, out=np.zeros(counts.shape), where=counts > 0))


def _entropies(counts: np.ndarray) -> np.ndarray:
    """float64 [N + 1]: sums of r log r over the first 0, 1, … N bins."""
    return np.concatenate([[0.0], np.cumsum(_xlogx(counts.astype(np.float64)))])


def _onnxruntime_bin(counts: np.ndarray, levels: int) -> int:
    """Number of bins from zero to the best limit, of counts over both signs."""
    total, zero = len(counts), len(counts) // 2
    sums, filled = _prefix(counts), _prefix(counts > 0)
    best, limit = np.inf, zero
    for half in range(levels // 2, zero + 1):
        start, end = zero - half, min(zero + half + 1, total)
        width = (end - start) // levels
        edges = start + width * np.arange(levels + 1)
        mass, occupied = np.diff(sums[edges]).astype(np.float64), np.diff(filled[edges])
        mass[-1] += sums[end] - sums[edges[-1]]
        reference = counts[start:end].astype(np.float64)
        # What lies outside fills the first and the last bin, which may have been empty.
        occupied[0] += reference[0] == 0 < sums[start]
        occupied[-1] += edges[-1] == end and reference[-1] == 0 < sums[-1] - sums[end]
        reference[0] += sums[start]
        reference[-1] += sums[-1] - sums[end]
        even = np.floor(np.divide(mass, occupied, out=np.zeros(levels), where=occupied > 0))
        candidate = np.zeros(end - start)
        candidate[: width * levels] = np.repeat(even, width)
        if not reference.any() or not candidate.any():
            continue
        divergence = _divergence(_smooth(reference), _smooth(candidate))
        if divergence < best:
            best, limit = divergence, min(half + 1, zero)
    return limit


def _prefix(counts: np.ndarray) -> np.ndarray:
    """int64 [N + 1]: sums of the first 0, 1, … N counts."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _smooth(counts: np.ndarray, little: float = 1e-4) -> np.ndarray:
    """Zeros become a little, taken from the others, so that the divergence is finite."""
    empty = counts == 0
    return np.where(empty, little, counts - little * empty.sum() / (~empty).sum())


def _divergence(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Kullback-Leibler divergence of two distributions given as counts; infinite where Q has nothing and P has."""
    if candidate.sum() == 0:
        return np.inf
    p, q = reference / reference.sum(), candidate / candidate.sum()
    here = p > 0
    if (q[here] <= 0).any():
        return np.inf
    return float((p[here] * np.log(p[here] / q[here])).sum())


def _error(middles: np.ndarray, weights: np.ndarray, low: float, high: float, symmetric: bool) -> float:
    """Sum of squared errors of values at `middles`, so many of each as `weights` says, for a range with zero in it."""
    scale = high / LARGEST if symmetric else (high - low) / 255
    if scale <= 0:
        return float((weights * middles**2).sum())
    zero = 0 if symmetric else np.rint(-low / scale)
    steps = np.clip(np.rint(middles / scale), -LARGEST if symmetric else -zero, LARGEST if symmetric else 255 - zero)
    return float((weights * (steps * scale - middles) ** 2).sum())


def _best_ends(
    middles: np.ndarray, weights: np.ndarray, low: float, high: float, shares: np.ndarray
) -> tuple[float, float]:
    lows, highs = low * np.append(shares, 0.0), high * np.append(shares, 0.0)
    best = np.inf
    while True:
        errors = [_error(middles, weights, low, end, False) for end in highs]
        high = highs[int(np.argmin(errors))]
        errors = [_error(middles, weights, end, high, False) for end in lows]
        low = lows[int(np.argmin(errors))]
        if min(errors) >= best:
            return low, high
        best = min(errors)
