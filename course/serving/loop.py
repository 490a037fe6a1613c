"""The two loops that send requests. Both run in a thread with its own event loop, so that notebooks can call them."""

from __future__ import annotations

import asyncio
import gc
import selectors
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field

import numpy as np

from course.serving.client import UNIX, said
from course.serving.connection import Connection
from course.serving.words import ServingError

RECORD = np.dtype([("due", "f8"), ("sent", "f8"), ("done", "f8"), ("status", "u2"), ("feed", "u4")])
"""A request: seconds from the start when it was due, sent and answered; HTTP status, 0 if lost; which input it had."""
TELL_SECONDS = 0.5
OPENED = 32
"""Connections that an open loop opens before its clock starts; others follow when they are needed."""


@dataclass(frozen=True)
class Progress:
    """A load that runs: seconds so far and in all, requests sent, answered and failed, and p99 of the last ones."""

    elapsed: float
    seconds: float
    sent: int
    answered: int
    failed: int
    p99_ms: float

    def __str__(self) -> str:
        return (
            f"{self.elapsed:4.1f} of {self.seconds:g} s: {self.sent} sent, {self.answered} answered, "
            f"{self.failed} failed, p99 {self.p99_ms:.1f} ms"
        )


@dataclass
class Raw:
    """What a loop recorded.

    Attributes:
        records: structured array (`RECORD`), in the order of sending.
        answers: (head, body) of each request, if they were kept.
        reasons: reason of a failure -> how often.
        cpu_share: share of the loop's time in which its thread computed; near 1 the generator is the bottleneck.
    """

    records: np.ndarray = field(default_factory=lambda: np.zeros(0, RECORD))
    answers: list[tuple[bytes, bytes]] | None = None
    reasons: Counter = field(default_factory=Counter)
    cpu_share: float = 0.0


class _Recorder:
    """Sends requests over connections and writes down what became of them."""

    def __init__(self, address: str, requests: Sequence[bytes], timeout: float, keep: bool):
        self.address, self.requests, self.timeout = address, requests, timeout
        self.rows: list[list] = []
        self.answers: list | None = [] if keep else None
        self.reasons: Counter = Counter()
        self.start = time.perf_counter()
        self.open = self.answered = self.failed = 0
        self._cpu = time.thread_time()

    def now(self) -> float:
        return time.perf_counter() - self.start

    async def connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            if self.address.startswith(UNIX):
                return (await loop.create_unix_connection(Connection, self.address.removeprefix(UNIX)))[1]
            host, port = self.address.rsplit(":", 1)
            return (await loop.create_connection(Connection, host, int(port)))[1]
        except OSError as error:
            raise ServingError(
                f"No server answers at {self.address}.", str(error), "Start it, or look at its log."
            ) from error

    def send(self, connection: Connection, due: float, then: Callable[[], None]) -> None:
        """Send the next request, which was due at `due`; `then` is called when it has its answer."""
        number = len(self.rows)
        feed = number % len(self.requests)
        row = [due, self.now(), 0.0, 0, feed]
        self.rows.append(row)
        if self.answers is not None:
            self.answers.append((b"", b""))
        self.open += 1

        def done(status: int, head: bytes, body: bytes) -> None:
            row[2], row[3] = self.now(), status
            self.open -= 1
            if status == 200:
                self.answered += 1
                if self.answers is not None:
                    self.answers[number] = head, body
            else:
                self.failed += 1
                self.reasons[said(body)[:200] or f"status {status}"] += 1
            then()

        connection.ask(self.requests[feed], done, self.timeout)

    async def report(self, seconds: float, tell: Callable[[Progress], object] | None) -> None:
        while tell is not None:
            await asyncio.sleep(TELL_SECONDS)
            last = [(row[2] - row[0]) * 1e3 for row in self.rows[-2000:] if row[3] == 200]
            p99 = float(np.percentile(last, 99)) if last else float("nan")
            tell(Progress(self.now(), seconds, len(self.rows), self.answered, self.failed, p99))

    def raw(self) -> Raw:
        records = np.array([tuple(row) for row in self.rows], RECORD)
        share = (time.thread_time() - self._cpu) / max(self.now(), 1e-9)
        return Raw(records, self.answers, self.reasons, share)


