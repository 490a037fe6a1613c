"""Timing code that somebody handed in: from outside, by a clock that the code cannot reach.

Its box is sent fresh inputs and must send back every answer; the clock runs from the first byte sent to the last byte
received, so nothing is gained by computing before, after or beside it. Two sizes of a run give the time of one call as
their difference, so the fixed cost of a request drops out; the cost of sending one more input stays in, for both sides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autograder.rejected import Rejected
from autograder.sandbox.process import Box
from course.bench import FEWEST_ROUNDS, ratio_interval

SHORTEST_S = 0.05
MOST_CALLS = 4096


@dataclass(frozen=True)
class Racer:
    """One side. ask(inputs) sends them to `box`, and gives back one answer for each."""

    box: Box
    ask: Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as the peer, with its 95 % interval, and both times of one call in ms, a value a round."""

    value: float
    low: float
    high: float
    ours_ms: tuple[float, ...]
    peer_ms: tuple[float, ...]
    calls: int


def race(
    ours: Racer,
    peer: Racer,
    fresh: Callable[[int], Sequence[Any]],
    why_wrong: Callable[[Sequence[Any], Sequence[Any]], str],
    *,
    rounds: int = FEWEST_ROUNDS,
) -> tuple[Ratio | None, str]:
    """Time both in turns; while one runs, every process of the other is stopped.

    Args:
        fresh: that many inputs, never the same ones twice.
        why_wrong: of inputs and answers: what is wrong, "" if nothing is. Every answer of every timed call is judged.

    Returns: the ratio, or None and why no time counts.

    Raises:
        Rejected: a box ended or was too slow.
    """
    try:
        calls, problem = _enough(ours, peer, fresh, why_wrong)
        times: dict[str, list[float]] = {"ours": [], "peer": []}
        for number in range(0 if problem else rounds):
            sides = (("ours", ours, peer), ("peer", peer, ours))
            for name, racer, other in sides if number % 2 else sides[::-1]:
                short, problem = _timed(racer, other, fresh(calls), why_wrong)
                if not problem:
                    long, problem = _timed(racer, other, fresh(2 * calls), why_wrong)
                if problem:
                    return None, problem
                times[name].append(1e3 * (long - short) / calls)
    finally:
        ours.box.resume()
        peer.box.resume()
    if problem:
        return None, problem
    if min(*times["ours"], *times["peer"]) <= 0:
        raise Rejected(
            "The times are too unsteady to be compared.",
            "A run of twice as many calls took no longer.",
            "Measure again on a quieter machine.",
        )
    value, low, high = ratio_interval(np.array(times["ours"]), np.array(times["peer"]))
    return Ratio(value, low, high, tuple(times["ours"]), tuple(times["peer"]), calls), ""


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
