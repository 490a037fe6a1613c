"""CUDA graphs: whether a service really replays them, and what its single client gains. On a GPU only."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from autograder.artifacts.base import Artifact
from autograder.artifacts.repository import Repository
from autograder.checks import launch_counts, service_naive
from autograder.checks import service_box as box
from autograder.checks.base import Bench, Measure, OpenHere, Outcome, Ramp
from autograder.checks.launch_counts import Launches
from autograder.rejected import Rejected
from autograder.tasks.base import Task
from autograder.tasks.image_files import ImageFiles

WARM = 8
"""Requests before those that are counted or timed."""
DISTURBED = 1.25
"""Times the other service's p50 from before the judged one was started: beyond that something else works on the GPU."""


@dataclass(frozen=True)
class ServiceGraphs(Measure):
    """p50 at one client of a service like a good one, but without CUDA graphs, over the judged one's: the median of `pairs` pairs,
    one right after the other, with images that were not seen before. Both run engines of one network, built by the grader for the
    same batches. The pairs are many and short: on a quiet H200, p50 of 0.7 s of the same traffic scattered by a tenth.

    That it comes from graphs is seen from outside (`launch_counts`), in a service that is started for that and not timed: each of
    `counted` requests must launch a graph, and at most `most_kernels` kernels beside it on average.

    ratio: ramp. seconds: of each half of a pair.
    """

    ratio: Ramp
    pairs: int = 24
    seconds: float = 0.3
    counted: int = 32
    most_kernels: int = 12
    looked_at: int = 2
    judges: ClassVar[type[Artifact]] = Repository
    tasks: ClassVar[tuple[type[Task], ...]] = (ImageFiles,)

    def wanted(self) -> str:
        return f"each request replays a CUDA graph; the wait of one client without graphs over that with them: {self.ratio.text()}"

    def open(self, at: Bench) -> None:
        service_naive.before_others(at, service_naive.plain_alone)

    def measure(self, at: Bench) -> Outcome:
        service, plain = box.judged(at), service_naive.plain(at)
        launches = self._launches(at)
        per_request = launches.kernels / self.counted
        counted = f"{launches.graphs} launches of graphs in {self.counted} requests, and {per_request:.1f} kernels in each beside them"
        values = {"graphs": launches.graphs, "kernels": launches.kernels, "requests": self.counted}
        if launches.graphs < self.counted:
            uncounted = (
                f" In some of its processes nothing could be counted: {launches.errors[0]}." if launches.errors else ""
            )
            return 0.0, counted, f"The service does not replay a graph for each request.{uncounted}", values
        if per_request > self.most_kernels:
            return 0.0, counted, "Much of a request's work is not in the graph.", values
        samples: dict[str, list[np.ndarray]] = {"service": [], "without": []}
        before = service_naive.plain_alone(at)
        with at.step("timing one client, in turns with a service without graphs"):
            for pair in range(self.pairs):
                fresh = at.draw(f"service graphs, pair {pair}", WARM + int(2e3 * self.seconds / before))
                for name in ("service", "without") if pair % 2 else ("without", "service"):
                    one = service if name == "service" else plain
                    with box.only(at, one):
                        one.one_by_one(fresh.files[:WARM])
                        found = one.closed(
                            fresh.files[WARM:], 1, self.seconds, warmup=0, timeout=20.0, keep_answers=True
                        )
                    if one is service:
                        wrong, looked, why = box.wrong_answers(at, found, fresh.pixels[WARM:], self.looked_at)
                        if wrong or not looked or found.failed:
                            why = f"{found.failed} requests failed, {wrong} of {looked} answers were wrong. {why}"
                            return 0.0, counted, why, values
                    good = found.records[found.records["status"] == 200]
                    samples[name].append(1e3 * (good["done"] - good["sent"]))
        times = {name: [float(np.median(one)) for one in several] for name, several in samples.items()}
        ratios = [without / ours for without, ours in zip(times["without"], times["service"])]
        ratio, low, high = median_of(ratios)
        values |= {"ratio": ratio, "ratios": ratios, "p50_ms": times, "before_ms": before}
        values["samples_ms"] = {name: [one.round(4).tolist() for one in several] for name, several in samples.items()}
        now = float(np.median(times["without"]))
        if now > DISTURBED * before:
            raise Rejected(
                "The GPU is not free while your service stands still.",
                f"A service without graphs took {before:.2f} ms before yours was started, and {now:.2f} ms beside it.",
                "Leave no work on the GPU when a request is answered.",
            )
        measured = (
            f"one client waits {np.median(times['service']):.2f} ms, without graphs {now:.2f} ms: {ratio:.3f} times "
            f"({low:.3f} to {high:.3f}); {counted}"
        )
        return self.ratio.share(ratio, low, high), measured, "", values

    def _launches(self, at: Bench) -> Launches:
        """Of `counted` requests one by one, to a service of its own, which is gone afterwards.

        Raises:
            OpenHere: launches cannot be counted on this machine.
            Rejected: the service failed.
        """
        folder = Path(at.boxes.enter_context(tempfile.TemporaryDirectory(prefix="grader-launches-")))
        library, cupti = launch_counts.library(folder), launch_counts.cupti()
        files = at.draw("service graphs, counted", WARM + self.counted).files
        watched = box.start(
            at,
            box.repository(at),
            at.path,
            variables=lambda home: launch_counts.variables(library, cupti, home),
            sees=(folder, cupti.parent),
        )
        try:
            with box.only(at, watched), at.step("counting launches on the GPU"):
                watched.one_by_one(files[:WARM])
                before = launch_counts.read(watched.box.home)
                watched.one_by_one(files[WARM:])
                after = launch_counts.read(watched.box.home)
        finally:
            watched.box.close()
        if not after.processes:
            reason = "; ".join(after.errors) or "the driver did not load the library that counts"
            raise OpenHere(f"Launches of CUDA graphs cannot be counted on this machine: {reason}.")
        return after - before


def median_of(ratios: Sequence[float]) -> tuple[float, float, float]:
    """The median, and its 95 % interval, by resampling (2 000 times, always the same); 0 for what is not a number."""
    known = np.nan_to_num(np.asarray(ratios, np.float64))
    drawn = np.random.default_rng(0).choice(known, (2000, len(known)))
    low, high = np.percentile(np.median(drawn, axis=1), (2.5, 97.5))
    return float(np.median(known)), float(low), float(high)
