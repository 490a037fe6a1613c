"""Figures of kernels: what they draw is what was recorded."""

from __future__ import annotations

import numpy as np
import pytest

from course import plot
from course.kernels import Trace
from course.plot import kernels as plot_kernels


def trace(offsets: np.ndarray, size: int = 4, threads: int = 32) -> Trace:
    """Reads of x, in order: thread and block by the position, `threads` a block."""
    n = len(offsets)
    index, zeros = np.arange(n), np.zeros(n, np.int64)
    return Trace(
        ("x",),
        np.array([False]),
        zeros,
        offsets,
        zeros + size,
        index % threads,
        index // threads,
        zeros + 1,
        zeros + 9,
        zeros + 100,
        zeros > 0,
        zeros > 0,
        n,
    )


def test_a_cell_holds_the_thread_that_touched_the_element() -> None:
    figure = plot_kernels.owners({"mine": trace(4 * np.arange(40))}, "x", 48)
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert shown == [str(n % 32) for n in range(40)]  # the last eight are empty
    assert plot.png(figure).startswith(b"\x89PNG")


def test_a_request_counts_fetched_and_used_bytes() -> None:
    figure = plot_kernels.requests({"near": trace(4 * np.arange(32)), "far": trace(32 * np.arange(32))}, "x")
    near, far = (axis.get_title("left") for axis in figure.axes)
    assert near == "near: 4 sectors = 128 bytes fetched, 128 used"
    assert far == "far: 32 sectors = 1024 bytes fetched, 128 used"
    assert plot.png(figure).startswith(b"\x89PNG")


def test_the_first_request_is_that_of_one_instruction_and_of_warp_0() -> None:
    lanes, offsets, size = plot_kernels.first_request(trace(16 * np.arange(64), 16, 64), "x")
    assert lanes.tolist() == list(range(32)) and offsets.tolist() == [16 * n for n in range(32)] and size == 16
    with pytest.raises(ValueError, match="does not touch x"):
        plot_kernels.first_request(trace(np.arange(0)), "x")


def test_the_busiest_bank_gives_the_passes() -> None:
    lanes = np.arange(32)
    figure = plot_kernels.banks(
        {"near": 4 * lanes, "same word": 0 * lanes, "even": 8 * lanes, "column": 128 * lanes}, 32
    )
    titles = [axis.get_title("left") for axis in figure.axes]
    assert titles == ["near: 1 pass", "same word: 1 pass", "even: 2 passes", "column: 32 passes"]
