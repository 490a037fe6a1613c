"""How many times as fast as PyTorch eager an engine is: both in turns, answers before times."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from autograder.checks.base import Bench, Outcome, Problem, Ramp
from autograder.checks.engines import EngineMeasure, Engines, ShapeRange, engine_words
from autograder.checks.rules import batch_problems, size_problems
from autograder.rejected import Rejected
from autograder.tasks import detector_answers
from autograder.tasks.base import Task
from course.bench import RESOLUTION, ratio_interval

MOST_ANSWERS = 256 << 20
"""Bytes of timed answers that are taken; the process keeps fewer."""


@dataclass(frozen=True)
class Speed(EngineMeasure):
    """How many times as fast as the reference in PyTorch eager the engine is; the worst batch size decides.

    sizes: sides of the square images in px, for a network that takes any; the worst decides. A detector is
        compared with PyTorch in the same form: raw output with raw output, decoded boxes with decoded boxes.

    Both run in one process, in turns: on a GPU timed by CUDA events, on a CPU by CPU time on one thread each
    (there a crowded machine would otherwise decide). A time counts only if every answer of the timed runs is
    right: relative error (as in `Accuracy`) at most `max_error` and the same class for at least
    `min_agreement` of the images.

    ratio: one ramp for all batch sizes, or one for each of them.
    rounds, max_seconds: of timing, per batch size.
    """

    precision: str
    batches: tuple[int, ...]
    ratio: Ramp | Mapping[int, Ramp]
    max_error: float = 0.1
    min_agreement: float = 0.9
    rounds: int = 30
    max_seconds: float = 10.0
    warmup_s: float = 0.3
    runtime: str = "auto"
    sizes: tuple[int, ...] = ()

    def problems(self, task: Task) -> Iterator[Problem]:
        yield from super().problems(task)
        yield from batch_problems(self.batches)
        yield from size_problems(self.sizes, task)
        if not isinstance(self.ratio, Ramp) and set(self.ratio) != set(self.batches):
            yield (
                f"ramps for batch {sorted(self.ratio)}, timed at {sorted(self.batches)}.",
                "Give each timed batch size its ramp, or one ramp for all.",
            )

    def wanted(self) -> str:
        if isinstance(self.ratio, Ramp):
            return f"times as fast as PyTorch eager: {self.ratio.text()}"
        ramps = "; ".join(f"batch {batch}: {self.ramp(batch).text()}" for batch in self.batches)
        return f"times as fast as PyTorch eager: {ramps}"

    def ramp(self, batch: int) -> Ramp:
        return self.ratio if isinstance(self.ratio, Ramp) else self.ratio[batch]

    def feeds(self) -> Iterator[ShapeRange]:
        low, high = min(self.batches), max(self.batches)
        if self.sizes:
            yield ShapeRange((low, 3, min(self.sizes), min(self.sizes)), (high, 3, max(self.sizes), max(self.sizes)))
        else:
            yield ShapeRange((1,), (high,))

    def measure(self, at: Bench) -> Outcome:
        """How many times as fast as PyTorch eager, at the worst batch and size."""
        engines = Engines.of(at)
        form = at.task.form(engines.facts)
        key = engines.engine(self.precision, self.runtime, timed=True)
        shares, words, values = [], [], {"form": form} if form else {}
        for size in self.sizes or (None,):
            for batch in self.batches:
                label = f"batch {batch}" + (f" at {size} px" if size else "")
                with at.step(f"timing {label}, engine and PyTorch in turns"):
                    result, problem = self._timed(at, engines, key, batch, size, form)
                if problem:
                    return 0.0, f"{label}: no time counts", problem, values
                ratio, low, high = result["ratio"], result["low"], result["high"]
                shares.append(self.ramp(batch).share(ratio, low, high))
                interval = f"95 % CI {low:.2f} to {high:.2f}" if math.isfinite(high) else "too few runs for an interval"
                words.append(
                    f"{label}: {ratio:.2f} times ({interval}; {result['engine_ms']:.3g} against "
                    f"{result['reference_ms']:.3g} ms)"
                )
                values[label] = {**result, "high": high if math.isfinite(high) else None}
        built = engines.built[key]
        clock = ", CPU time on one thread each" if built["device"] == "cpu" else ""
        compared = f"; {detector_answers.FORMS[form]}" if form else ""
        return min(shares), f"{'; '.join(words)}; {engine_words(built)}{clock}{compared}", "", values

    def _timed(
        self, at: Bench, engines: Engines, key: str, batch: int, size: int | None, form: str
    ) -> tuple[dict, str]:
        """Times at one batch size and image size, or why they are not believed."""
        slots = max(2, min(8, 16 // batch))
        images = at.draw(f"{at.check} batch {batch}", slots * batch, size).x
        wanted = at.task.answers(images)
        begin = time.perf_counter()
        head, (ours, theirs, used, *outputs) = engines.box.ask(
            "time",
            [images.reshape(slots, batch, *images.shape[1:])],
            key=key,
            reference=at.task.reference,
            options=at.task.options(form),
            rounds=self.rounds,
            max_seconds=self.max_seconds,
            warmup_s=self.warmup_s,
            seconds=self.max_seconds * 6 + at.limits_s["run"],
            most_answer=MOST_ANSWERS,
        )
        wall_ms = 1e3 * (time.perf_counter() - begin)
        calls = head["calls"]
        if not (ours.shape == theirs.shape and len(ours) and (ours > 0).all() and (theirs > 0).all()):
            raise Rejected("The timing gave no times.", f"{ours.shape} and {theirs.shape} samples.", "Measure again.")
        if ours.sum() * calls[0] + theirs.sum() * calls[1] > 1.02 * wall_ms:  # one thread: CPU time is no longer
            raise Rejected(
                "The times do not fit the clock outside.",
                f"They add up to more than {wall_ms:.0f} ms.",
                "Measure again.",
            )
        parts = [slice(slot * batch, (slot + 1) * batch) for slot in used.tolist()]
        problem = at.task.why_wrong(list(zip(parts, zip(*outputs))), wanted, images, self, engines.facts)
        if problem:
            return {}, problem
        device = "cuda" if engines.built[key]["device"].startswith("cuda") else "cpu"
        ratio, low, high = ratio_interval(ours, theirs, resolution=RESOLUTION[device])
        return {
            "ratio": ratio,
            "low": low,
            "high": high,
            "engine_ms": float(np.median(ours)),
            "reference_ms": float(np.median(theirs)),
            "rounds": len(ours),
            "checked_answers": len(used),
            "engine_samples_ms": ours.tolist(),
            "reference_samples_ms": theirs.tolist(),
        }, ""
