"""The one way to time anything in the course.

`measure` times one function. `compare` times two, `compare_many` any number: each is warmed up until its
times settle, then all are called in turn, in a random order that changes from round to round, so that a
machine that slows down or speeds up hits all of them alike. A ratio always comes with an interval; without
one it says nothing.

How ratio and interval are made: see `ratio_interval`.
"""

from __future__ import annotations

import datetime
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import course
from course.bench.clocks import Clock, clock_of, no_garbage_collection, take_sample, warm_up
from course.errors import CourseError, DamagedFileError, MissingFileError
from course.files import atomic_write

FEWEST_ROUNDS = 8
"""With fewer rounds a 95 % interval cannot be had from resampling; it is then 0 to infinity."""
RESOLUTION = {"cpu": 0.01, "cuda": 0.005}
"""Half-width that every interval has at least, as a part of the ratio. It stands for what repeating inside
one process cannot show: where code and data happen to lie in memory and caches (Mytkowicz et al., "Producing
wrong data without doing anything obviously wrong!", ASPLOS 2009). We do not claim smaller differences."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Times of one function.

    milliseconds: float64 [N], time per call, one per sample, in the order in which they were taken.
    calls: calls per sample (more than 1 for a short function; each sample is then their mean).
    items: what one call processes, for example the images of a batch.
    device: "cpu" or "cuda"; device_name: in words.
    """

    label: str
    device: str
    device_name: str
    milliseconds: np.ndarray
    calls: int = 1
    items: int = 1

    @property
    def p50(self) -> float:
        """Median, ms per call."""
        return float(np.median(self.milliseconds))

    @property
    def p90(self) -> float:
        """90th percentile, ms per call."""
        return float(np.percentile(self.milliseconds, 90))

    @property
    def p99(self) -> float:
        """99th percentile, ms per call. Say nothing about it with fewer than 100 samples."""
        return float(np.percentile(self.milliseconds, 99))

    @property
    def items_per_second(self) -> float:
        """Throughput at the median time."""
        return 1000 * self.items / self.p50

    def __str__(self) -> str:
        return (
            f"{self.label}: median {_ms(self.p50)}, p90 {_ms(self.p90)}, p99 {_ms(self.p99)}, "
            f"{_plain(self.items_per_second)} items/s "
            f"({len(self.milliseconds)} samples on the {self.device_name})"
        )


@dataclass(frozen=True, eq=False)
class Comparison:
    """How much faster `a` is than `b`.

    ratio: time of b over time of a, per item, in the median round; 2.0 means that a is twice as fast.
    low, high: its 95 % confidence interval; 0 and infinity if there were too few rounds.
    """

    a: Samples
    b: Samples
    ratio: float
    low: float
    high: float

    @property
    def equal(self) -> bool:
        """True if the interval holds 1: no difference was shown. That is no proof that there is none."""
        return self.low <= 1 <= self.high

    def __str__(self) -> str:
        per = "" if self.a.items == self.b.items else " per item"
        times = (
            f"median {_ms(self.a.p50 / (self.a.items if per else 1))} against "
            f"{_ms(self.b.p50 / (self.b.items if per else 1))}{per}, on the {self.a.device_name}"
        )
        if not math.isfinite(self.high):
            return (
                f"{self.a.label} against {self.b.label}: too few rounds ({len(self.a.milliseconds)}) "
                f"to say which is faster ({times})"
            )
        if self.equal:
            return (
                f"{self.a.label} and {self.b.label}: no difference shown, ratio {self.ratio:.3f} "
                f"(95 % CI {self.low:.3f} to {self.high:.3f}; {times})"
            )
        if self.ratio > 1:
            return (
                f"{self.a.label} is {self.ratio:.2f} times as fast as {self.b.label} "
                f"(95 % CI {self.low:.2f} to {self.high:.2f}; {times})"
            )
        return (
            f"{self.a.label} takes {1 / self.ratio:.2f} times as long as {self.b.label} "
            f"(95 % CI {1 / self.high:.2f} to {1 / self.low:.2f}; {times})"
        )


@dataclass(frozen=True, eq=False)
class Record:
    """What a file of `save` holds: the result, and where and how it was taken."""

    result: Samples | Comparison | dict[str, Comparison]
    machine: dict
    command: list[str]
    course: str
    date: str


def measure(
    fn: Callable[[], object],
    *,
    label: str = "",
    device: str = "cpu",
    items: int = 1,
    warmup_s: float = 0.3,
    min_samples: int = 100,
    max_seconds: float = 10.0,
    clock: Clock | None = None,
) -> Samples:
    """Time one function: `min_samples` samples, fewer if `max_seconds` (warm-up included) is over before.

    To say that one thing is faster than another use `compare`: two separate measurements share no weather.

    Raises:
        CourseError: `fn` failed (the label is named), or is too fast to be timed.
        UnsupportedError: device="cuda" without a GPU.
    """
    return _collect({label or "function": fn}, [items], device, warmup_s, min_samples, max_seconds, None, clock)[0]