async def run_closed(
    address: str,
    requests: Sequence[bytes],
    clients: int,
    seconds: float,
    timeout: float,
    keep: bool,
    tell: Callable[[Progress], object] | None,
) -> Raw:
    """Each client sends as soon as it has its answer, until `seconds` are over; then all answers are awaited."""
    first = _Recorder(address, requests, timeout, keep)
    connections = [await first.connect() for _ in range(clients)]
    recorder = _Recorder(address, requests, timeout, keep)  # the clock starts when all are connected
    teller = asyncio.create_task(recorder.report(seconds, tell))

    async def client(connection: Connection) -> None:
        answered = asyncio.Event()
        while recorder.now() < seconds:
            if not connection.usable:
                connection = await recorder.connect()
            answered.clear()
            recorder.send(connection, recorder.now(), answered.set)
            await answered.wait()
        connection.transport.close()

    try:
        await asyncio.gather(*(client(connection) for connection in connections))
        return recorder.raw()
    finally:
        teller.cancel()
        for connection in connections:
            connection.transport.abort()


async def run_open(
    address: str,
    requests: Sequence[bytes],
    due: np.ndarray,
    timeout: float,
    most: int,
    keep: bool,
    tell: Callable[[Progress], object] | None,
) -> Raw:
    """Each request goes out when it is due, over a connection that is free or new; then all answers are awaited."""
    recorder = _Recorder(address, requests, timeout, keep)
    free = [await recorder.connect() for _ in range(min(most, OPENED))]
    everyone, waiting, connecting = list(free), deque(), set()
    recorder.start = time.perf_counter()
    teller = asyncio.create_task(recorder.report(float(due[-1]), tell))

    def go(connection: Connection, time_due: float) -> None:
        recorder.send(connection, time_due, lambda: next_one(connection))

    def next_one(connection: Connection) -> None:
        if not connection.usable:
            everyone.remove(connection)
            if waiting:
                begin(waiting.popleft())
        elif waiting:
            go(connection, waiting.popleft())
        else:
            free.append(connection)

    async def connect_and_go(time_due: float) -> None:
        connection = await recorder.connect()
        everyone.append(connection)
        go(connection, time_due)

    def begin(time_due: float) -> None:
        while free:
            connection = free.pop()
            if connection.usable:
                return go(connection, time_due)
            everyone.remove(connection)
        if len(everyone) + len(connecting) < most:
            task = asyncio.create_task(connect_and_go(time_due))
            connecting.add(task)
            task.add_done_callback(connecting.discard)
        else:
            waiting.append(time_due)

    try:
        for moment in due.tolist():
            if (wait := moment - recorder.now()) > 0:
                await asyncio.sleep(wait)
            elif len(recorder.rows) % 64 == 0:
                await asyncio.sleep(0)  # late: but answers must be read too
            begin(moment)
        while recorder.open or waiting or connecting:
            if connecting:
                await asyncio.gather(*connecting)
            await asyncio.sleep(0.002)
        return recorder.raw()
    finally:
        teller.cancel()
        for connection in everyone:
            connection.transport.abort()


def in_a_thread(work: Coroutine[object, object, Raw]) -> Raw:
    """Run a loop in a thread of its own and wait for it; Ctrl-C ends it.

    The loop waits with `select`, which takes microseconds; with epoll it would wake up to 1 ms late, and each request
    would be sent that much after it was due.
    """
    result: list[Raw] = []
    failure: list[BaseException] = []
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    task = loop.create_task(work)

    def run() -> None:
        try:
            result.append(loop.run_until_complete(task))
        except BaseException as error:  # goes on in the caller's thread
            failure.append(error)
        finally:
            loop.run_until_complete(asyncio.sleep(0))  # closed connections say goodbye
            loop.close()

    thread = threading.Thread(target=run, name="load generator")
    collecting = gc.isenabled()
    gc.disable()  # a collection would stop the loop for milliseconds, and be taken for a slow server
    try:
        thread.start()
        thread.join()
    except KeyboardInterrupt:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    finally:
        if collecting:
            gc.enable()
    if failure:
        raise failure[0]
    return result[0]
