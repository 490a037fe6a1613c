"""Figures of load tests, drawn from loads whose shape is known."""

from __future__ import annotations

import numpy as np
import pytest

from course.plot import png, serving
from course.serving.loop import RECORD, Raw
from course.serving.metrics import Statistics
from course.serving.result import Load


def load(label: str, milliseconds: np.ndarray, seconds: float = 2.0, failed: int = 0, batches=None) -> Load:
    records = np.zeros(len(milliseconds), RECORD)
    records["due"] = np.linspace(0, seconds, len(milliseconds), endpoint=False)
    records["sent"], records["done"] = records["due"], records["due"] + milliseconds / 1e3
    records["status"] = 200
    records["status"][:failed] = 503
    batches = batches or {1: len(milliseconds)}
    items = sum(size * count for size, count in batches.items())
    after = Statistics(len(milliseconds), failed, items, sum(batches.values()), batches=batches)
    return Load.of(Raw(records), label, "m", seconds, Statistics(), after)


@pytest.fixture
def loads():
    random = np.random.default_rng(0)
    return [
        load(f"{n}/s", random.lognormal(np.log(n / 40), 0.4, 2 * n), failed=n // 10 * (n > 300))
        for n in (100, 200, 400)
    ]


def test_the_tail_has_a_line_for_each_series_and_names_failures(loads):
    axis = serving.tail({"batched": loads, "plain": loads[:2]}, limit_ms=20).axes[0]
    lines = {line.get_label(): line for line in axis.get_lines()}
    assert lines["batched"].get_ydata() == pytest.approx([each.p99 for each in loads])
    assert lines["plain"].get_xdata() == pytest.approx([each.rate for each in loads[:2]])
    words = [text.get_text() for text in axis.texts]
    assert "limit 20 ms" in words and "5 % failed" in words


def test_batches_are_weighed_by_their_requests():
    figure = serving.batches([load("busy", np.full(40, 5.0), batches={1: 8, 8: 4}), load("idle", np.full(9, 2.0))])
    heights = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in figure.axes[0].patches}
    assert heights == pytest.approx({1: 20, 8: 80})
    assert "mean 3.3, 12 calls" in figure.axes[0].get_title(loc="left") and png(figure).startswith(b"\x89PNG")


def test_each_request_is_a_dot_and_each_failure_a_cross(loads):
    axis = serving.latencies(loads[2]).axes[0]
    dots, crosses = axis.collections
    assert len(dots.get_offsets()) == loads[2].sent - 40 and len(crosses.get_offsets()) == 40
    assert any(text.get_text().startswith("p99") for text in axis.texts)


def test_nothing_answered_draws_too():
    nothing = load("down", np.full(5, 1.0), failed=5)
    for figure in (serving.latencies(nothing), serving.batches([nothing])):
        assert png(figure).startswith(b"\x89PNG")
