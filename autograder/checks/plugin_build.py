"""A build script makes engines of networks with a plugin: it opens the library first, asks for what it was told, and says when
a build fails.

What is believed. The script shares a process with everything in its box, so the record that comes out of it can be forged, and so
can every message. The judge believes plans, whose bytes it compares with plans of its own (`plans`), and what it drew and finds
again in them:

- the network's weights: only a build of the given file has them;
- the weights of the plugin's node. They stand in no file but the library, which the judge compiles for each measurement, and the
  stand-in's parser asks for them while it parses. So a plan that has them comes of a parser that ran while the library was open.
  (A script that reads them out of the library's bytes, and puts them into the file by itself, can forge that: far more work than
  the line that was asked for.)
- the bounds of the profile, as TensorRT writes them.

That FP16 was asked for or not is only told, since TensorRT-RTX has no such flag: 0.6 of 3 points (tests/hostile/plugin_build).
So is the error of a file that breaks off: 0.3. No plan is ever opened here.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from autograder.artifacts.base import Artifact
from autograder.artifacts.script import Script
from autograder.checks import builds, plans, probe
from autograder.checks.base import Bench, Measure, OpenHere, Outcome
from autograder.sandbox.process import Box
from autograder.tasks.base import Task
from autograder.tasks.operator import Operator
from course.native.plugin import stand_in_library

INSIDE = "autograder.artifacts.plugin_build_inside"
SEES = (builds.INSIDE, "autograder/artifacts/plugin_build_inside.py")
NO_NODE = (
    "The plan does not hold what the library's node computes: the parser must find the plugin, in the given library."
)


@dataclass(frozen=True)
class Given:
    """What a script is told to build. network: with one node `name`, which `library` knows as `function`."""

    plain: bytes
    name: str
    function: bytes
    shapes: list[list[int]]
    fp16: bool

    @property
    def network(self) -> bytes:
        return probe.with_node(self.plain, self.name)

    def library(self) -> np.ndarray:
        """Compiled here: no word of a learner's is in it."""
        return np.frombuffer(_library(self.function), np.uint8)

    def inlined(self, plain: bytes = b"", node: Given | None = None) -> bytes:
        """In ONNX's own operators; with another network or another one's node, if given."""
        node = node or self
        return probe.inlined(probe.with_node(plain or self.plain, node.name), node.function)


@functools.lru_cache(maxsize=4)  # a learner who tries again is given the same nodes
def _library(function: bytes) -> bytes:
    with tempfile.TemporaryDirectory(prefix="grader-library-") as folder:
        return stand_in_library(function, Path(folder) / "plugin.so").read_bytes()


@dataclass(frozen=True)
class PluginBuild(Measure):
    """The script's function `build(onnx, plan, library, shapes, fp16)` is called three times: without FP16, with it and with
    another network, library and profile, and with half a file. Networks, nodes, their names and shapes are drawn.

    On every machine the stand-in for TensorRT 8.6 builds, without a GPU: that the engine runs with the learner's own plugin is
    another check (`plugin_engine`).
    """

    judges: ClassVar[type[Artifact]] = Script
    tasks: ClassVar[tuple[type[Task], ...]] = (Operator,)

    def wanted(self) -> str:
        return (
            "a plan of the given file with the node of the given library in it, the profile that was asked for, and FP16 only if "
            "it was asked for; an error if the file cannot be parsed"
        )

    def measure(self, at: Bench) -> Outcome:
        if reason := builds.why_no_stand_in():
            raise OpenHere(reason)
        one, two = _draw(at)
        box = _open(at)
        judges = _judges(at, one, two)
        rows: list[tuple[float, str]] = []  # part of the points, what is wrong ("" if nothing)
        for given, expected in zip((one, two), judges):
            what = "FP16 allowed" if given.fp16 else "FP32"
            with at.step(f"building a small network with a plugin, {what}"):
                answer = _call(at, box, given)
            if fault := builds.no_plan(answer, given.network, *expected):
                rows.append((0.45, f"{what}: {fault}"))
                continue
            rows += [(0.25, ""), (0.1, builds.other_profile(answer, given.shapes, expected[0]))]
            rows.append((0.1, _other_flags(answer, given.fp16)))
        with at.step("building from a file that breaks off"):
            silent = builds.silent(_call(at, box, one, half=True))
        built = any(not fault for _, fault in rows)  # an error counts for nothing where there is never a plan
        rows.append((0.1, silent if built else ""))
        good = [part for part, fault in rows if not fault] if built else []
        wanted = f"{one.shapes[0][0]} to {one.shapes[2][0]} and {two.shapes[0][0]} to {two.shapes[2][0]}"
        measured = f"{len(good)} of 7 requirements met, for batch {wanted}"
        message = " ".join(dict.fromkeys(fault for _, fault in rows if fault))
        return round(sum(good), 6), measured, message, {"shapes": [one.shapes, two.shapes]}


