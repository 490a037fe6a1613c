"""What the checks of the Triton lessons send to services that fail early, and what they say of them; the services are fakes.

A service that fails the quiet load is told so at once: a flood behind it takes most of a minute.
"""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest

from course.exercises import Wrong
from course.exercises.stage4_architect import _triton, load_and_tails, triton_2
from course.serving import result
from course.serving.loop import RECORD, Raw
from course.serving.metrics import Statistics
from course.serving.words import RefusedError

ALONE = """
backend: "python"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 784 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 10 ] } ]
"""


@pytest.fixture
def sent(monkeypatch) -> list[int]:
    """How many requests each open load had, on a service that answers one after the other, 100 ms each."""
    loads: list[int] = []

    def answered(count: int) -> result.Load:
        records = np.zeros(count, RECORD)
        records["status"], records["done"] = 200, 0.1 * np.arange(1, count + 1)
        after = Statistics(requests=count, inferences=count, executions=count, batches={1: count})
        return result.Load.of(Raw(records), "", "m", 1.0, Statistics(), after)

    def open_loop(address, model, feed, arrivals, seconds, **options):
        count = len(arrivals) if isinstance(arrivals, np.ndarray) else int(arrivals * seconds)
        loads.append(count)
        return answered(count)

    @contextlib.contextmanager
    def serving(models):
        client = contextlib.nullcontext(SimpleNamespace(infer=lambda model, feed: {}))
        yield SimpleNamespace(address="", client=lambda: client, processes=lambda: [1, 2])

    monkeypatch.setattr(_triton, "serving", serving)
    monkeypatch.setattr(triton_2, "open_loop", open_loop)
    monkeypatch.setattr(triton_2, "closed_loop", lambda *what, **options: answered(5))
    monkeypatch.setattr(load_and_tails, "course_open_loop", open_loop)
    return loads


def test_without_batching_no_flood_is_sent(sent):
    with pytest.raises(Wrong, match="each was a call of its own"):
        triton_2.batch_limits(ALONE)
    assert sent == [len(triton_2.BURST)]


def test_a_timeout_that_is_too_short_is_named_even_if_the_first_request_meets_it(sent, monkeypatch):
    """On a busy machine 200 microseconds were too little for a request alone, and the learner was told to compare names."""

    def infer(model, feed):
        raise RefusedError("Triton refused it.", "Request timeout expired", "", 503)

    @contextlib.contextmanager
    def serving(models):
        yield SimpleNamespace(client=lambda: contextlib.nullcontext(SimpleNamespace(infer=infer)))

    monkeypatch.setattr(_triton, "serving", serving)
    with pytest.raises(Wrong, match="hardly waited") as told:
        triton_2.batch_limits(ALONE)
    assert "microseconds" in told.value.cause and sent == []


def test_who_does_not_hold_the_load_gets_no_flood(sent):
    with pytest.raises(Wrong, match="Only .* % of the requests were answered within"):
        load_and_tails.load_hold(ALONE)
    assert sent == [300]
