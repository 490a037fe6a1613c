"""The checks of a detector's file: open dimensions, and what it finds at several sizes."""

from __future__ import annotations

import math

import numpy as np

from autograder.checks.base import Context, Outcome, engine_words, float16_share
from autograder.milestones import Check, Detection, DynamicShape
from autograder.rejected import Rejected
from autograder.tasks import detector
from autograder.tasks.detector_mistakes import why_wrong
from course.data.metrics import mean_average_precision
from course.models.suppression import nms

AXES = ("batch size", "channels", "height", "width")


def dynamic_shape(context: Context, check: Check, params: DynamicShape) -> Outcome:
    """Right at every shape, or no points: a file that works at some is not open."""
    shown = ", ".join(f"{name} {dtype} {list(shape)}" for name, (dtype, shape) in context.facts["inputs"].items())
    measured = f"input {shown or 'none'}"
    if problem := _interface(context):
        return 0.0, measured, problem, {}
    detector.form_of(context.facts)
    shapes = [*params.shapes, _hidden_shape(context, params)]
    key = context.engine("fp32", params.runtime)
    words = ["x".join(map(str, shape)) for shape in shapes]
    context.say(f"trying batch x height x width {', '.join(words)}")
    good, problem = [], ""
    for (batch, height, width), word in zip(shapes, words):
        x = context.draw("dynamic shape", batch, (height, width)).x
        try:
            answer = detector.read(context.run(key, x), batch, (height, width))
        except Rejected as error:
            problem = f"Shape {word}: {error.what} {error.cause}"
            continue
        wanted = context.answers(x)
        if detector.error_of(answer, wanted).worst <= params.max_error:
            good.append(word)
        else:
            problem = f"Shape {word}: {_why(context, answer, wanted, x)}"
    measured += f"; right at {', '.join(good) or 'none'} of {', '.join(words)}"
    return float(len(good) == len(shapes)), measured, problem, {"shapes": shapes, "good": good}


def _interface(context: Context) -> str:
    """What is wrong with the declared input; "" if nothing is."""
    inputs = list(context.facts["inputs"].values())
    if len(inputs) != 1:
        return f"The network has one input, the file {len(inputs)}."
    ((dtype, shape),) = inputs
    if dtype != "float32" or len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
        return "The input must be float32 [batch, 3, height, width]."
    fixed = [axis for axis in (0, 2, 3) if isinstance(shape[axis], int) and shape[axis] > 0]
    if fixed:
        numbers = " and ".join(f"the {AXES[axis]} the fixed number {shape[axis]}" for axis in fixed)
        return f"In the file {'is' if len(fixed) == 1 else 'are'} {numbers}; each must be a name."
    return ""


def _hidden_shape(context: Context, params: DynamicShape) -> tuple[int, int, int]:
    """A shape from the images' own seed, never square: others for each student, the same for the same one."""
    side = params.lowest
    digest = int(context.draw("shape", 1, (side, side)).x.sum() * 1e6)
    rng = np.random.default_rng(abs(digest))
    sides = range(params.lowest, params.highest + 1, params.step)
    height, width = rng.choice(sides, 2, replace=False).tolist()
    return int(rng.integers(2, params.largest + 1)), height, width


def detection(context: Context, check: Check, params: Detection) -> Outcome:
    """The reference's boxes and scores, and its mAP, at every size."""
    if len(context.facts["inputs"]) != 1:
        raise Rejected(
            "The network has one input.",
            f"The file's inputs are {list(context.facts['inputs'])}.",
            "Export it with one.",
        )
    detector.form_of(context.facts)
    key = context.engine(params.precision, params.runtime)
    shares, values, words, message = {}, {}, [], ""
    for size in params.sizes:
        found, text, problem = _at_size(context, params, key, size)
        shares |= {f"{name} at {size} px": share for name, share in found.pop("shares").items()}
        values[f"{size} px"] = found
        words.append(text)
        message = message or problem
        if problem:
            break
    built = context.engines[key]
    lost, more, too_few = float16_share(built, params.min_float16)
    shares |= lost
    values |= {"shares": shares} | ({"float16": built["float16"]} if more else {})
    return min(shares.values()), f"{'; '.join(words)}; {engine_words(built)}{more}", message or too_few, values


def _at_size(context: Context, params: Detection, key: str, size: int) -> tuple[dict, str, str]:
    """Numbers with their shares, the measurement in words, and why the answers are another network's, or ""."""
    count = params.scenes if context.mode == "public" else params.hidden_scenes
    scenes = context.draw(f"accuracy {count}", count, size)  # the same for every precision
    with context.step(f"{count} scenes of {size} px through PyTorch and the {params.precision.upper()} engine"):
        wanted = context.answers(scenes.x)
        answer = detector.read(context.run_all(key, scenes.x, params.batch), count, (size, size))
    error = detector.error_of(answer, wanted)
    values = {"error": error.worst if math.isfinite(error.worst) else None, "scenes": count}
    if not params.error.share(error.worst) > 0:
        text = f"{size} px: {error}" if answer.finite else f"{size} px: the answers cannot be compared"
        return values | {"shares": {"error": 0.0}}, text, _why(context, answer, wanted, scenes.x)
    ours, theirs = nms(answer.boxes, answer.scores), nms(wanted.boxes, wanted.scores)
    score, full = (mean_average_precision(found, scenes.scenes).map50_95 for found in (ours, theirs))
    if not full >= params.least_map:
        raise RuntimeError(f"The reference's own mAP at {size} px is {full:.3f}, so nothing could be lost.")
    drop = full - score
    share = params.drop.share(drop)
    if share < 1:
        half = detector.noise_of_drop(ours, theirs, scenes.scenes)
        share = params.drop.share(drop, drop - half, drop + half)
    values |= {
        "map": score,
        "reference_map": full,
        "shares": {"drop": share, "error": params.error.share(error.worst)},
    }
    text = f"{size} px: mAP {100 * score:.2f} (PyTorch {100 * full:.2f}) on {count} scenes, error of {error}"
    return values, text, ""


def _why(context: Context, answer: detector.Answer, wanted: detector.Answer, x: np.ndarray) -> str:
    return why_wrong(answer, wanted, x, context.answers, (context.facts["elements"], context.weights()))
