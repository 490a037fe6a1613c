"""A classifier's engine gives the reference's answers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from autograder.checks.base import Bench, Outcome, Ramp
from autograder.checks.engines import EngineMeasure, Engines, ShapeRange, engine_words, float16_share
from autograder.checks.rules import float16_words
from autograder.rejected import Rejected
from autograder.tasks import classifier
from autograder.tasks.base import Task
from autograder.tasks.classifier import Classifier


@dataclass(frozen=True)
class Accuracy(EngineMeasure):
    """The engine gives the reference's answers on labelled images that nobody saw before.

    The worst of the ramps decides.

    agreement: part of the images whose top class is the reference's; None asks nothing of it.
    drop: by how much fewer images it gets right than the reference (0.01 is one point of accuracy).
    error: root mean square of the logits' difference, relative to that of the reference's logits around their
        mean. Another network may agree on the class; it never has the same logits.
    images: how many, in self-check; hidden_images: in grading.
    min_float16: least part of the engine's layers that must put out float16 (TensorRT only); 0 asks nothing.
    far: what to say where the error earns nothing.
    """

    precision: str
    agreement: Ramp | None
    drop: Ramp
    error: Ramp
    images: int = 64
    hidden_images: int = 192
    batch: int = 16
    runtime: str = "auto"
    min_float16: float = 0.0
    far: str = "The logits are those of another network."
    tasks: ClassVar[tuple[type[Task], ...]] = (Classifier,)

    def wanted(self) -> str:
        same = f"PyTorch's class: {self.agreement.text(' %', 100)}; " if self.agreement else ""
        lost, error = self.drop.text(" percentage points", 100), self.error.text(" %", 100)
        return f"{same}accuracy lost: {lost}; error of the logits: {error}{float16_words(self.min_float16)}"

    def feeds(self) -> Iterator[ShapeRange]:
        yield ShapeRange((1,), (self.batch,))

    def measure(self, at: Bench) -> Outcome:
        engines = Engines.of(at)
        if len(engines.facts["inputs"]) != 1 or len(engines.facts["outputs"]) != 1:
            raise Rejected(
                "The network has one input and one output.",
                f"The file's inputs are {list(engines.facts['inputs'])}, its outputs {list(engines.facts['outputs'])}.",
                "Export it with one of each.",
            )
        count = self.images if at.mode == "public" else self.hidden_images
        images = at.draw(f"accuracy {count}", count)  # the same for every precision: PyTorch runs on them once
        key = engines.engine(self.precision, self.runtime)
        at.say(f"{count} images through PyTorch and the {self.precision.upper()} engine")
        wanted = at.task.answers(images.x)
        answer = classifier.only_output(engines.run_all(key, images.x, self.batch))
        error = classifier.error_of(answer, wanted)
        if not math.isfinite(error):
            return 0.0, "the answers cannot be compared", classifier.why_wrong(answer, wanted, error), {}
        same = int((answer.argmax(1) == wanted.argmax(1)).sum())
        ours, theirs = (float((logits.argmax(1) == images.labels).mean()) for logits in (answer, wanted))
        low, high = classifier.wilson(same, count)
        shares = {
            **({"agreement": self.agreement.share(same / count, low, high)} if self.agreement else {}),
            "drop": self.drop.share(theirs - ours, *classifier.drop_interval(answer, wanted, images.labels)),
            "error": self.error.share(error),
        }
        values = {
            "agreement": same / count,
            "accuracy": ours,
            "reference_accuracy": theirs,
            "error": error,
            "images": count,
        }
        measured = (
            f"PyTorch's class on {same} of {count} images; "
            f"accuracy {100 * ours:.1f} % (PyTorch {100 * theirs:.1f} %); "
            f"error of the logits {100 * error:.2g} %; {engine_words(engines.built[key])}"
        )
        built = engines.built[key]
        lost, words, message = float16_share(built, self.min_float16)
        measured, shares = measured + words, shares | lost
        values |= {"shares": shares} | ({"float16": built["float16"]} if words else {})
        if shares["error"] == 0:
            message = self.far
        return min(shares.values()), measured, message, values
