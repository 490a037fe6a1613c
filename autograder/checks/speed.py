"""The check of speed, for every kind of network: engine and PyTorch eager in turns, answers before times."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np

from autograder.checks.base import Context, Outcome, engine_words
from autograder.milestones import Check, Speed
from autograder.rejected import Rejected
from autograder.tasks import classifier, detector
from autograder.tasks.detector_mistakes import why_wrong
from course.bench import RESOLUTION, ratio_interval

MOST_ANSWERS = 256 << 20
"""Bytes of timed answers that are taken; the process keeps fewer."""


def speed(context: Context, check: Check, params: Speed) -> Outcome:
    """How many times as fast as PyTorch eager, at the worst batch and size."""
    form = detector.form_of(context.facts) if context.milestone.task == "detector" else ""
    key = context.engine(params.precision, params.runtime, timed=True)
    shares, words, values = [], [], {"form": form} if form else {}
    for size in params.sizes or (None,):
        for batch in params.batches:
            label = f"batch {batch}" + (f" at {size} px" if size else "")
            with context.step(f"timing {label}, engine and PyTorch in turns"):
                result, problem = _timed(context, check, params, key, batch, size, form)
            if problem:
                return 0.0, f"{label}: no time counts", problem, values
            ratio, low, high = result["ratio"], result["low"], result["high"]
            shares.append(params.ramp(batch).share(ratio, low, high))
            interval = f"95 % CI {low:.2f} to {high:.2f}" if math.isfinite(high) else "too few runs for an interval"
            words.append(
                f"{label}: {ratio:.2f} times ({interval}; {result['engine_ms']:.3g} against "
                f"{result['reference_ms']:.3g} ms)"
            )
            values[label] = {**result, "high": high if math.isfinite(high) else None}
    built = context.engines[key]
    clock = ", CPU time on one thread each" if built["device"] == "cpu" else ""
    compared = f"; {detector.FORMS[form]}" if form else ""
    return min(shares), f"{'; '.join(words)}; {engine_words(built)}{clock}{compared}", "", values


def _timed(
    context: Context, check: Check, params: Speed, key: str, batch: int, size: int | None, form: str
) -> tuple[dict, str]:
    """Times at one batch size and image size, or why they are not believed."""
    slots = max(2, min(8, 16 // batch))
    images = (
        context.draw(f"{check.id} batch {batch}", slots * batch)
        if size is None
        else context.draw(f"{check.id} batch {batch}", slots * batch, size)
    ).x
    wanted = context.answers(images)
    begin = time.perf_counter()
    head, (ours, theirs, used, *outputs) = context.runner.ask(
        "time",
        [images.reshape(slots, batch, *images.shape[1:])],
        key=key,
        reference=context.milestone.reference,
        options={"decode": form == "decoded"} if form else {},
        rounds=params.rounds,
        max_seconds=params.max_seconds,
        warmup_s=params.warmup_s,
        seconds=params.max_seconds * 6 + context.milestone.limits_s["run"],
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
    problem = (
        _wrong_boxes(context, params, parts, outputs, wanted, images)
        if form
        else _wrong_logits(params, parts, outputs[0], wanted)
    )
    if problem:
        return {}, problem
    device = "cuda" if context.engines[key]["device"].startswith("cuda") else "cpu"
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


def _wrong_logits(params: Speed, parts: Sequence[slice], answers: np.ndarray, wanted: np.ndarray) -> str:
    """Why a classifier's timed answers are not believed; "" if they are."""
    for part, answer in zip(parts, answers):
        error = classifier.error_of(answer, wanted[part])
        if not error <= params.max_error:
            return "An answer of a timed run is wrong. " + classifier.why_wrong(answer, wanted[part], error)
    same = np.mean([answer.argmax(1) == wanted[part].argmax(1) for part, answer in zip(parts, answers)])
    if same < params.min_agreement:
        return f"In the timed runs only {100 * same:.0f} % of the images got PyTorch's class."
    return ""


def _wrong_boxes(
    context: Context,
    params: Speed,
    parts: Sequence[slice],
    outputs: Sequence[np.ndarray],
    wanted: detector.Answer,
    images: np.ndarray,
) -> str:
    """The same for a detector."""
    for part, arrays in zip(parts, zip(*outputs)):
        x = images[part]
        answer = detector.read(arrays, len(x), x.shape[2:])
        if not detector.error_of(answer, wanted[part]).worst <= params.max_error:
            elements = (context.facts["elements"], context.weights())
            return "An answer of a timed run is wrong. " + why_wrong(answer, wanted[part], x, context.answers, elements)
    return ""
