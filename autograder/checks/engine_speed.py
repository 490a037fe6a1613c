"""How many times as fast an engine is as one that the grader builds of the reference: INT8 against FP16, say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from autograder.checks.base import Bench
from autograder.checks.engines import Engines
from autograder.checks.speed import Speed
from autograder.tasks import answers
from autograder.tasks.base import Task
from autograder.tasks.classifier import Classifier


@dataclass(frozen=True)
class EngineSpeed(Speed):
    """As `Speed`, but the other side is an engine, too: of the reference's plain float32 export, which the grader makes.

    Both engines are built by the grader and run in turns in one process, which holds no code of the learner's. A time
    counts only if every answer of the timed runs is right, by the limits of `Speed`.

    rival_precision: of the other engine.
    """

    rival_precision: str = "fp16"
    than: ClassVar[str] = "the grader's FP16 engine"
    tasks: ClassVar[tuple[type[Task], ...]] = (Classifier,)

    def rival(self, at: Bench, engines: Engines, form: str) -> dict[str, object]:
        runtime = engines.runtime(self.runtime)
        key = f"reference {self.rival_precision}/{runtime}"

        def make() -> dict:
            with at.step(f"building the reference's {self.rival_precision.upper()} engine"):
                data = answers.reference_onnx(at.task.reference, at.draw("reference", 2).x)
                engines.box.ask("peer", [np.frombuffer(data, np.uint8)], seconds=60)
                built, _ = engines.box.ask(
                    "build",
                    key=key,
                    precision=self.rival_precision,
                    runtime=runtime,
                    largest=max(self.batches),
                    alone=runtime == "onnxruntime",
                    level=engines.artifact.optimization_level,
                    peer=True,
                    seconds=at.limits_s["build"],
                )
            return built

        at.once((key, engines.path), make)
        return {"against": key}