def compare(
    a: Callable[[], object],
    b: Callable[[], object],
    *,
    labels: tuple[str, str] = ("a", "b"),
    items: tuple[int, int] = (1, 1),
    device: str = "cpu",
    warmup_s: float = 0.3,
    rounds: int = 200,
    max_seconds: float = 20.0,
    progress: Callable[[float], None] | None = None,
    clock: Clock | None = None,
) -> Comparison:
    """Say how much faster `a` is than `b`, with a 95 % confidence interval.

    Args:
        a, b: functions without arguments. On a GPU they only need to enqueue work on the current stream.
        items: what one call processes; with different numbers the ratio is per item.
        device: "cpu" (perf_counter_ns) or "cuda" (CUDA events).
        rounds: how often each is sampled, fewer if `max_seconds` (warm-up included) is over before. The
            number does not depend on what the samples say: to stop as soon as a difference shows is how false
            ones are found.
        progress: called with the part that is done, 0 to 1.
        clock: another clock than the device's own, for simulations.

    Raises:
        CourseError: a function failed (its label is named), is too fast to be timed, or works on another CUDA
            stream.
        UnsupportedError: device="cuda" without a GPU.
    """
    first, second = labels
    if first == second:
        raise CourseError(
            f"Both functions are labelled {first!r}.", "A result must say which is which.", "Give two different labels."
        )
    samples = _collect({first: a, second: b}, items, device, warmup_s, rounds, max_seconds, progress, clock)
    return _comparison(*samples)


def compare_many(
    fns: Mapping[str, Callable[[], object]],
    *,
    items: Mapping[str, int] | None = None,
    device: str = "cpu",
    warmup_s: float = 0.3,
    rounds: int = 200,
    max_seconds: float = 60.0,
    progress: Callable[[float], None] | None = None,
    clock: Clock | None = None,
) -> dict[str, Comparison]:
    """Compare any number of functions with the first one, all interleaved.

    Returns, for every label but the first, a Comparison with a = that function and b = the first one: `ratio`
    is the speed-up over the first. Each interval is a 95 % one by itself, with no correction for their
    number. Arguments and errors as for `compare`; `items` gives each label's number (default 1).
    """
    if len(fns) < 2:
        raise CourseError(
            "compare_many got fewer than two functions.",
            f"It got {list(fns)}.",
            "Give at least two, or use measure() for one.",
        )
    unknown = set(items or {}) - set(fns)
    if unknown:
        raise CourseError(
            f"items names {sorted(unknown)}, which is no function's label.",
            f"Labels are {list(fns)}.",
            "Use the same labels in both.",
        )
    counts = [(items or {}).get(label, 1) for label in fns]
    first, *others = _collect(fns, counts, device, warmup_s, rounds, max_seconds, progress, clock)
    return {samples.label: _comparison(samples, first) for samples in others}


def _collect(
    fns: Mapping[str, Callable],
    items,
    device: str,
    warmup_s: float,
    rounds: int,
    max_seconds: float,
    progress: Callable[[float], None] | None,
    clock: Clock | None,
) -> list[Samples]:
    """Warm up, then sample all functions once per round, in random order; a round's reverse follows it, so
    that no function follows another one more often than the other way round."""
    if rounds < 1 or max_seconds <= 0 or any(count < 1 for count in items):
        raise CourseError(
            "Nothing to measure.",
            f"rounds={rounds}, max_seconds={max_seconds}, items={list(items)}.",
            "Each must be at least 1 (seconds: above 0).",
        )
    clock, device_name = clock_of(device, clock)
    begin = time.perf_counter()
    rng = np.random.default_rng(0)
    labels = list(fns)
    with no_garbage_collection():
        patience = max_seconds / (4 * len(fns))
        calls = [warm_up(label, fn, clock, warmup_s, patience) for label, fn in fns.items()]
        times: list[list[float]] = [[] for _ in fns]
        order = rng.permutation(len(fns))
        for done in range(rounds):
            order = rng.permutation(len(fns)) if done % 2 == 0 else order[::-1]
            for index in order:
                times[index].append(take_sample(labels[index], fns[labels[index]], clock, calls[index]))
            spent = (time.perf_counter() - begin) / max_seconds
            if progress is not None:
                progress(min(1.0, max((done + 1) / rounds, spent)))
            if spent >= 1:
                break
    for label, values in zip(labels, times):
        if not min(values) > 0:
            raise CourseError(
                f"{label!r} is too fast to be timed.",
                "A sample took 0 ms.",
                "On a GPU, check that the function does work on the current stream.",
            )
    return [
        Samples(label, device, device_name, np.array(values), count, item)
        for label, values, count, item in zip(labels, times, calls, items)
    ]


