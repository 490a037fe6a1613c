"""The kinds of check: each measures one thing through the runner and says what it is worth.

A check function gets the context, its declaration and its parameters, and returns (share, measured, message,
values): the part of the points, the measurement in words, what to say about lost points, and the numbers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from autograder import agreement
from autograder.milestones import (
    Accuracy,
    Check,
    DynamicBatch,
    Milestone,
    Params,
    Speed,
)
from autograder.runner import Runner
from autograder.snapshot import Rejected
from course.bench import RESOLUTION, ratio_interval

MOST_FIXED = 64

Outcome = tuple[float, str, str, dict]


@dataclass
class Context:
    """What the checks of one measurement share.

    draw(purpose, count) -> Drawn. answers(x) -> the reference's logits, float32 [N, classes]: computed here,
    never in the artifact's process. facts: of `onnx_guard`. engines: what was built already.
    """

    milestone: Milestone
    lane: str
    mode: str
    runner: Runner
    facts: dict
    draw: Callable
    answers: Callable[[np.ndarray], np.ndarray]
    say: Callable[[str], None]
    engines: dict[str, dict] = field(default_factory=dict)

    def engine(self, precision: str, runtime: str, timed: bool = False) -> str:
        """Key of an engine; built once, for all batch sizes that this milestone needs of it. On a CPU the
        timed one is another, on one thread.
        """
        runtime, largest = self.runtime(runtime), self.largest(precision, runtime)
        alone = timed and runtime == "onnxruntime"
        key = f"{precision}/{runtime}{' alone' if alone else ''}"
        if key not in self.engines:
            self.say(
                f"building the {precision.upper()} engine{' on one thread, to be timed' if alone else ''}"
            )
            self.engines[key], _ = self.runner.ask(
                "build",
                key=key,
                precision=precision,
                runtime=runtime,
                largest=largest,
                alone=alone,
                seconds=self.milestone.limits_s["build"],
            )
        return key

    def run(self, key: str, x: np.ndarray) -> np.ndarray:
        _, (answer,) = self.runner.ask("run", [x], key=key, seconds=self.milestone.limits_s["run"])
        return answer

    def runtime(self, name: str) -> str:
        return {"cpu": "onnxruntime", "gpu": "tensorrt"}[self.lane] if name == "auto" else name

    def largest(self, precision: str, runtime: str) -> int:
        """The largest batch that any check of this milestone needs of this engine: so one engine serves them
        all.
        """
        wanted, sizes = (precision, self.runtime(runtime)), [1]
        for check in self.milestone.checks:
            params = check.lanes.get(self.lane)
            if isinstance(params, DynamicBatch) and wanted == ("fp32", self.runtime(params.runtime)):
                sizes += [*params.batches, params.largest]
            elif isinstance(params, Accuracy) and wanted == (params.precision, self.runtime(params.runtime)):
                sizes.append(params.batch)
            elif isinstance(params, Speed) and wanted == (params.precision, self.runtime(params.runtime)):
                sizes += params.batches
        return max(sizes)


def threshold(params: Params) -> str:
    """What earns the points, in words."""
    if isinstance(params, DynamicBatch):
        return f"one float32 input [batch, {', '.join(map(str, params.sample))}], right at every batch size"
    if isinstance(params, Accuracy):
        same, lost = params.agreement.text(" %", 100), params.drop.text(" percentage points", 100)
        text = (
            f"PyTorch's class: {same}; accuracy lost: {lost}; "
            f"error of the logits: {params.error.text(' %', 100)}"
        )
        return text + (
            f"; at least {100 * params.min_float16:.0f} % of the layers in FP16" if params.min_float16 else ""
        )
    return f"times as fast as PyTorch eager: {params.ratio.text()}"


def dynamic_batch(context: Context, check: Check, params: DynamicBatch) -> Outcome:
    shown = ", ".join(
        f"{name} {dtype} {list(shape)}" for name, (dtype, shape) in context.facts["inputs"].items()
    )
    inputs = list(context.facts["inputs"].values())
    if len(inputs) != 1 or len(context.facts["outputs"]) != 1:
        return (
            0.0,
            f"inputs {shown or 'none'}; {len(context.facts['outputs'])} outputs",
            ("The network has one input and one output."),
            {},
        )
    ((dtype, shape),) = inputs
    if dtype != "float32" or tuple(shape[1:]) != params.sample:
        return (
            0.0,
            f"input {shown}",
            f"The input must be float32 [batch, {', '.join(map(str, params.sample))}].",
            {},
        )
    if isinstance(shape[0], int) and shape[0] > 0:
        return (
            0.0,
            f"input {shown}",
            f"The batch dimension is the fixed number {shape[0]}; it must be a name.",
            {},
        )
    sizes = sorted({*params.batches, _hidden_size(context, params)})
    key = context.engine("fp32", params.runtime)
    good = []
    context.say(f"trying batch sizes {', '.join(map(str, sizes))}")
    problem = ""
    images = context.draw("dynamic batch", max(sizes)).x
    wanted = context.answers(images)
    for size in sizes:
        try:
            answer = context.run(key, images[:size])
        except Rejected as error:
            problem = f"Batch {size}: {error.what} {error.cause}"
            continue
        error = agreement.error_of(answer, wanted[:size])
        if error <= params.max_error:
            good.append(size)
        else:
            problem = f"Batch {size}: " + agreement.why_wrong(answer, wanted[:size], error)
    share = 1.0 if len(good) == len(sizes) else 0.0
    measured = (
        f"{shown}; right at batch {', '.join(map(str, good)) or 'none'} of {', '.join(map(str, sizes))}"
    )
    return share, measured, problem, {"sizes": sizes, "good": good}


def _hidden_size(context: Context, params: DynamicBatch) -> int:
    """A batch size from the images' own seed: others for each student, the same for the same one."""
    digest = int(context.draw("batch size", 1).x.sum() * 1e6)
    return 2 + abs(digest) % (params.largest - 1)


