"""A detector's engine finds what the reference finds, at several sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from autograder.checks.base import Bench, Outcome, Problem, Ramp
from autograder.checks.engines import EngineMeasure, Engines, ShapeRange, engine_words, float16_share
from autograder.checks.rules import float16_words, size_problems
from autograder.rejected import Rejected
from autograder.tasks import detector_answers
from autograder.tasks.base import Task
from autograder.tasks.detector import Detector
from autograder.tasks.detector_mistakes import why_wrong
from course.data.metrics import mean_average_precision


@dataclass(frozen=True)
class Detection(EngineMeasure):
    """The engine finds what the reference finds, on scenes that nobody saw before. The worst ramp at the worst
    size decides.

    drop: by how much its mAP (COCO, IoU 0.5 to 0.95) is lower than the reference's on the same scenes (0.005
        is half a point). Non-maximum suppression is the grader's own, the same for both.
    error: the larger of two numbers, over all boxes before suppression: root mean square of the coordinates'
        difference relative to that of the reference's widths and heights, and of the scores' difference
        relative to that of the reference's scores around their mean. Another detector may have the same mAP;
        it never has the same boxes and scores.
    sizes: sides of the square scenes in px. scenes, hidden_scenes: how many of each size, in self-check and in
        grading; multiples of `batch`.
    min_float16: as in `Accuracy`.
    least_map: what the reference itself must reach, else the comparison would show nothing.
    """

    precision: str
    drop: Ramp
    error: Ramp
    sizes: tuple[int, ...] = (320, 416)
    scenes: int = 64
    hidden_scenes: int = 128
    batch: int = 8
    runtime: str = "auto"
    min_float16: float = 0.0
    least_map: float = 0.5
    tasks: ClassVar[tuple[type[Task], ...]] = (Detector,)

    def problems(self, task: Task) -> Iterator[Problem]:
        yield from super().problems(task)
        yield from size_problems(self.sizes, task)
        if self.batch < 1 or any(n < 1 or n % self.batch for n in (self.scenes, self.hidden_scenes)):
            yield (
                f"{self.scenes} and {self.hidden_scenes} scenes in batches of {self.batch}.",
                "Scenes must fill whole batches, so that an engine needs no other batch size.",
            )
        if not 0 < self.least_map < 1:
            yield (
                f"least_map={self.least_map}.",
                "Between 0 and 1: a reference that finds nothing could lose nothing.",
            )

    def wanted(self) -> str:
        return (
            f"at {' and '.join(map(str, self.sizes))} px: mAP lost: {self.drop.text(' points', 100)}; "
            f"error of boxes and scores: {self.error.text(' %', 100)}" + float16_words(self.min_float16)
        )

    def feeds(self) -> Iterator[ShapeRange]:
        low, high = min(self.sizes), max(self.sizes)
        yield ShapeRange((self.batch, 3, low, low), (self.batch, 3, high, high))

    def measure(self, at: Bench) -> Outcome:
        """The reference's boxes and scores, and its mAP, at every size."""
        engines = Engines.of(at)
        if len(engines.facts["inputs"]) != 1:
            raise Rejected(
                "The network has one input.",
                f"The file's inputs are {list(engines.facts['inputs'])}.",
                "Export it with one.",
            )
        detector_answers.form_of(engines.facts)
        key = engines.engine(self.precision, self.runtime)
        shares, values, words, message = {}, {}, [], ""
        for size in self.sizes:
            found, text, problem = self._at_size(at, engines, key, size)
            shares |= {f"{name} at {size} px": share for name, share in found.pop("shares").items()}
            values[f"{size} px"] = found
            words.append(text)
            message = message or problem
            if problem:
                break
        built = engines.built[key]
        lost, more, too_few = float16_share(built, self.min_float16)
        shares |= lost
        values |= {"shares": shares} | ({"float16": built["float16"]} if more else {})
        return min(shares.values()), f"{'; '.join(words)}; {engine_words(built)}{more}", message or too_few, values

    def _at_size(self, at: Bench, engines: Engines, key: str, size: int) -> tuple[dict, str, str]:
        """Numbers with their shares, the measurement in words, and why the answers are another network's, or ""."""
        from course.models.suppression import nms  # brings PyTorch, which nbgrader's processes do not need

        count = self.scenes if at.mode == "public" else self.hidden_scenes
        scenes = at.draw(f"accuracy {count}", count, size)  # the same for every precision
        with at.step(f"{count} scenes of {size} px through PyTorch and the {self.precision.upper()} engine"):
            wanted = at.task.answers(scenes.x)
            answer = detector_answers.read(engines.run_all(key, scenes.x, self.batch), count, (size, size))
        error = detector_answers.error_of(answer, wanted)
        values = {"error": error.worst if math.isfinite(error.worst) else None, "scenes": count}
        if not self.error.share(error.worst) > 0:
            text = f"{size} px: {error}" if answer.finite else f"{size} px: the answers cannot be compared"
            return values | {"shares": {"error": 0.0}}, text, why_wrong_detector(at, engines, answer, wanted, scenes.x)
        ours, theirs = nms(answer.boxes, answer.scores), nms(wanted.boxes, wanted.scores)
        score, full = (mean_average_precision(found, scenes.scenes).map50_95 for found in (ours, theirs))
        if not full >= self.least_map:
            raise RuntimeError(f"The reference's own mAP at {size} px is {full:.3f}, so nothing could be lost.")
        drop = full - score
        share = self.drop.share(drop)
        if share < 1:
            half = detector_answers.noise_of_drop(ours, theirs, scenes.scenes)
            share = self.drop.share(drop, drop - half, drop + half)
        values |= {
            "map": score,
            "reference_map": full,
            "shares": {"drop": share, "error": self.error.share(error.worst)},
        }
        text = f"{size} px: mAP {100 * score:.2f} (PyTorch {100 * full:.2f}) on {count} scenes, error of {error}"
        return values, text, ""


def why_wrong_detector(
    at: Bench, engines: Engines, answer: detector_answers.Answer, wanted: detector_answers.Answer, x: np.ndarray
) -> str:
    return why_wrong(answer, wanted, x, at.task.answers, (engines.facts["elements"], at.task.weights()))