def ratio_interval(
    a: np.ndarray, b: np.ndarray, *, resolution: float = 0.0, draws: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """How many times as long b takes as a: the median over the rounds of b/a, and its 95 % interval.

    a, b: float [N], paired: a[i] and b[i] were taken in the same round. Returns (ratio, low, high).

    The median of the paired ratios, not the ratio of the two medians: on a quiet machine they are the same,
    but when another program comes and goes, a median jumps between two levels, while what hits a whole round
    leaves its ratio.

    Percentile bootstrap of the logarithm of the ratio (Efron & Tibshirani, An Introduction to the Bootstrap,
    1993, ch. 13) that draws blocks of neighbouring rounds (Künsch 1989, circular by Politis & Romano 1992).
    How long the machine's moods last is unknown, so block lengths 1, N^(1/3) and N^(1/2) are all tried and
    the widest limit on each side is kept. Each is widened by t(0.975, blocks - 1) / 1.96 for the small number
    of blocks, and all by `resolution`. Checked by simulation (400 comparisons of equal functions for each of
    8 kinds of noise and 20, 60 and 200 rounds): 0 to 4.8 % of the intervals excluded 1 without `resolution`,
    at most 1.0 % with 1 % of it.
    """
    ratios, rng = np.log(b / a), np.random.default_rng(seed)
    count, centre = len(ratios), float(np.median(ratios))
    if count < FEWEST_ROUNDS:
        return math.exp(centre), 0.0, math.inf
    below = above = 0.0
    for length in sorted({1, round(count ** (1 / 3)), round(count ** (1 / 2))}):
        blocks = math.ceil(count / length)
        starts = rng.integers(0, count, (draws, blocks))
        rows = ((starts[:, :, None] + np.arange(length)) % count).reshape(draws, -1)[:, :count]
        drawn = np.median(ratios[rows], axis=1) - centre
        low, high = np.quantile(drawn, [0.025, 0.975]) * _t_quantile(max(2, blocks - 1)) / 1.96
        below, above = min(below, low), max(above, high)
    return math.exp(centre), math.exp(centre + below - resolution), math.exp(centre + above + resolution)


def _t_quantile(freedom: int) -> float:
    """97.5 % quantile of Student's t (series of Abramowitz & Stegun 26.7.5; within 1 % from 3 on)."""
    z = 1.959964
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def _comparison(a: Samples, b: Samples) -> Comparison:
    ratio = ratio_interval(a.milliseconds / a.items, b.milliseconds / b.items, resolution=RESOLUTION[a.device])
    return Comparison(a, b, *ratio)


def machine() -> dict:
    """The machine in words and numbers, for the record of a measurement."""
    from course.machine import describe_machine

    return describe_machine()


def save(result: Samples | Comparison | Mapping[str, Comparison], path: str | Path) -> Path:
    """Write a result as JSON, with its raw samples, the machine, the command line, our version and the date.

    Raises:
        CourseError: the file cannot be written; no partial file is left.
    """
    if isinstance(result, Samples):
        kind, pairs = "samples", []
    elif isinstance(result, Comparison):
        kind, pairs = "comparison", [result]
    else:
        kind, pairs = "comparisons", list(result.values())
    samples = [result] if kind == "samples" else [s for pair in pairs for s in (pair.a, pair.b)]
    unique = list({id(s): s for s in samples}.values())
    position = {id(s): index for index, s in enumerate(unique)}
    record = {
        "format": "course.bench 1",
        "kind": kind,
        "course": course.__version__,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": sys.argv,
        "machine": machine(),
        "comparisons": [
            {
                "a": position[id(p.a)],
                "b": position[id(p.b)],
                "summary": str(p),
                "ratio": p.ratio,
                "low": p.low,
                "high": p.high if math.isfinite(p.high) else None,
            }
            for p in pairs
        ],
        "samples": [{**vars(s), "milliseconds": s.milliseconds.tolist()} for s in unique],
    }
    return atomic_write(path, json.dumps(record, indent=1, default=str).encode())


def load(path: str | Path) -> Record:
    """Read a file of `save`; every number comes back as it was.

    Raises:
        MissingFileError: there is no such file.
        DamagedFileError: it is not a file of `save`.
    """
    try:
        record = json.loads(Path(path).read_text())
        samples = [Samples(**{**s, "milliseconds": np.array(s["milliseconds"])}) for s in record["samples"]]
        pairs = [
            Comparison(
                samples[p["a"]], samples[p["b"]], p["ratio"], p["low"], math.inf if p["high"] is None else p["high"]
            )
            for p in record["comparisons"]
        ]
        result = {
            "samples": lambda: samples[0],
            "comparison": lambda: pairs[0],
            "comparisons": lambda: {p.a.label: p for p in pairs},
        }[record["kind"]]()
        return Record(result, record["machine"], record["command"], record["course"], record["date"])
    except FileNotFoundError as error:
        raise MissingFileError(
            f"{path} is missing.", "There is no such file.", "Measure again, or check the path."
        ) from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DamagedFileError(
            f"{path} is not a saved measurement.",
            f"{type(error).__name__}: {error}",
            "Use a file that course.bench.save wrote.",
        ) from error


def _plain(value: float) -> str:
    """Three digits or all whole ones: 0.825, 17.2, 77,990; never 7.8e+04."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ms(value: float) -> str:
    return f"{value:.3g} ms" if value < 100 else f"{value:.0f} ms"
