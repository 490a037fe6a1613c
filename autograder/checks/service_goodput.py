"""How many requests a second are answered in time, in traffic that does not wait for answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from autograder.artifacts.base import Artifact
from autograder.artifacts.repository import Repository
from autograder.checks import service_box as box
from autograder.checks import service_naive
from autograder.checks.base import Bench, Measure, Outcome, Ramp
from autograder.tasks.base import Task
from autograder.tasks.image_files import ImageFiles


@dataclass(frozen=True)
class ServiceGoodput(Measure):
    """The largest Poisson rate at which `part` of the requests are answered, rightly, within the deadline, over the
    naive service's. Both climb the same ladder of rates, in multiples of what the naive service does at most; the naive one
    before and after the other, and its better result counts.

    deadline: in multiples of the naive service's p50 at one client. seconds: of one rate, at least. deadlines: of one rate, too: a
    queue may grow by a deadline before an answer is late, so traffic of five deadlines passes off at most a fifth more than
    a service can do. ladder: rising. start: the rung on which the judged service begins.
    """

    ratio: Ramp
    part: float = 0.99
    deadline: float = 10.0
    seconds: float = 4.0
    deadlines: float = 5.0
    ladder: Sequence[float] = (0.5, 0.7, 0.85, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.4, 3.0, 4.0, 6.0, 8.0, 12.0)
    start: float = 1.4
    looked_at: int = 8
    judges: ClassVar[type[Artifact]] = Repository
    tasks: ClassVar[tuple[type[Task], ...]] = (ImageFiles,)

    def wanted(self) -> str:
        return (
            f"requests/s with {100 * self.part:.0f} % of the answers in time, times the naive service's: "
            f"{self.ratio.text()}"
        )

    def open(self, at: Bench) -> None:
        service_naive.before_others(at, service_naive.capacity)

    def measure(self, at: Bench) -> Outcome:
        service, plain = box.judged(at), service_naive.service(at)
        most, alone_ms = service_naive.capacity(at)
        deadline = self.deadline * alone_ms
        base, _, _ = self._climb(at, plain, most, deadline, "the naive service", 0.85)
        best, wrong, rates = self._climb(at, service, most, deadline, at.path, self.start)
        if not wrong:  # a machine that stumbled at the naive service would make any other one look good
            base = max(base, self._climb(at, plain, most, deadline, "the naive service again", 0.85)[0])
        values = {"naive": base, "service": best, "deadline_ms": deadline, "rates": rates}
        ratio = best / max(base, self.ladder[0] * most)
        measured = (
            f"{best:.0f} requests/s with {100 * self.part:.0f} % of the answers within {deadline:.0f} ms, the naive service "
            f"{base:.0f}: {ratio:.2f} times"
        )
        if wrong:
            return 0.0, measured, f"Under this load an answer was wrong. {wrong}", values
        return self.ratio.share(ratio), measured, "", values | {"ratio": ratio}

    def _climb(
        self, at: Bench, service: box.Service, most: float, deadline: float, name: str, start: float
    ) -> tuple[float, str, list[dict]]:
        """(requests/s answered in time, why an answer was wrong, what each rate gave). It begins at the rung `start` and
        climbs while all goes well, or else steps down until it does."""
        rates: list[dict] = []
        step = min(range(len(self.ladder)), key=lambda index: abs(self.ladder[index] - start))
        best, way = 0.0, 0
        with at.step(f"raising the load on {name}"):
            while 0 <= step < len(self.ladder):
                reached, why = self._bears(at, service, self.ladder[step] * most, deadline, f"{name} {step}", rates)
                if why:
                    return 0.0, why, rates
                if reached is None and way > 0:
                    break
                if reached is not None:
                    best = reached
                    if way < 0:
                        break
                way = -1 if reached is None else 1
                step += way
        return best, "", rates

    def _bears(
        self, at: Bench, service: box.Service, rate: float, deadline: float, name: str, rates: list[dict]
    ) -> tuple[float | None, str]:
        """Requests/s answered in time at this rate, None if too few were; and why an answer was wrong. A rate that is not
        borne is tried twice: a machine that others use stumbles."""
        seconds = max(self.seconds, self.deadlines * deadline / 1e3)
        for attempt in range(2):
            drawn = at.draw(f"goodput {name} {attempt}", box.enough(rate, seconds))
            with box.only(at, service):
                load = service.open(
                    drawn.files, rate, seconds, warmup=0.0, seed=attempt, timeout=20.0, keep_answers=True
                )
            inside = load.goodput(deadline) * seconds / max(1, load.sent)
            rates.append(
                {"offered": rate, "in_time": inside, "failed": load.failed, "p99_ms": load.p99, "doubt": load.doubt}
            )
            wrong, _, why = box.wrong_answers(at, load, drawn.pixels, self.looked_at)
            if wrong:
                return None, why
            if inside >= self.part:
                return load.goodput(deadline), ""
        return None, ""
