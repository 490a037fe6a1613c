"""What a load test found: percentiles, failures, what the server counted, and how far the generator can be trusted."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from hdrh.histogram import HdrHistogram

import course
from course.bench import machine
from course.files import atomic_write
from course.serving import protocol
from course.serving.connection import header
from course.serving.loop import Raw
from course.serving.metrics import Statistics

LONGEST_US = 3_600_000_000
BUSY = 0.8  # above this share of its time a generator that has one thread may hold requests back


def histogram(milliseconds: np.ndarray) -> HdrHistogram:
    """Latencies with three digits, 1 µs to 1 h, in constant memory (Tene's HDR histogram). It counts microseconds."""
    counted = HdrHistogram(1, LONGEST_US, 3)
    for value, count in zip(*np.unique(np.rint(np.asarray(milliseconds) * 1e3).astype(np.int64), return_counts=True)):
        counted.record_value(max(int(value), 1), int(count))
    return counted


@dataclass(frozen=True)
class Load:
    """One load on one model. Latencies are milliseconds, from when a request was due (open) or sent (closed).

    Attributes:
        label: in words, for figures.
        offered: requests/s that were due in an open loop; NaN in a closed one.
        clients: of a closed loop; 0 in an open one.
        seconds: how long requests were sent.
        records: every request (`course.serving.loop.RECORD`).
        latencies: histogram of the requests that were answered.
        server: what Triton counted meanwhile.
        reasons: why requests failed -> how many.
        cpu_share: share of the time in which the generator's thread computed.
    """

    label: str
    model: str
    offered: float
    clients: int
    seconds: float
    records: np.ndarray
    latencies: HdrHistogram
    server: Statistics
    reasons: Mapping[str, int]
    cpu_share: float
    kept: Sequence[tuple[bytes, bytes]] | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        raw: Raw,
        label: str,
        model: str,
        seconds: float,
        before: Statistics,
        after: Statistics,
        offered: float = float("nan"),
        clients: int = 0,
    ) -> Load:
        """From what a loop recorded, and the server's counts before and after."""
        good = raw.records[raw.records["status"] == 200]
        latencies = histogram((good["done"] - good["due"]) * 1e3)
        counted = after - before
        reasons = dict(raw.reasons)
        return cls(
            label,
            model,
            offered,
            clients,
            seconds,
            raw.records,
            latencies,
            counted,
            reasons,
            raw.cpu_share,
            raw.answers,
        )

    @property
    def sent(self) -> int:
        """Requests that were sent."""
        return len(self.records)

    @property
    def failed(self) -> int:
        """Requests that were refused, failed or got no answer in time."""
        return int((self.records["status"] != 200).sum())

    @property
    def rate(self) -> float:
        """Answers a second. The time ends with the last answer, if that came after the last request was sent."""
        good = self.records[self.records["status"] == 200]
        return len(good) / max(self.seconds, good["done"].max()) if len(good) else 0.0

    def percentile(self, percent: float) -> float:
        """Milliseconds within which `percent` of the answers came; NaN if there was none. Failures are not in it."""
        return self.latencies.get_value_at_percentile(percent) / 1e3 if self.latencies.total_count else float("nan")

    p50 = property(lambda self: self.percentile(50))
    p90 = property(lambda self: self.percentile(90))
    p99 = property(lambda self: self.percentile(99))

    def goodput(self, limit_ms: float) -> float:
        """Answers a second that came within `limit_ms`: a late answer or a failure counts nothing."""
        good = self.records[self.records["status"] == 200]
        return int(((good["done"] - good["due"]) * 1e3 <= limit_ms).sum()) / self.seconds

    @property
    def late(self) -> np.ndarray:
        """Milliseconds between due and sent, of each request: the generator's own part of a latency."""
        return (self.records["sent"] - self.records["due"]) * 1e3

    @property
    def doubt(self) -> str:
        """Why the figures may say more about the generator than about the server; "" if nothing speaks for that."""
        if self.cpu_share > BUSY:
            return f"The load generator computed {100 * self.cpu_share:.0f} % of the time: it may be the bottleneck."
        late = float(np.percentile(self.late, 99)) if self.sent else 0.0
        if self.latencies.total_count and late > max(0.2 * self.p99, 1.0):
            return f"Requests were sent up to {late:.1f} ms late (p99), which is part of the latency."
        return ""

    def answers(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """(number of the feed, outputs) of each answer that was kept and is no failure."""
        for record, (head, body) in zip(self.records, self.kept or ()):
            if record["status"] == 200:
                size = header(head, protocol.LENGTH.lower().encode())
                yield int(record["feed"]), protocol.decode(body, int(size) if size else None)

    def __str__(self) -> str:
        failures = f", {self.failed} failed" if self.failed else ""
        batch = f", mean batch {self.server.mean_batch:.1f}" if self.server.executions else ""
        return (
            f"{self.label}: {self.rate:,.0f}/s, p50 {self.p50:.2f} ms, p90 {self.p90:.2f} ms, p99 {self.p99:.2f} ms"
            f"{batch}{failures}"
        )


def save(loads: Sequence[Load], path: str | Path, **more: object) -> Path:
    """Write loads as JSON: a summary and every request of each, the machine, the command, our version and the date.

    Args:
        more: other values for the file, which JSON can hold.

    Raises:
        CourseError: the file cannot be written; no partial file is left.
    """
    record = {
        "format": "course.serving 1",
        "course": course.__version__,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": sys.argv,
        "machine": machine(),
        **more,
        "loads": [summary(load) for load in loads],
    }
    return atomic_write(path, json.dumps(record, default=str).encode())


def summary(load: Load) -> dict:
    """A load as JSON holds it; `latency_ms` has every answer in the order of sending, null for a failure."""
    latencies = (load.records["done"] - load.records["due"]) * 1e3
    good = load.records["status"] == 200
    return {
        "label": load.label,
        "model": load.model,
        "offered": None if np.isnan(load.offered) else load.offered,
        "clients": load.clients,
        "seconds": load.seconds,
        "sent": load.sent,
        "failed": load.failed,
        "reasons": dict(load.reasons),
        "rate": load.rate,
        "p50_ms": load.p50,
        "p90_ms": load.p90,
        "p99_ms": load.p99,
        "late_p99_ms": float(np.percentile(load.late, 99)) if load.sent else None,
        "cpu_share": load.cpu_share,
        "server": {**vars(load.server), "batches": dict(load.server.batches), "mean_batch": load.server.mean_batch},
        "latency_ms": [round(float(value), 4) if ok else None for value, ok in zip(latencies, good)],
    }
