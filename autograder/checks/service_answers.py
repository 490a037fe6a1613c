"""A service gives the right answers: one by one, and under load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from autograder.artifacts.base import Artifact
from autograder.artifacts.repository import Repository
from autograder.checks import service_box as box
from autograder.checks.base import Bench, Measure, Outcome
from autograder.tasks.base import Task
from autograder.tasks.image_files import ImageFiles
from course.serving.words import ServingError


@dataclass(frozen=True)
class ServiceAnswers(Measure):
    """Half of the points for images that come one by one, half for the same service under `clients` at once.

    alone: images one by one. under_load: requests that are sent, of which `looked_at` are compared, chosen at random.
    """

    alone: int = 12
    clients: int = 8
    seconds: float = 4.0
    under_load: int = 400
    looked_at: int = 24
    judges: ClassVar[type[Artifact]] = Repository
    tasks: ClassVar[tuple[type[Task], ...]] = (ImageFiles,)

    def wanted(self) -> str:
        return "PyTorch's logits for every image: one by one (half of the points), and under load (half)"

    def measure(self, at: Bench) -> Outcome:
        service = box.judged(at)
        drawn, many = at.draw("service alone", self.alone), at.draw("service under load", self.under_load)
        with box.only(at, service), at.step("asking the service, one image at a time"):
            found, refused = [], ""
            with service.client() as client:
                for feed in box.feeds(drawn.files):
                    try:
                        found.append(client.infer(box.MODEL, feed))
                    except ServingError as error:
                        found.append({})
                        refused = refused or f"{error.what} {error.cause}"
        wrong, count, why = box.compare(at, found, drawn.pixels)
        with box.only(at, service), at.step(f"asking the service, {self.clients} clients at a time"):
            load = service.closed(many.files, self.clients, self.seconds, keep_answers=True, timeout=20.0)
        wrong_many, looked, why_many = box.wrong_answers(at, load, many.pixels, self.looked_at)
        good_many = looked > 0 and wrong_many == 0 and load.failed == 0
        share = 0.5 * (wrong == 0) + 0.5 * (wrong == 0 and good_many)
        measured = (
            f"{count - wrong} of {count} images right one by one; under load {looked - wrong_many} of {looked} looked at, "
            f"{load.failed} of {load.sent} requests failed"
        )
        failures = next(iter(load.reasons), "")
        message = refused or why or why_many or (f"Under load requests failed: {failures}" if load.failed else "")
        values = {"alone": count - wrong, "under_load": load.sent, "failed": load.failed, "rate": load.rate}
        return float(share), measured, message if share < 1 else "", values
