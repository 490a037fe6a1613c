"""What a service does when something goes wrong: broken files, too much traffic, a dead process, a new version."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from autograder.artifacts.base import Artifact
from autograder.artifacts.repository import Repository
from autograder.checks import service_box as box
from autograder.checks.base import Bench, Measure, Outcome
from autograder.tasks.base import Task
from autograder.tasks.image_files import ImageFiles
from course.serving.words import ServingError

BROKEN = (b"no image at all", b"\xff\xd8\xff\xe0" + bytes(200), b"\x89PNG\r\n\x1a\n" + bytes(40), b"x" * 100_000)
POISON, OVERLOAD, RECOVERY, AFTER = 0.3, 0.3, 0.25, 0.15
"""Parts of the points."""


@dataclass(frozen=True)
class ServiceFaults(Measure):
    """Four faults, one after the other, on one server.

    1. Files that are no images come between good ones: each is refused, and every good one is answered rightly.
    2. `overload` times as many requests as the service answers at most: what is answered is answered within `patience`
       seconds, what is not is refused, and the service answers at least `kept` of what it does otherwise.
    3. The process of an instance is killed. Triton 2.51 does not start it again, so the models are loaded anew, as an
       operator would; then all is answered.
    4. Afterwards one client waits at most `slower` times as long as before, and the service holds at most `growth_mb`
       (10^6 bytes) more memory than before.
    """

    clients: int = 8
    overload: float = 2.0
    seconds: float = 5.0
    patience: float = 3.0
    kept: float = 0.6
    slower: float = 1.6
    growth_mb: float = 120.0
    judges: ClassVar[type[Artifact]] = Repository
    tasks: ClassVar[tuple[type[Task], ...]] = (ImageFiles,)

    def wanted(self) -> str:
        return (
            "a broken file fails alone (30 % of the points); with twice the load it can bear, what is answered comes within "
            f"{self.patience:g} s and the rest is refused (30 %); after a killed process and a reload all is answered (25 %); "
            "afterwards it is as fast as before, and no larger (15 %)"
        )

    def measure(self, at: Bench) -> Outcome:
        service = box.judged(at)
        drawn = at.draw("service faults", 400)
        with box.only(at, service):
            with at.step("measuring the service before faults"):
                before = service.closed(drawn.files[:40], 1, 1.5, warmup=0.5, timeout=20.0)
                full = service.closed(drawn.files[40:200], 2 * self.clients, 2.0, warmup=0.3, timeout=20.0)
                memory = service.memory_mb()
            found = {
                "poison": self._poison(at, service),
                "overload": self._overload(at, service, full.rate),
            }
            grown = self._grown(service, memory)  # a reload gives back what a program kept
            found["recovery"] = self._recovery(at, service)
            found["after"] = self._after(at, service, before.p50, memory) or grown
        parts = {"poison": POISON, "overload": OVERLOAD, "recovery": RECOVERY, "after": AFTER}
        if found["recovery"]:
            parts["after"] = 0.0  # there is nothing left to be as fast as before
        share = sum(part for name, part in parts.items() if not found[name])
        good = [name for name in parts if not found[name]]
        measured = f"survived: {', '.join(good) or 'nothing'}; {full.rate:.0f} requests/s at most"
        values = {"capacity": full.rate, "p50_ms": before.p50, "memory_mb": memory, **found}
        return float(share), measured, " ".join(filter(None, found.values())), values

    def _poison(self, at: Bench, service: box.Service) -> str:
        """Good and broken files at once: what is wrong, or ""."""
        good = at.draw("service poison", 60)
        files = [file for index, one in enumerate(good.files) for file in _with_broken(index, one)]
        which = [number for index in range(len(good.files)) for number in _with_broken(index, index)]
        broken = np.array([not isinstance(number, int) for number in which])
        with at.step("mixing broken files with good ones"):
            load = service.closed(files, self.clients, 2.5, warmup=0.0, timeout=20.0, keep_answers=True)
        was_broken = broken[load.records["feed"]]
        answered = load.records["status"] == 200
        if np.any(was_broken & answered):
            return f"{int(np.sum(was_broken & answered))} files that are no images got an answer."
        if np.any(~was_broken & ~answered):
            return (
                f"{int(np.sum(~was_broken & ~answered))} good files failed because broken ones came with them: "
                f"{next(iter(load.reasons), '')[:150]}"
            )
        kept = [(feed, outputs) for feed, outputs in load.answers()][:16]
        if not kept or not was_broken.any():
            return "No good file was answered between broken ones."
        pixels = good.pixels[[which[feed] for feed, _ in kept]]
        wrong, count, why = box.compare(at, [outputs for _, outputs in kept], pixels)
        return f"Between broken files {wrong} of {count} answers were wrong. {why}" if wrong else ""

    def _overload(self, at: Bench, service: box.Service, capacity: float) -> str:
        """What is wrong under twice the load, or ""."""
        rate = self.overload * max(capacity, 1.0)
        files = at.draw("service overload", box.enough(rate, self.seconds)).files
        with at.step(f"sending {rate:.0f} requests/s, {self.overload:g} times what it answers at most"):
            load = service.open(files, rate, self.seconds, warmup=0.0, timeout=15.0)
        waits = load.records["done"] - load.records["due"]
        answered, lost = load.records["status"] == 200, load.records["status"] == 0
        slow = np.percentile(waits[answered], 95) if answered.any() else np.inf
        refused = waits[~answered & ~lost]
        if lost.any():
            return f"Of {load.sent} requests {int(lost.sum())} got neither an answer nor a refusal within 15 s."
        if answered.sum() / self.seconds < self.kept * capacity:
            return f"Overloaded it answers {answered.sum() / self.seconds:.0f} requests/s, {capacity:.0f} otherwise."
        if slow > self.patience or (len(refused) and np.percentile(refused, 95) > self.patience):
            return f"Requests wait {max((slow, *refused[:1])):.1f} s and more: a queue without an end helps nobody."
        return ""

    def _recovery(self, at: Bench, service: box.Service) -> str:
        """What is wrong after a killed process and a reload, or ""."""
        with at.step("killing the process of an instance, and loading the models anew"):
            if not service.kill_one():
                return "There was no process of a model to kill."
            time.sleep(0.5)
            try:
                service.reload(box.START_S[at.lane])
            except ServingError as error:
                return f"After its process was killed it could not be loaded again. {error.cause[:200]}"
        drawn = at.draw("service recovery", 60)
        load = service.closed(drawn.files, 4, 2.0, warmup=0.5, timeout=20.0, keep_answers=True)
        wrong, looked, why = box.wrong_answers(at, load, drawn.pixels, 8)
        if load.failed or not looked or wrong:
            reason = next(iter(load.reasons), why)[:150]
            return (
                f"After a reload {load.failed} of {load.sent} requests failed, {wrong} of {looked} were wrong. {reason}"
            )
        return ""

    def _after(self, at: Bench, service: box.Service, before_ms: float, memory: float) -> str:
        files = at.draw("service afterwards", 60).files
        with at.step("measuring the service after the faults"):
            after = min((service.closed(files, 1, 1.0, warmup=0.3, timeout=20.0).p50 for _ in range(3)), default=np.inf)
        if not after <= self.slower * before_ms:
            return f"One client waits {after:.0f} ms now, {before_ms:.0f} ms before."
        return self._grown(service, memory)

    def _grown(self, service: box.Service, memory: float) -> str:
        grown = service.memory_mb() - memory
        return f"It holds {grown:.0f} MB more than before." if grown > self.growth_mb else ""


def _with_broken(index: int, item: object) -> list:
    """Every third item comes with a broken file behind it."""
    return [item, BROKEN[index // 3 % len(BROKEN)]] if index % 3 == 0 else [item]