def accuracy(context: Context, check: Check, params: Accuracy) -> Outcome:
    if len(context.facts["inputs"]) != 1 or len(context.facts["outputs"]) != 1:
        raise Rejected(
            "The network has one input and one output.",
            f"The file's inputs are {list(context.facts['inputs'])}"
            f", its outputs {list(context.facts['outputs'])}.",
            "Export it with one of each.",
        )
    count = params.images if context.mode == "public" else params.hidden_images
    images = context.draw(
        f"accuracy {count}", count
    )  # the same for every precision: PyTorch runs on them once
    key = context.engine(params.precision, params.runtime)
    context.say(f"{count} images through PyTorch and the {params.precision.upper()} engine")
    wanted = context.answers(images.x)
    answer = _in_batches(context, key, images.x, params.batch)
    error = agreement.error_of(answer, wanted)
    if not math.isfinite(error):
        return 0.0, "the answers cannot be compared", agreement.why_wrong(answer, wanted, error), {}
    same = int((answer.argmax(1) == wanted.argmax(1)).sum())
    ours, theirs = (float((logits.argmax(1) == images.labels).mean()) for logits in (answer, wanted))
    low, high = agreement.wilson(same, count)
    shares = {
        "agreement": params.agreement.share(same / count, low, high),
        "drop": params.drop.share(theirs - ours, *agreement.drop_interval(answer, wanted, images.labels)),
        "error": params.error.share(error),
    }
    values = {
        "agreement": same / count,
        "accuracy": ours,
        "reference_accuracy": theirs,
        "error": error,
        "images": count,
        "shares": shares,
    }
    measured = (
        f"PyTorch's class on {same} of {count} images; "
        f"accuracy {100 * ours:.1f} % (PyTorch {100 * theirs:.1f} %); "
        f"error of the logits {100 * error:.2g} %; {_engine_words(context.engines[key])}"
    )
    built = context.engines[key]
    message = ""
    if built["float16"] >= 0:
        values["float16"] = built["float16"]
        measured += f"; {100 * built['float16']:.0f} % of the layers in FP16"
        if built["float16"] < params.min_float16:
            shares["float16"] = built["float16"] / params.min_float16
            message = "Too many layers stay in FP32."
    if shares["error"] == 0:
        message = "The logits are those of another network."
    return min(shares.values()), measured, message, values


def _in_batches(context: Context, key: str, x: np.ndarray, batch: int) -> np.ndarray:
    """Answers for all images; a model with a fixed batch size gets batches of that size, the last one filled
    up.
    """
    ((_, shape),) = context.facts["inputs"].values()
    fixed = shape[0] if shape and isinstance(shape[0], int) and shape[0] > 0 else 0
    if fixed > MOST_FIXED:
        raise Rejected(
            f"The batch size is fixed at {fixed}.",
            f"At most {MOST_FIXED} images are run at once.",
            "Export with an open batch size.",
        )
    batch, answers = fixed or batch, []
    for start in range(0, len(x), batch):
        part = x[start : start + batch]
        answer = context.run(key, np.resize(part, (batch, *x.shape[1:])) if fixed else part)
        answers.append(answer[: len(part)] if answer.ndim else answer[None])
    shapes = {answer.shape[1:] for answer in answers}
    if len(shapes) > 1:
        raise Rejected(
            "The output changes its shape.", f"{sorted(shapes)[:3]} for batches of one size.", "Export again."
        )
    return np.concatenate(answers)


