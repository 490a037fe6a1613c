"""Requests are joined to batches, and a single client does not pay for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from autograder.artifacts.base import Artifact
from autograder.artifacts.repository import Repository
from autograder.checks import service_box as box
from autograder.checks import service_naive
from autograder.checks.base import Bench, Measure, Outcome, Ramp
from autograder.tasks.base import Task
from autograder.tasks.image_files import ImageFiles

WARMUP_S, TIMED_S = 0.2, 1.0
"""Of one client, in each turn."""


@dataclass(frozen=True)
class ServiceBatches(Measure):
    """Items in an execution under `clients` at once (as Triton counts), times what one client's wait allows.

    batch: ramp of the mean batch. price: ramp of p50 at one client over the naive service's, taken in `turns` turns, with `files` files at most.
    """

    batch: Ramp = field(default_factory=lambda: Ramp(zero=1.0, full=2.0))
    price: Ramp = field(default_factory=lambda: Ramp(zero=2.5, full=1.5, dead_band=0.1))
    clients: int = 12
    seconds: float = 3.0
    turns: int = 4
    images: int = 300
    files: int = 600
    looked_at: int = 24
    judges: ClassVar[type[Artifact]] = Repository
    tasks: ClassVar[tuple[type[Task], ...]] = (ImageFiles,)

    def wanted(self) -> str:
        return (
            f"images in a batch with {self.clients} clients: {self.batch.text()}; p50 at one client, times the naive "
            f"service's: {self.price.text()}"
        )

    def open(self, at: Bench) -> None:
        service_naive.before_others(at, service_naive.capacity)

    def measure(self, at: Bench) -> Outcome:
        service, plain = box.judged(at), service_naive.service(at)
        drawn = at.draw("service batches", self.images)
        with box.only(at, service), at.step(f"counting batches, {self.clients} clients at a time"):
            load = service.closed(drawn.files, self.clients, self.seconds, timeout=20.0, keep_answers=True)
        wrong, looked, why = box.wrong_answers(at, load, drawn.pixels, self.looked_at)
        if wrong or not looked:
            return 0.0, f"{wrong} of {looked} answers were wrong", f"A batch whose answers are wrong is none. {why}", {}
        mean = load.server.mean_batch if load.server.executions else 0.0
        _, alone_ms = service_naive.capacity(at)
        enough = min(self.files, 20 + int(2 * 1e3 * (WARMUP_S + TIMED_S) / alone_ms))
        ratios = []
        with at.step("timing one client, in turns with the naive service"):
            for turn in range(self.turns):
                # Never seen before: a service that remembers answers would hide what it waits for.
                fresh = at.draw(f"service batches, one client, turn {turn}", enough).files
                pair = []
                for one in (service, plain) if turn % 2 else (plain, service):
                    with box.only(at, one):
                        found = one.closed(fresh, 1, TIMED_S, warmup=WARMUP_S, timeout=20.0)
                    pair.append((one is service, found.p50))
                times = dict(pair)
                ratios.append(times[True] / times[False])
        ratio = float(np.nan_to_num(np.median(ratios), nan=np.inf))
        share = self.batch.share(mean) * self.price.share(ratio, min(ratios), max(ratios))
        measured = f"{mean:.2f} images in a batch; one client waits {ratio:.2f} times as long as with the naive service"
        message = "" if self.batch.share(mean) == 1 else "Hardly any batches formed."
        if self.price.share(ratio, min(ratios), max(ratios)) < 1:
            message = f"{message} A single client pays for the batches of others: look at the queue delay.".strip()
        values = {"mean_batch": mean, "batches": dict(load.server.batches), "one_client": ratios}
        return float(share), measured, message, values
