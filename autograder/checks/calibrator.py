"""A calibrator gives TensorRT the right images, keeps the cache, and does not use one that was made of others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from autograder.artifacts.base import Artifact
from autograder.artifacts.script import Script
from autograder.checks import builds, int8_scripts, probe
from autograder.checks.base import Bench, Measure, Outcome
from autograder.checks.int8_scripts import ALGORITHMS, Calibration
from autograder.rejected import Rejected
from autograder.sandbox.process import Box
from autograder.tasks.base import Task
from autograder.tasks.classifier import Classifier

SCALES, KEPT, FRESH = 0.5, 0.25, 0.25
"""Parts of the points. Without right scales there are none for a cache; and to leave a cache unused counts for nothing
with a calibrator that never uses one.
"""


@dataclass(frozen=True)
class CalibratorScales(Measure):
    """The script's class `Calibrator(images, batch_size, cache)` is used in three builds of a small network of the
    judge's, in two processes:

    1. With an empty folder: the scales must be those of the judge's images, by the method that the class names.
    2. In a new process, with the files of the first build and the same images: the cache is used, no image is read.
    3. With the same files and other images: the cache is not used.

    batches: whole ones; the number of images does not fill them. largest: of a batch, whose size is drawn.
    """

    batches: int = 5
    largest: int = 8
    judges: ClassVar[type[Artifact]] = Script
    tasks: ClassVar[tuple[type[Task], ...]] = (Classifier,)

    def wanted(self) -> str:
        return (
            "the scales of the grader's images, by the method that your class names (half of the points); the cache is "
            "kept and used again (a quarter); a cache of other images is not used (a quarter)"
        )

    def measure(self, at: Bench) -> Outcome:
        rng = int8_scripts.random(at, "calibrator")
        batch = int(rng.integers(3, self.largest + 1))
        count = self.batches * batch + int(rng.integers(1, batch))
        images, others = (at.draw(f"{purpose} {count}", count).x for purpose in ("calibration", "other calibration"))
        network = probe.network(rng, images.shape[1:])
        first, second, third = (Calibration(network, x, batch) for x in (images, images, others))

        with at.step("calibrating a small network with your calibrator"):
            answer, files = _build(at, int8_scripts.open_box(at), first, {})
        values: dict = {"rows": len(first.rows), "images": count, "batch": batch}
        if fault := _no_scales(answer, first):
            off = f", scales up to {first.off():.3g} times off" if first.batches else ""
            return 0.0, f"{len(first.rows)} rows read{off}", fault, values
        cache = first.cache or _cache_of(files)
        off = first.off(cache)
        values |= {"method": ALGORITHMS[first.algorithm], "off": off}
        measured = f"{len(first.rows)} of {count} images in batches of {batch}, scales by {values['method']}"
        if off > first.most_off(cache):
            return 0.0, f"{measured}, up to {off:.3g} times off", "They are not those of the grader's images.", values

        with at.step("once more in a new process, with the cache"):
            faults = _cache_faults(at, second, third, files, cache)
        share = SCALES + (KEPT + FRESH * (not faults[1])) * (not faults[0])
        measured += f", right; cache {'not ' if faults[0] else ''}used again, {'not ' if faults[1] else ''}left out for other images"
        return share, measured, " ".join(filter(None, faults)), values


def _build(at: Bench, box: Box, calibration: Calibration, files: Mapping[str, bytes]) -> tuple[dict, dict[str, bytes]]:
    """Returns what the box says, and the files that the script left."""
    given = [np.frombuffer(data, np.uint8) for data in (calibration.network, *files.values())]
    answer, found = box.ask(
        "calibrate",
        [given[0], calibration.images, *given[1:]],
        batch=calibration.batch,
        names=list(files),
        seconds=at.limits_s["run"],
        on_call=calibration,
    )
    names = answer.get("names")
    names = [str(name)[:100] for name in names] if isinstance(names, list) else []
    return answer, {name: array.tobytes() for name, array in zip(names, found)}


def _no_scales(answer: dict, calibration: Calibration) -> str:
    """Why the first build's scales do not count; "" if they may."""
    if calibration.rows:
        return calibration.problem()
    if any(event.get("bytes") for event in builds.events(answer, "read_calibration_cache")):
        return "read_calibration_cache gave a cache although none had been written: its scales are of other images."
    return f"TensorRT got no batch. {int8_scripts.problems(answer)}".strip()


def _cache_of(files: Mapping[str, bytes]) -> bytes:
    """What TensorRT itself wrote."""
    return next((data for data in files.values() if data.startswith(b"TRT-")), b"")


def _cache_faults(
    at: Bench, same: Calibration, others: Calibration, files: Mapping[str, bytes], cache: bytes
) -> tuple[str, str]:
    """What is wrong with the second build, and with the third."""
    try:
        box = int8_scripts.open_box(at)
        answer, _ = _build(at, box, same, files)
    except Rejected as error:
        return f"{error.what} {error.cause}", "A cache of other images could not be tried."
    read = [event.get("sha256") for event in builds.events(answer, "read_calibration_cache")]
    if same.rows:
        kept = "The second build read the images again: read_calibration_cache did not give what had been written."
    elif set(read) != {hashlib.sha256(cache).hexdigest()}:  # TensorRT asks twice
        kept = f"The second build got neither the cache nor images. {int8_scripts.problems(answer)}".strip()
    else:
        kept = ""
    try:
        answer, _ = _build(at, box, others, files)
    except Rejected as error:
        return kept, f"With other images: {error.what} {error.cause}"
    if others.rows:
        return kept, others.problem()
    return kept, "With other images the old cache was used: its scales are not theirs."