def speed(context: Context, check: Check, params: Speed) -> Outcome:
    key = context.engine(params.precision, params.runtime, timed=True)
    shares, words, values = [], [], {}
    for batch in params.batches:
        context.say(f"timing batch {batch}, engine and PyTorch in turns")
        result, problem = _timed(context, check, params, key, batch)
        if problem:
            return 0.0, f"batch {batch}: no time counts", problem, values
        ratio, low, high = result["ratio"], result["low"], result["high"]
        shares.append(params.ratio.share(ratio, low, high))
        interval = (
            f"95 % CI {low:.2f} to {high:.2f}" if math.isfinite(high) else "too few runs for an interval"
        )
        words.append(
            f"batch {batch}: {ratio:.2f} times ({interval}; {result['engine_ms']:.3g} against "
            f"{result['reference_ms']:.3g} ms)"
        )
        values[f"batch {batch}"] = {**result, "high": high if math.isfinite(high) else None}
    built = context.engines[key]
    clock = ", CPU time on one thread each" if built["device"] == "cpu" else ""
    return min(shares), f"{'; '.join(words)}; {_engine_words(built)}{clock}", "", values


def _timed(context: Context, check: Check, params: Speed, key: str, batch: int) -> tuple[dict, str]:
    """Times at one batch size, or why they are not believed."""
    slots = max(2, min(8, 16 // batch))
    images = context.draw(f"{check.id} batch {batch}", slots * batch).x
    wanted = context.answers(images).reshape(slots, batch, -1)
    begin = time.perf_counter()
    head, arrays = context.runner.ask(
        "time",
        [images.reshape(slots, batch, *images.shape[1:])],
        key=key,
        reference=context.milestone.reference,
        rounds=params.rounds,
        max_seconds=params.max_seconds,
        warmup_s=params.warmup_s,
        seconds=params.max_seconds * 6 + context.milestone.limits_s["run"],
    )
    wall_ms = 1e3 * (time.perf_counter() - begin)
    ours, theirs, answers, used = arrays
    calls = head["calls"]
    if not (ours.shape == theirs.shape and len(ours) and (ours > 0).all() and (theirs > 0).all()):
        raise Rejected(
            "The timing gave no times.", f"{ours.shape} and {theirs.shape} samples.", "Measure again."
        )
    if ours.sum() * calls[0] + theirs.sum() * calls[1] > 1.02 * wall_ms:  # one thread: CPU time is no longer
        raise Rejected(
            "The times do not fit the clock outside.",
            f"They add up to more than {wall_ms:.0f} ms.",
            "Measure again.",
        )
    for slot, answer in zip(used.tolist(), answers):
        error = agreement.error_of(answer, wanted[slot])
        if not error <= params.max_error:
            return {}, "An answer of a timed run is wrong. " + agreement.why_wrong(
                answer, wanted[slot], error
            )
    same = np.mean(
        [answer.argmax(1) == wanted[slot].argmax(1) for slot, answer in zip(used.tolist(), answers)]
    )
    if same < params.min_agreement:
        return {}, f"In the timed runs only {100 * same:.0f} % of the images got PyTorch's class."
    device = "cuda" if context.engines[key]["device"].startswith("cuda") else "cpu"
    ratio, low, high = ratio_interval(ours, theirs, resolution=RESOLUTION[device])
    return {
        "ratio": ratio,
        "low": low,
        "high": high,
        "engine_ms": float(np.median(ours)),
        "reference_ms": float(np.median(theirs)),
        "rounds": len(ours),
        "checked_answers": len(answers),
        "engine_samples_ms": ours.tolist(),
        "reference_samples_ms": theirs.tolist(),
    }, ""


MEASURE: dict[type, Callable[[Context, Check, Params], Outcome]] = {
    DynamicBatch: dynamic_batch,
    Accuracy: accuracy,
    Speed: speed,
}


def _engine_words(built: dict) -> str:
    name = {"onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT"}.get(built["runtime"], built["runtime"])
    return f"{name} {built['version']} on {'the CPU' if built['device'] == 'cpu' else 'the GPU'}"
