"""A build script asks TensorRT for what it was told to: precisions, profile, calibrator; and says when a build fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from autograder.artifacts.base import Artifact
from autograder.artifacts.script import Script
from autograder.checks import builds, int8_scripts, plans, probe
from autograder.checks.base import Bench, Measure, Outcome
from autograder.checks.int8_scripts import Calibration
from autograder.rejected import Rejected
from autograder.sandbox.process import Box
from autograder.tasks.base import Task
from autograder.tasks.classifier import Classifier
from course.quantize import calibrate, quantize

FLAGS = {"FP16", "INT8"}


@dataclass(frozen=True)
class BuildScript(Measure):
    """The script's function `build(onnx, plan, batches, calibrator)` is called three times: with Q/DQ pairs and no
    calibrator, with a plain network and a calibrator of ours, and with half a file. batches is (smallest,
    usual, largest); they and the calibrator's batch are drawn.

    What a build was asked for is read from the calls that the script made (how far they are believed: `int8_scripts`).
    What was built is seen: where the stand-in builds, the plan is compared with one of the judge's (`plans`), and with a
    calibrator the judge's images must come back.
    """

    batches: int = 3
    judges: ClassVar[type[Artifact]] = Script
    tasks: ClassVar[tuple[type[Task], ...]] = (Classifier,)

    def wanted(self) -> str:
        return (
            "a plan of the given file, with INT8 and FP16, the profile that was asked for, and a calibrator's own "
            "profile; an error if the build fails"
        )

    def measure(self, at: Bench) -> Outcome:
        rng = int8_scripts.random(at, "build script")
        batch = int(rng.integers(2, 6))
        usual, largest = int(rng.integers(6, 10)), int(rng.integers(10, 17))
        images = at.draw("build script images", self.batches * batch).x
        plain = probe.network(rng, images.shape[1:])
        pairs = quantize(plain, calibrate(plain, images, "min-max")).SerializeToString()
        box = int8_scripts.open_box(at)
        batches, shapes = (1, usual, largest), [[size, *images.shape[1:]] for size in (1, usual, largest)]
        rows: list[tuple[float, str]] = []  # part of the points, what is wrong ("" if nothing)

        other = probe.network(rng, images.shape[1:])
        quantised = quantize(other, calibrate(other, images, "min-max")).SerializeToString()
        kinds = (pairs, quantised, "int8"), (plain, other, "tf32")
        judges = [plans.expected(*kind, probe.INPUT, shapes) if at.lane == "cpu" else None for kind in kinds]

        with at.step("building a small network with Q/DQ pairs"):
            answer = _call(at, box, pairs, images, batches)
        asked = builds.asked(answer)
        if fault := builds.no_plan(answer, pairs, judges[0]):
            rows.append((0.4, f"{fault} {_no_flags(asked) if asked else ''}".strip()))
        else:
            rows += [(0.15, ""), (0.1, _no_flags(asked)), (0.15, builds.other_profile(answer, shapes, judges[0]))]
        with at.step("building from a file that breaks off"):
            silent = builds.silent(_call(at, box, pairs[: len(pairs) // 2], images, batches))
        with at.step("building without pairs, with a calibrator"):
            rows += _with_calibrator(at, box, plain, images, batches, batch, judges[1])
        built = any(not fault for _, fault in rows)  # an error counts for nothing where there is never a plan
        rows.append((0.1, silent if built else "Nothing was built."))
        good = [part for part, fault in rows if not fault]
        measured = (
            f"{len(good)} of {len(rows)} requirements met, for batch {batches[0]} to {batches[2]}, usually {usual}"
        )
        message = " ".join(dict.fromkeys(fault for _, fault in rows if fault))
        return round(sum(good), 6), measured, message, {"batches": batches, "calibrated_with": batch}


def _with_calibrator(
    at: Bench,
    box: Box,
    plain: bytes,
    images: np.ndarray,
    batches: tuple[int, int, int],
    batch: int,
    judges: plans.Expected | None,
) -> list[tuple[float, str]]:
    """The last build: what the judge can see for itself is worth most."""
    calibration = Calibration(plain, images, batch)
    try:
        answer = _call(at, box, plain, images, batches, batch, calibration)
    except Rejected as error:
        return [(0.5, f"With a calibrator: {error.what} {error.cause} {error.next_step}")]
    if fault := builds.no_plan(answer, plain, judges):
        return [(0.5, fault)]
    return [(0.1, ""), (0.4, _not_calibrated(builds.asked(answer), calibration, batch))]


def _call(
    at: Bench,
    box: Box,
    onnx: bytes,
    images: np.ndarray,
    batches: tuple[int, int, int],
    batch: int = 0,
    calibration: Calibration | None = None,
) -> dict:
    answer, plan = box.ask(
        "build",
        [np.frombuffer(onnx, np.uint8), images],
        batches=batches,
        batch=batch,
        seconds=at.limits_s["run"],
        on_call=calibration,
    )
    return answer | {"bytes": plan[0].tobytes() if plan else b""}


def _no_flags(asked: dict) -> str:
    missing = sorted(FLAGS - builds.flags(asked))
    return f"Pairs of Q and DQ were built without the flag {' and '.join(missing)}." if missing else ""


def _not_calibrated(asked: dict, calibration: Calibration, batch: int) -> str:
    if "INT8" not in builds.flags(asked):
        return "A network with a calibrator was built without the flag INT8: TensorRT does not ask the calibrator."
    profile = asked.get("calibration_profile")
    usual = profile.get(probe.INPUT) if isinstance(profile, dict) else None
    if not (isinstance(usual, list) and len(usual) == 3 and usual[1] == [batch, *calibration.images.shape[1:]]):
        return (
            f"The calibration profile is {str(profile)[:200]}; its usual shape must have the calibrator's batch of {batch}, "
            "as get_batch_size says."
        )
    return calibration.problem()
