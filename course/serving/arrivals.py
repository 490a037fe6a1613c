"""When requests are due: times in seconds from the start, float64, rising. The open loop sends by such a plan."""

from __future__ import annotations

import numpy as np

from course.serving.words import ServingError


def steady(rate: float, seconds: float) -> np.ndarray:
    """One request every 1/rate seconds."""
    _must_be_positive(rate=rate, seconds=seconds)
    return np.arange(round(rate * seconds)) / rate


def poisson(rate: float, seconds: float, seed: int = 0) -> np.ndarray:
    """Independent users: gaps are exponential with the mean 1/rate, so requests come in bursts."""
    return ramp(rate, rate, seconds, seed)


def ramp(first: float, last: float, seconds: float, seed: int = 0) -> np.ndarray:
    """Poisson arrivals whose rate goes evenly from `first` to `last` requests a second.

    Unit-rate arrivals are mapped through the inverse of the expected count Λ(t) = first·t + (last -
    first)·t²/(2·seconds) (Çinlar, Introduction to Stochastic Processes, 1975, ch. 4.7: the inversion method).
    """
    _must_be_positive(last=last, seconds=seconds)
    if first < 0:
        raise ServingError("The first rate", f"It is {first:g} requests/s.", "Use 0 or more.")
    total = (first + last) / 2 * seconds
    random = np.random.default_rng(seed)
    counts = np.cumsum(random.exponential(size=int(total + 10 * np.sqrt(total) + 20)))
    counts = counts[counts < total]
    slope = (last - first) / seconds
    if abs(slope) < 1e-12 * last:
        return counts / first
    return (np.sqrt(first**2 + 2 * slope * counts) - first) / slope


def _must_be_positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise ServingError(f"{name}={value!r}", "It must be a number above 0.", "Give requests/s and seconds.")