def _draw(at: Bench) -> tuple[Given, Given]:
    """Of this learner: other networks, nodes and shapes for each one, the same for the same one."""
    rng = at.draw("build script", 8).random()
    sample = [3, *(8 * int(number) for number in rng.integers(4, 9, 2))]
    numbers = rng.choice(9000, 2, replace=False) + 1000
    given = []
    for number, fp16 in zip(numbers, (False, True)):
        name, smallest = f"CourseProbe{number}", int(rng.integers(1, 3))
        usual = smallest + int(rng.integers(2, 6))
        batches = (smallest, usual, usual + int(rng.integers(2, 8)))
        shapes = [[batch, *sample] for batch in batches]
        given.append(Given(probe.network(rng, sample), name, probe.function(rng, name), shapes, fp16))
    return given[0], given[1]


def _open(at: Bench) -> Box:
    """A box with the script, which sees no GPU.

    Raises:
        Rejected: the script cannot be loaded.
    """
    stand_in = builds.stand_in(at)
    box = at.box(sees=(*SEES, stand_in), inside=INSIDE, gpu=False)
    box.ask("start", stand_in=stand_in, seconds=at.limits_s["run"])
    return box


def _judges(at: Bench, one: Given, two: Given) -> list[tuple[plans.Expected, plans.Expected]]:
    """Of each: its plan beside that of another network with the same node, and of the same network with another node."""
    found = []
    with at.step("building the grader's own plans"), contextlib.ExitStack() as boxes:

        @functools.cache
        def box() -> Box:
            made = at.bare_box(plans.INSIDE, sees=("course", plans.SEES), confined=False, gpu=False)
            boxes.callback(made.close)
            return made

        for mine, other in ((one, two), (two, one)):
            networks = mine.inlined(), mine.inlined(plain=other.plain), mine.inlined(node=other)
            plan, network, node = _own_plans(at, box, networks, mine.shapes)
            shapes = tuple(map(tuple, mine.shapes))
            found.append((plans.Expected(plan, network, shapes), plans.Expected(plan, node, shapes, differs=NO_NODE)))
    return found


_OWN: dict[tuple[bytes, ...], tuple[bytes, ...]] = {}
_MOST_OWN = 4


def _own_plans(
    at: Bench, box: Callable[[], Box], networks: Sequence[bytes], shapes: list[list[int]]
) -> tuple[bytes, ...]:
    """Plans of these networks. Nothing of a learner's goes into them, and who tries again is given the same networks, so this
    process keeps the last ones: half of a measurement's time."""
    key = (*networks, repr(shapes).encode())
    if key not in _OWN:
        arrays = [np.frombuffer(network, np.uint8) for network in networks]
        words = {"precision": "tf32", "name": probe.INPUT, "shapes": shapes}
        _, made = box().ask("build", arrays, seconds=at.limits_s["build"], **words)
        while len(_OWN) >= _MOST_OWN:
            del _OWN[next(iter(_OWN))]
        _OWN[key] = tuple(plan.tobytes() for plan in made)
    return _OWN[key]


def _call(at: Bench, box: Box, given: Given, half: bool = False) -> dict:
    network = given.network
    data = np.frombuffer(network[: len(network) // 2] if half else network, np.uint8)
    words = {"shapes": given.shapes, "fp16": given.fp16}
    answer, plan = box.ask("build", [data, given.library()], seconds=at.limits_s["run"], **words)
    return answer | {"bytes": plan[0].tobytes() if plan else b""}


def _other_flags(answer: dict, fp16: bool) -> str:
    if ("FP16" in builds.flags(builds.asked(answer))) == fp16:
        return ""
    return (
        "FP16 was asked for, and built without its flag." if fp16 else "FP16 was not asked for, and its flag was set."
    )
