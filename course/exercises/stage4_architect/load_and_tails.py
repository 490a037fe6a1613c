"""Lesson 4.05, load and tails: a load generator and a queueing model by what they find, a configuration under real load."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable

import numpy as np

from course.exercises import Wrong, exercise, reference
from course.exercises.stage4_architect import _triton
from course.serving import open_loop as course_open_loop
from course.serving.words import RefusedError

# ---------------------------------------------------------------- 1: an open loop

PAUSE_S = 0.8


class Paused:
    """A service that does one request after the other, 2 ms each, and stands still once. It writes down what happens."""

    def __init__(self, pause_at: int):
        self.pause_at, self.lock, self.count = pause_at, threading.Lock(), 0
        self.begun: list[float] = []
        self.inside = self.most_inside = 0
        self._counts = threading.Lock()

    def __call__(self) -> None:
        with self._counts:
            self.begun.append(time.perf_counter())
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        with self.lock:
            self.count += 1
            time.sleep(PAUSE_S if self.count == self.pause_at else 0.002)
        with self._counts:
            self.inside -= 1


@exercise(
    "load-open",
    points=4,
    hints=(
        "While the service stands still, users go on coming. Who sends their requests in your loop, and from when does "
        "their watch run?",
        "A thread for each request: it sleeps until its time, calls send, and returns now - start - due. "
        "concurrent.futures.ThreadPoolExecutor(len(due)) has enough of them.",
        "def one(at): time.sleep(max(0, start + at - time.perf_counter())); send(); return time.perf_counter() - start - at",
    ),
)
def load_open(open_loop: Callable):
    if not callable(open_loop):
        raise Wrong(f"`open_loop` is {type(open_loop).__name__}.", "A function was asked for.", "def open_loop(…): …")
    due = np.arange(100) * 0.02
    service = Paused(pause_at=30)
    found = open_loop(service, due)
    if found is None:
        raise NotImplementedError
    latencies = np.asarray(found, dtype=float)
    if latencies.shape != due.shape or service.count != len(due):
        raise Wrong(
            f"For {len(due)} due times, send was called {service.count} times and {latencies.shape} came back.",
            "Each due time is one request, and one latency.",
            "Return an array with a latency for each, in the order of `due`.",
        )
    span = max(service.begun) - min(service.begun)
    if span < 0.6 * due[-1]:
        raise Wrong(
            f"All requests were sent within {span:.1f} s; the last is due after {due[-1]:.1f} s.",
            "A thread must wait until its request is due.",
            "time.sleep(max(0, start + at - time.perf_counter()))",
        )
    hit = int((latencies > PAUSE_S / 4).sum())  # 30 of 100, if the generator kept its plan; a slow machine adds some
    if hit < 15:
        cause = (
            "While one request waits nothing is sent, so users who would have come are not counted: coordinated omission."
            if service.most_inside < 2
            else f"At most {service.most_inside} requests were under way; those behind them waited uncounted, because their "
            "watch began only when they were sent."
        )
        raise Wrong(
            f"The service stood still for {PAUSE_S} s, in which 40 requests were due; you found {hit} slow ones.",
            cause,
            "Take the time from when the request was due: now - start - due.",
            share=0.25,
        )
    if service.most_inside < 10:
        raise Wrong(
            f"The latencies are right, but at most {service.most_inside} requests were under way at once.",
            "Real users do not queue in your program: the server must see them all, or its queue never fills.",
            "A thread for each request: ThreadPoolExecutor(len(due)).",
            share=0.5,
        )
    if np.median(latencies[:25]) > PAUSE_S / 4:
        raise Wrong(
            f"Before the pause the median is {1e3 * np.median(latencies[:25]):.0f} ms; the work takes 2.",
            "Something before the request is counted, too, such as the time until it was due.",
            "latency = time.perf_counter() - start - due",
            share=0.25,
        )
    return f"A pause of {PAUSE_S} s: {hit} of {len(due)} requests were slow, up to {service.most_inside} under way at once."


@reference("load-open")
def _reference_open():
    return _open_loop


def _open_loop(send, due):
    from concurrent.futures import ThreadPoolExecutor

    start = time.perf_counter()

    def one(at):
        time.sleep(max(0.0, start + at - time.perf_counter()))
        send()
        return time.perf_counter() - start - at

    with ThreadPoolExecutor(len(due)) as pool:
        return np.array(list(pool.map(one, due)))


# ---------------------------------------------------------------- 2: a queue


@exercise(
    "load-queue",
    points=3,
    hints=(
        "A request begins when it has come and an instance is free. Which one does it take, if there are two?",
        "Keep the times at which each instance becomes free. Take the smallest; begin = max(due, free).",
        "free = [0.0] * instances; for each request: begin = max(at, heapq.heappop(free)); heapq.heappush(free, begin + "
        "service); latency = begin + service - at",
    ),
)
def load_queue(simulate: Callable):
    if not callable(simulate):
        raise Wrong(f"`simulate` is {type(simulate).__name__}.", "A function was asked for.", "def simulate(…): …")
    cases = (
        ("one request", [1.0], [0.5], 1),
        ("two at once, one instance", [0.0, 0.0], [2.0, 1.0], 1),
        ("a gap between two", [0.0, 5.0], [1.0, 1.0], 1),
        ("three at once, two instances", [0.0, 0.0, 0.0], [1.0, 5.0, 1.0], 2),
    )
    for what, due, services, instances in cases:
        _same(simulate, np.array(due), np.array(services), instances, what)
    random = np.random.default_rng(4)
    for instances in (1, 2, 3):
        due = np.cumsum(random.exponential(1.0, 400))
        _same(
            simulate, due, random.exponential(0.8 * instances, 400), instances, f"400 requests, {instances} instances"
        )
    n, load = 60_000, 0.7
    found = np.asarray(simulate(np.cumsum(random.exponential(1.0, n)), random.exponential(load, n), 1))
    theory = np.log(100) * load / (1 - load)
    return (
        f"Right in all cases. With exponential times at {100 * load:.0f} % load your p99 is "
        f"{np.percentile(found, 99):.1f}; the formula for M/M/1 says {theory:.1f}."
    )


def _same(simulate: Callable, due: np.ndarray, services: np.ndarray, instances: int, what: str) -> None:
    found = simulate(due.copy(), services.copy(), instances)
    if found is None:
        raise NotImplementedError
    got, wanted = np.asarray(found, float), _simulate(due, services, instances)
    if got.shape != wanted.shape:
        raise Wrong(
            f"For {what}, {got.shape} came back.", "A latency for each request was asked for.", "Return them all."
        )
    if np.allclose(got, wanted):
        return
    shown = f"For {what}: {np.round(got[:3], 2).tolist()}, not {np.round(wanted[:3], 2).tolist()}."
    if np.allclose(got, wanted - services):
        raise Wrong(shown, "That is the waiting alone.", "A user waits for the work, too: begin + service - due.")
    if (got < 0).any():
        raise Wrong(shown, "A request began before it was there.", "begin = max(due, free)")
    if instances > 1 and np.allclose(got, _round_robin(due, services, instances)):
        raise Wrong(
            shown,
            "You deal requests out in turns, so one waits behind a long one while the other instance is idle.",
            "One queue for all: take the instance that is free first.",
            share=0.5,
        )
    if instances > 1 and np.allclose(got, _simulate(due, services, 1)):
        raise Wrong(shown, "Only one instance works.", "Keep a time for each instance.", share=0.25)
    raise Wrong(
        shown,
        "A request begins when it has come and an instance is free; its latency ends with its service.",
        "Work the case out on paper.",
    )


def _round_robin(due: np.ndarray, services: np.ndarray, instances: int) -> np.ndarray:
    latencies = np.empty(len(due))
    for first in range(instances):
        latencies[first::instances] = _simulate(due[first::instances], services[first::instances], 1)
    return latencies


@reference("load-queue")
def _reference_queue():
    return _simulate


def _simulate(due, services, instances=1):
    free, latencies = [0.0] * instances, []
    for at, service in zip(due, services):
        begin = max(at, heapq.heappop(free))
        heapq.heappush(free, begin + service)
        latencies.append(begin + service - at)
    return np.array(latencies)


# ---------------------------------------------------------------- 3: hold a limit

HELD = """
backend: "python"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 1 ] } ]
instance_group [ { count: 2 kind: KIND_CPU } ]
dynamic_batching {
  default_queue_policy { default_timeout_microseconds: 80000 timeout_action: REJECT }
}
"""
ENGINE = """
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        parts = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        time.sleep(0.020 + 0.001 * sum(map(len, parts)))
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", part)]) for part in parts]
"""
"""An engine of 20 ms and 1 ms for each row. It sleeps, so that a busy machine changes little."""
LIMIT_MS, RATE, FLOOD_RATE, FLOOD_GOODPUT = 150.0, 150.0, 900.0, 200.0
"""Alone, request by request, the engine does 48/s, two of it 95. In batches of 8 it does 285, two 570. At 900/s a queue
without an end leaves about 110 answers/s in time, one with a timeout 530 (seen on two busy cores)."""


@exercise(
    "load-hold",
    points=4,
    hints=(
        "How many requests a second can one instance do alone, how many in batches of 8? Which of the two holds 150/s?",
        "8 rows in 28 ms are 285/s. For the flood: how long may a request have waited so that it still comes within 150 ms?",
        "dynamic_batching { default_queue_policy { default_timeout_microseconds: 80000 timeout_action: REJECT } } and two "
        "instances",
    ),
)
def load_hold(held: str):
    parsed = _triton.parsed(held, "held")
    if parsed.max_batch_size > 8:
        raise Wrong(
            f"max_batch_size is {parsed.max_batch_size}.", "The engine's profile ends at 8.", "Set max_batch_size: 8."
        )
    feed = {"x": np.ones((1, 1), np.float32)}
    with _triton.serving({"engine": {"config.pbtxt": held, "1/model.py": ENGINE}}) as server:
        instances = len(server.processes()) - 1
        try:
            users = course_open_loop(server.address, "engine", feed, RATE, 2.0, warmup=0.3, timeout=10)
        except RefusedError as error:
            raise Wrong("A request alone was refused.", error.cause, "Compare dims and names with the task.") from None
        told = (
            f"At {RATE:.0f}/s: {users.goodput(LIMIT_MS):.0f}/s in time, p99 {users.p99:.0f} ms, mean batch "
            f"{users.server.mean_batch:.1f}."
        )
        if instances > 2:
            raise Wrong(
                f"There are {instances} instances; memory was for two.",
                "Each instance holds weights and buffers again.",
                "Join requests to batches instead.",
            )
        share_in_time = users.goodput(LIMIT_MS) * users.seconds / users.sent
        if share_in_time < 0.95:
            raise Wrong(
                f"Only {100 * share_in_time:.0f} % of the requests were answered within {LIMIT_MS:.0f} ms. {told}",
                _why_late(users, instances, parsed),
                "Compare what one instance can do, alone and in batches, with 150/s.",
                share=0.25 if share_in_time > 0.5 else 0.0,
            )
        time.sleep(0.3)
        flood = course_open_loop(server.address, "engine", feed, FLOOD_RATE, 1.2, warmup=0, timeout=10, seed=7)
    told += f" At {FLOOD_RATE:.0f}/s: {flood.goodput(LIMIT_MS):.0f}/s in time, p99 {flood.p99:.0f} ms, {flood.failed} refused."
    if flood.goodput(LIMIT_MS) < FLOOD_GOODPUT:
        raise Wrong(
            f"The load is held, but not the flood: {flood.goodput(LIMIT_MS):.0f}/s came in time. {told}",
            "The server was busy all the time, with requests that were too late already."
            if flood.failed < 50
            else "Most were refused, or those that were let in waited too long.",
            "Refuse who has waited too long to be served in time: a timeout. (A full queue of max_queue_size may put the "
            "batcher of Triton 2.51 to sleep; see the section above.)",
            share=0.5,
        )
    return told


def _why_late(users, instances: int, parsed) -> str:
    if users.failed > 0.05 * users.sent:
        return f"Triton refused {users.failed}: {next(iter(users.reasons))}"
    if parsed.dynamic_batching.max_queue_delay_microseconds > 50_000:
        return "The delay alone is a large part of the limit."
    if users.server.mean_batch < 1.5:
        return f"Request by request, {instances} instance{'s' if instances > 1 else ''} can do {instances * 1000 / 21:.0f}/s."
    return f"Batches of {users.server.mean_batch:.1f} are too small for this rate."


@reference("load-hold")
def _reference_held():
    return HELD
