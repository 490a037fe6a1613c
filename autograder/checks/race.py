"""Timing code that somebody handed in: from outside, by a clock that the code cannot reach.

Its box is sent fresh inputs and must send back every answer; the clock runs from the first byte sent to the last byte
received, so nothing is gained by computing before, after or beside it. Two sizes of a run give the time of one call as
their difference, so the fixed cost of a request drops out; the cost of sending one more input stays in, for both sides.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autograder.rejected import Rejected
from autograder.sandbox.process import Box
from course.bench import FEWEST_ROUNDS

SHORTEST_S = 0.05
MOST_CALLS = 4096
MOST_ROUNDS = 40
STEADY, UNSTEADY = 1.5, 2.0
"""Upper end of the interval over the lower end: up to the first, it is known well enough; above the second, after all
rounds, nothing can be said: a script half as fast as the given one could pass for a faster one."""


@dataclass(frozen=True)
class Racer:
    """One side. ask(inputs) sends them to `box`, and gives back one answer for each."""

    box: Box
    ask: Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as the peer, with its 95 % interval, and both times of one call in ms."""

    value: float
    low: float
    high: float
    ours_ms: float
    peer_ms: float
    calls: int
    rounds: int


def race(
    ours: Racer,
    peer: Racer,
    fresh: Callable[[int], Sequence[Any]],
    why_wrong: Callable[[Sequence[Any], Sequence[Any]], str],
    lost: float = 0.0,
    won: float = math.inf,
) -> tuple[Ratio | None, str]:
    """Time both in turns; while one runs, every process of the other is stopped. Rounds follow each other until the
    interval is narrow enough, or wholly below `lost`, or wholly above `won`.

    Args:
        fresh: that many inputs, never the same ones twice.
        why_wrong: of inputs and answers: what is wrong, "" if nothing is. Every answer of every timed call is judged.
        lost: a ratio that earns nothing. Somebody who leaves programs running makes the times unsteady, and need not be
            known better than that.
        won: one that earns everything. A busy machine makes the times unsteady, and must not cost somebody whose code
            is surely quick enough.

    Returns: the ratio, or None and why no time counts.

    Raises:
        Rejected: a box ended or was too slow.
    """

    def settled(found: Ratio) -> bool:
        return found.high < lost or found.low > won

    try:
        calls, problem = _enough(ours, peer, fresh, why_wrong)
        rounds: list[list[float]] = []
        found = None
        while (
            not problem
            and len(rounds) < MOST_ROUNDS
            and not (found and (found.high <= STEADY * found.low or settled(found)))
        ):
            seconds: dict[str, list[float]] = {}
            sides = (("ours", ours, peer), ("peer", peer, ours))
            for name, racer, other in sides if len(rounds) % 2 else sides[::-1]:
                short, problem = _timed(racer, other, fresh(calls), why_wrong)
                if not problem:
                    long, problem = _timed(racer, other, fresh(2 * calls), why_wrong)
                if problem:
                    return None, problem
                seconds[name] = [short, long]
            rounds.append([*seconds["ours"], *seconds["peer"]])
            if len(rounds) >= FEWEST_ROUNDS:
                found = ratio_of(np.array(rounds), calls)
    finally:
        ours.box.resume()
        peer.box.resume()
    if problem:
        return None, problem
    if found is None or not (found.high <= UNSTEADY * found.low or settled(found)):
        raise Rejected(
            "The times are too unsteady to be compared.",
            f"After {len(rounds)} rounds the ratio is "
            + ("not known at all." if found is None else f"between {found.low:.2f} and {found.high:.2f}."),
            "Measure again on a quieter machine.",
        )
    return found, ""


def ratio_of(seconds: np.ndarray, calls: int, samples: int = 2000) -> Ratio | None:
    """The ratio of the times of one call, from medians over the rounds, with the percentile bootstrap's interval (Efron
    and Tibshirani 1993, chapter 13). None where a run of twice as many calls takes no longer.

    Args:
        seconds: [rounds, 4]: ours for `calls` and for twice as many, the peer's likewise.
    """
    drawn = np.random.default_rng(0).integers(0, len(seconds), (samples, len(seconds)))
    medians = np.concatenate([np.median(seconds, axis=0)[None], np.median(seconds[drawn], axis=1)])
    ours, peer = medians[:, 1] - medians[:, 0], medians[:, 3] - medians[:, 2]
    if min(ours.min(), peer.min()) <= 0:
        return None
    low, high = np.percentile(peer[1:] / ours[1:], (2.5, 97.5))
    ours_ms, peer_ms = 1e3 * ours[0] / calls, 1e3 * peer[0] / calls
    return Ratio(float(peer[0] / ours[0]), float(low), float(high), float(ours_ms), float(peer_ms), calls, len(seconds))


def _enough(ours: Racer, peer: Racer, fresh: Callable, why_wrong: Callable) -> tuple[int, str]:
    """So many calls that the quicker side takes at least 50 ms for them."""
    calls = 1
    while True:
        taken = []
        for racer, other in ((ours, peer), (peer, ours)):
            seconds, problem = _timed(racer, other, fresh(calls), why_wrong)
            if problem:
                return calls, problem
            taken.append(seconds)
        if min(taken) >= SHORTEST_S or calls >= MOST_CALLS:
            return calls, ""
        calls *= 2


def _timed(racer: Racer, other: Racer, inputs: Sequence[Any], why_wrong: Callable) -> tuple[float, str]:
    other.box.pause()
    racer.box.resume()
    begin = time.perf_counter()
    answers = racer.ask(inputs)
    seconds = time.perf_counter() - begin
    return seconds, why_wrong(inputs, answers)
