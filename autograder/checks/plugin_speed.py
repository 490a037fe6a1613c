"""How fast a plugin is on a GPU: beside the same function in TensorRT's own layers, and beside a copy of as many bytes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from autograder.artifacts.base import Artifact
from autograder.artifacts.cuda_plugin import CudaPlugin
from autograder.checks import plugin_boxes, plugin_gpu
from autograder.checks.base import Bench, Measure, Outcome, Ramp
from autograder.checks.race import Ratio, ratio_of
from autograder.rejected import Rejected
from autograder.sandbox.process import Box
from autograder.tasks.base import Task
from autograder.tasks.operator import Operator, wrong

SLOTS, PLACES = 4, 2048
IMPOSSIBLE = 1.15
"""Times a copy's speed: nothing that reads and writes each byte is faster than a copy by more than that."""


@dataclass(frozen=True)
class PluginSpeed(Measure):
    """FP16. The plugin's engine runs in a box with the plugin; TensorRT's layers, PyTorch's operators, the way over the CPU and
    the copy run in another one, which holds no code of the learner's. All in turns, in one measurement.

    The time is taken out here, from the request to the answer, for `runs` and for twice as many: their difference is the time of
    `runs`. Inputs are fresh for each request, outputs are NaN before, and elements at places that nobody knew before, of all
    outputs, are judged.

    ratio: ramp. against: "unfused" (TensorRT's layers one after the other) or "copy" (then it is a share of its speed).
    """

    ratio: Ramp
    against: str
    count: int = 1 << 26
    runs: int = 800
    rounds: int = 12
    judges: ClassVar[type[Artifact]] = CudaPlugin
    tasks: ClassVar[tuple[type[Task], ...]] = (Operator,)

    def wanted(self) -> str:
        what = (
            "share of a copy's speed"
            if self.against == "copy"
            else "times as fast as the same function in unfused layers"
        )
        return f"{what}, FP16: {self.ratio.text()}"

    def measure(self, at: Bench) -> Outcome:
        found = at.once(("plugin speed", at.path), lambda: _times(self, at))
        one: Ratio = found[self.against]
        others = ", ".join(f"{name} {ratio.peer_ms:.3f} ms" for name, ratio in found.items())
        measured = f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f}); the plugin takes {one.ours_ms:.3f} ms, {others}"
        values = {name: vars(ratio) for name, ratio in found.items()}
        if found["copy"].value > IMPOSSIBLE:
            return (
                0.0,
                measured,
                "It is faster than a copy of its bytes, so it does not read and write them all.",
                values,
            )
        return self.ratio.share(one.value, one.low, one.high), measured, "", values


def _times(check: PluginSpeed, at: Bench) -> dict[str, Ratio]:
    """Of every peer, beside the plugin."""
    task = plugin_boxes.operator(at)
    drawn = at.draw("plugin speed", 8)
    attributes, rng = dict(drawn.attributes), drawn.random()
    (beta,) = attributes.values()
    ours, peer = plugin_gpu.box(at, plugin_gpu.library(at)), plugin_gpu.box(at, None)
    shapes = [[check.count]] * 3
    with at.step("building the engines that are timed"):
        plugin_gpu.engine(at, ours, "plugin", plugin_gpu.network(task, attributes, True, "plugin"), shapes, True)
        for how in ("standard", "unfused"):
            plugin_gpu.engine(at, peer, how, plugin_gpu.network(task, attributes, True, how), shapes, True)
    sides = {"plugin": ours, "copy": peer, "standard": peer, "unfused": peer, "framework": peer, "cpu": peer}
    seconds: dict[str, list[list[float]]] = {name: [] for name in sides}
    with at.step("timing the plugin in turns with the others"):
        for number in range(check.rounds + 1):
            for name in sorted(sides, reverse=bool(number % 2)):
                if name == "cpu" and number > 3:
                    continue  # it is slow, and needs no narrow interval
                runs = 1 if name == "cpu" else check.runs
                pair = [
                    _timed(at, task, check, ours, peer, sides[name], name, runs * times, beta, rng) for times in (1, 2)
                ]
                if number:  # the first one warms up
                    seconds[name].append([one / runs for one in pair])
    ours.close()
    peer.close()
    found = {}
    for name in sides:
        if name == "plugin":
            continue
        rows = min(len(seconds["plugin"]), len(seconds[name]))
        ratio = ratio_of(np.hstack([np.array(seconds["plugin"][:rows]), np.array(seconds[name][:rows])]), 1)
        if ratio is None:
            raise Rejected(
                "The times are too unsteady to be compared.",
                f"{name}: twice the runs took no longer.",
                "Measure again.",
            )
        found[name] = ratio
    return found


def _timed(
    at: Bench,
    task: Operator,
    check: PluginSpeed,
    ours: Box,
    peer: Box,
    box: Box,
    what: str,
    runs: int,
    beta: float,
    rng,
) -> float:
    """Seconds of `runs` runs, by the clock out here.

    Raises:
        Rejected: an output is wrong.
    """
    fresh = {"seed": int(rng.integers(1 << 40)), "count": check.count, "slots": SLOTS, "half": True}
    limit = at.limits_s["run"]
    box.ask("fill", seconds=limit, **fresh)
    other = peer if box is ours else ours
    other.pause()
    try:
        begin = time.perf_counter()
        box.ask("go", what=what, runs=runs, beta=beta, seconds=limit)
        seconds = time.perf_counter() - begin
    finally:
        other.resume()
    if what != "plugin":
        return seconds
    places = np.sort(rng.choice(check.count, PLACES, replace=False))
    _, (got,) = ours.ask("sample", [places], of="outputs", seconds=limit)
    peer.ask("fill", seconds=limit, **fresh)
    _, (x,) = peer.ask("sample", [places], of="inputs", seconds=limit)
    if problem := wrong(got, task.answers(x, beta=beta), x):
        raise Rejected(
            "An answer of a timed run is wrong.", problem, "Compare the kernel with the reference at large sizes."
        )
    return seconds
