"""The kinds of check: each measures one thing through the runner and says what it is worth.

A check function gets the context, its declaration and its parameters, and returns (share, measured, message,
values): the part of the points, the measurement in words, what to say about lost points, and the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from autograder.checks.base import Context, Outcome, engine_words, float16_share
from autograder.checks.detection import detection, dynamic_shape
from autograder.checks.speed import speed
from autograder.milestones import Accuracy, Check, Detection, DynamicBatch, DynamicShape, Params, Speed
from autograder.rejected import Rejected
from autograder.tasks import classifier

__all__ = ["MEASURE", "Context", "Outcome", "threshold"]


def threshold(params: Params) -> str:
    """What earns the points, in words."""
    if isinstance(params, DynamicBatch):
        return f"one float32 input [batch, {', '.join(map(str, params.sample))}], right at every batch size"
    if isinstance(params, Accuracy):
        same, lost = params.agreement.text(" %", 100), params.drop.text(" percentage points", 100)
        text = f"PyTorch's class: {same}; accuracy lost: {lost}; error of the logits: {params.error.text(' %', 100)}"
        return text + (
            f"; at least {100 * params.min_float16:.0f} % of the layers in FP16" if params.min_float16 else ""
        )
    if isinstance(params, DynamicShape):
        return "one float32 input [batch, 3, height, width], right for every batch, height and width that 32 divides"
    if isinstance(params, Detection):
        sizes = " and ".join(map(str, params.sizes))
        text = (
            f"at {sizes} px: mAP lost: {params.drop.text(' points', 100)}; "
            f"error of boxes and scores: {params.error.text(' %', 100)}"
        )
        return text + (
            f"; at least {100 * params.min_float16:.0f} % of the layers in FP16" if params.min_float16 else ""
        )
    return f"times as fast as PyTorch eager: {params.text()}"


def dynamic_batch(context: Context, check: Check, params: DynamicBatch) -> Outcome:
    shown = ", ".join(f"{name} {dtype} {list(shape)}" for name, (dtype, shape) in context.facts["inputs"].items())
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
            answer = _only(context.run(key, images[:size]))
        except Rejected as error:
            problem = f"Batch {size}: {error.what} {error.cause}"
            continue
        error = classifier.error_of(answer, wanted[:size])
        if error <= params.max_error:
            good.append(size)
        else:
            problem = f"Batch {size}: " + classifier.why_wrong(answer, wanted[:size], error)
    share = 1.0 if len(good) == len(sizes) else 0.0
    measured = f"{shown}; right at batch {', '.join(map(str, good)) or 'none'} of {', '.join(map(str, sizes))}"
    return share, measured, problem, {"sizes": sizes, "good": good}


def _hidden_size(context: Context, params: DynamicBatch) -> int:
    """A batch size from the images' own seed: others for each student, the same for the same one."""
    digest = int(context.draw("batch size", 1).x.sum() * 1e6)
    return 2 + abs(digest) % (params.largest - 1)


def accuracy(context: Context, check: Check, params: Accuracy) -> Outcome:
    if len(context.facts["inputs"]) != 1 or len(context.facts["outputs"]) != 1:
        raise Rejected(
            "The network has one input and one output.",
            f"The file's inputs are {list(context.facts['inputs'])}, its outputs {list(context.facts['outputs'])}.",
            "Export it with one of each.",
        )
    count = params.images if context.mode == "public" else params.hidden_images
    images = context.draw(f"accuracy {count}", count)  # the same for every precision: PyTorch runs on them once
    key = context.engine(params.precision, params.runtime)
    context.say(f"{count} images through PyTorch and the {params.precision.upper()} engine")
    wanted = context.answers(images.x)
    answer = _only(context.run_all(key, images.x, params.batch))
    error = classifier.error_of(answer, wanted)
    if not math.isfinite(error):
        return 0.0, "the answers cannot be compared", classifier.why_wrong(answer, wanted, error), {}
    same = int((answer.argmax(1) == wanted.argmax(1)).sum())
    ours, theirs = (float((logits.argmax(1) == images.labels).mean()) for logits in (answer, wanted))
    low, high = classifier.wilson(same, count)
    shares = {
        "agreement": params.agreement.share(same / count, low, high),
        "drop": params.drop.share(theirs - ours, *classifier.drop_interval(answer, wanted, images.labels)),
        "error": params.error.share(error),
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
        f"error of the logits {100 * error:.2g} %; {engine_words(context.engines[key])}"
    )
    built = context.engines[key]
    lost, words, message = float16_share(built, params.min_float16)
    measured, shares = measured + words, shares | lost
    values |= {"shares": shares} | ({"float16": built["float16"]} if words else {})
    if shares["error"] == 0:
        message = "The logits are those of another network."
    return min(shares.values()), measured, message, values


def _only(outputs: list[np.ndarray]) -> np.ndarray:
    if len(outputs) != 1:
        raise Rejected("The model does not have one output.", f"It has {len(outputs)}.", "Export it with one.")
    return outputs[0]


MEASURE: dict[type, Callable[[Context, Check, Params], Outcome]] = {
    DynamicBatch: dynamic_batch,
    Accuracy: accuracy,
    Speed: speed,
    DynamicShape: dynamic_shape,
    Detection: detection,
}
