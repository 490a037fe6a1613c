"""A load generator for Triton: closed loop, where clients wait for their answer, and open loop, where users do not.

In the open loop a latency counts from the moment when the request was *due*. A generator that waits for a slow server
before it sends the next request would leave out the very requests that hurt ("coordinated omission", Tene 2013).
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from course.serving import arrivals as plans
from course.serving import null_server, protocol
from course.serving.client import Client
from course.serving.connection import request
from course.serving.loop import Progress, in_a_thread, run_closed, run_open
from course.serving.metrics import Statistics
from course.serving.result import Load
from course.serving.words import RefusedError, ServingError

Feeds = Mapping[str, np.ndarray] | Sequence[Mapping[str, np.ndarray]]
"""The inputs of one request, or of several that are sent in turns."""


def closed_loop(
    address: str,
    model: str,
    feeds: Feeds,
    clients: int = 1,
    seconds: float = 5.0,
    *,
    warmup: float = 0.5,
    timeout: float = 10.0,
    label: str = "",
    keep_answers: bool = False,
    tell: Callable[[Progress], object] | None = None,
) -> Load:
    """`clients` connections, each of which sends its next request when it has its answer.

    Args:
        address: "host:port" of the server's HTTP service.
        feeds: name -> array with its batch dimension; or several of them, sent in turns.
        warmup: seconds of the same load before, which are not counted.
        timeout: seconds after which a request counts as failed.
        keep_answers: keep every answer for `Load.answers`.
        tell: is called twice a second while the load runs.

    Raises:
        ServingError: no server, no such model, or inputs that do not fit it.
    """
    if clients < 1:
        raise ServingError(f"clients={clients}", "A closed loop has at least one client.", "Give 1 or more.")
    sent = _requests(address, model, feeds)
    if warmup > 0:
        in_a_thread(run_closed(address, sent, clients, warmup, timeout, False, None))
    before = _statistics(address, model)
    raw = in_a_thread(run_closed(address, sent, clients, seconds, timeout, keep_answers, tell))
    return Load.of(
        raw, label or f"{clients} clients", model, seconds, before, _statistics(address, model), clients=clients
    )


def open_loop(
    address: str,
    model: str,
    feeds: Feeds,
    arrivals: float | np.ndarray,
    seconds: float = 5.0,
    *,
    warmup: float = 0.5,
    timeout: float = 10.0,
    seed: int = 0,
    connections: int = 400,
    label: str = "",
    keep_answers: bool = False,
    tell: Callable[[Progress], object] | None = None,
) -> Load:
    """Requests at times that do not depend on the server: `arrivals` requests a second (Poisson), or at those times.

    Args:
        arrivals: requests/s; or times in seconds, rising, as `course.serving.arrivals` makes them: then `seconds` is
            where they end at the latest.
        connections: how many are open at most. A request that finds none free waits, and its latency goes on.

    The other arguments and the error are those of `closed_loop`.
    """
    if isinstance(arrivals, np.ndarray):
        due = np.asarray(arrivals, np.float64)
        if not len(due) or due[0] < 0 or (np.diff(due) < 0).any() or due[-1] > seconds:
            raise ServingError(
                "The arrivals", f"They do not rise within 0 to {seconds:g} s.", "Sort them; see `seconds`."
            )
        warm = due[due < warmup]
    else:
        due, warm = (plans.poisson(arrivals, length, seed + 1) for length in (seconds, max(warmup, 1e-6)))
    sent = _requests(address, model, feeds)
    if warmup > 0 and len(warm):
        in_a_thread(run_open(address, sent, warm, timeout, connections, False, None))
    before = _statistics(address, model)
    raw = in_a_thread(run_open(address, sent, due, timeout, connections, keep_answers, tell))
    rate = len(due) / seconds
    return Load.of(raw, label or f"{rate:,.0f}/s", model, seconds, before, _statistics(address, model), offered=rate)


def sweep(
    address: str, model: str, feeds: Feeds, rates: Sequence[float], seconds: float = 5.0, **options: object
) -> list[Load]:
    """One `open_loop` load for each rate, in requests/s, one after the other."""
    return [open_loop(address, model, feeds, rate, seconds, **options) for rate in rates]


def overhead(
    feeds: Feeds, *, clients: int = 0, rate: float = 0.0, seconds: float = 2.0, answer_bytes: int = 200
) -> Load:
    """The generator's own time: the same load on a server that does nothing, on this machine.

    Args:
        clients, rate: a closed loop, or an open one in requests/s.
        answer_bytes: size of an answer.
    """
    with _null_server(answer_bytes) as address:
        if rate:
            return open_loop(address, "", feeds, rate, seconds, label="a server that does nothing")
        return closed_loop(address, "", feeds, max(clients, 1), seconds, label="a server that does nothing")


@contextlib.contextmanager
def _null_server(answer_bytes: int) -> Iterator[str]:
    command = [sys.executable, "-I", "-S", null_server.__file__, str(answer_bytes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield f"127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()


def _requests(address: str, model: str, feeds: Feeds) -> list[bytes]:
    several = [feeds] if isinstance(feeds, Mapping) else list(feeds)
    if not several:
        raise ServingError("There is nothing to send.", "feeds is empty.", "Give the inputs of at least one request.")
    if model:
        with Client(address, 30.0) as client:
            try:
                client.infer(model, several[0])  # wrong names or shapes show here, with Triton's reason
            except RefusedError as error:
                if error.status < 500:  # what fails on the server is for the load to count
                    raise
    return [request(address, f"/v2/models/{model}/infer", *protocol.encode(each)) for each in several]


def _statistics(address: str, model: str) -> Statistics:
    if not model:
        return Statistics()
    with Client(address, 30.0) as client:
        return client.statistics(model)
