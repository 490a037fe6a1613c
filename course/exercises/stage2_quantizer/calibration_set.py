"""Lesson 05, the calibration set: what saturates, a reader that prepares images as in use, and a set that is chosen; the set
is judged by the answers of the INT8 network on surfaces that the lesson does not use."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from course.data import preprocess, surfaces
from course.exercises import Wrong, exercise, reference
from course.models.inspector import SIZE
from course.quantize import collect, paired, quantize, scales, tensors_to_calibrate

MODEL = "artifacts/inspector.onnx"
"""The float model that the lesson's first cells write."""
TESTED = range(500_000, 500_090)
"""Seeds of surfaces that the lesson does not use."""
MOST = 64
"""Images that a set may hold."""


# ---------------------------------------------------------------- 1: what saturates


@exercise(
    "set-saturated",
    points=3,
    hints=(
        "ONNX Runtime returns outputs of the graph only. How did lesson 01 look at a tensor inside?",
        "Append each tensor with helper.make_tensor_value_info(name, TensorProto.FLOAT, None) to model.graph.output, run "
        "the session for these names, and compare absolute values with the limit.",
        'values = session.run(list(limits), {"image": x}); {name: float((np.abs(value) > limits[name]).mean()) for name, '
        "value in zip(limits, values)}",
    ),
)
def saturated(saturated: Callable):
    x = _prepared(range(400_000, 400_016))
    values = _inside(x)
    limits = {name: float(np.quantile(np.abs(value), 0.9)) for name, value in values.items()}
    found = saturated(MODEL, dict(limits), x)
    if not isinstance(found, dict) or set(found) != set(limits):
        raise Wrong(
            f"saturated(...) returned {type(found).__name__}, not a share for each tensor.",
            "One number hides the layer in which it happens.",
            "A dict with the names of `limits`.",
        )
    for name, value in values.items():
        wanted, share = float((np.abs(value) > limits[name]).mean()), float(found[name])
        if abs(share - wanted) < 1e-3:
            continue
        if abs(share - float((value > limits[name]).mean())) < 1e-3:
            cause = f"{name} has negative values, too: a symmetric range ends on both sides."
        elif share > 1:
            cause = "That is a number of values, which depends on the number of images."
        elif abs(share - (1 - wanted)) < 1e-3:
            cause = "That is the share that is inside."
        else:
            cause = "A value saturates if its magnitude is above the tensor's limit, which is 127 times the scale."
        raise Wrong(
            f"Of {name}, {share:.4g} saturates by your count; it is {wanted:.4g}.",
            cause,
            "Count np.abs(value) > limit, and take the mean.",
        )
    return f"Right for {len(values)} tensors inside the network."


@reference("set-saturated")
def _saturated():
    def saturated(path, limits, x):
        return {name: float((np.abs(value) > limits[name]).mean()) for name, value in _inside(x, limits).items()}

    return saturated


def _inside(x: np.ndarray, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Values of the tensors inside the float model; all that get a pair if none is named."""
    import onnxruntime

    names = list(names) or [name for name in tensors_to_calibrate(MODEL) if name != "image"]
    model = onnx.load(MODEL)
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, {"image": x})))


# ---------------------------------------------------------------- 2: a reader


@exercise(
    "set-reader",
    points=3,
    hints=(
        "What must the numbers of a batch be, so that the network sees in calibration what it sees in use?",
        'Keep the pixels and a position. get_next returns {"image": preprocess.classifier(…, SIZE)} for the next rows and '
        "moves on; behind the last row it returns None.",
        'rows = self.pixels[self.at:self.at + self.batch]; self.at += self.batch; return {"image": '
        "preprocess.classifier(rows, SIZE)} if len(rows) else None",
    ),
)
def reader(Reader: Callable):
    pixels = np.stack([surfaces.surface(seed, SIZE).image for seed in range(410_000, 410_011)])
    made, fed = Reader(pixels.copy(), 4), []
    for _ in range(10):
        feed = made.get_next()
        if feed is None:
            break
        if not isinstance(feed, dict) or set(feed) != {"image"}:
            raise Wrong(
                f"get_next() returned {type(feed).__name__}"
                + (f" with {', '.join(map(str, feed))}." if isinstance(feed, dict) else "."),
                "A network may have several inputs, so a batch is a dict: name of the input -> array.",
                'return {"image": ...}',
            )
        fed.append(np.asarray(feed["image"]))
    else:
        raise Wrong(
            f"After 10 batches of 4, get_next() still gives more; there are {len(pixels)} images.",
            "The calibrator asks until it is told that there is nothing left.",
            "Return None behind the last image.",
        )
    if not fed:
        raise Wrong("get_next() gave no batch.", "None means the end.", "Return the first batch at the first call.")
    found, wanted = np.concatenate(fed), preprocess.classifier(pixels, SIZE)
    _judge_values(found, wanted)
    if len(found) != len(wanted) or not np.allclose(found, wanted, atol=1e-5):
        raise Wrong(
            f"{len(found)} images came, of {len(wanted)}.",
            "The last batch is smaller than the others; it counts, too."
            if len(found) < len(wanted)
            else "Some came twice, or in another order.",
            "Slice from the position, and move it by the batch size.",
        )
    return f"{len(found)} images in {len(fed)} batches, prepared as in use, then None."


def _judge_values(found: np.ndarray, wanted: np.ndarray) -> None:
    if found.ndim != 4 or found.shape[1:] != wanted.shape[1:] or found.dtype != np.float32:
        raise Wrong(
            f"A batch is {found.dtype} {list(found.shape)}.",
            f"The network's input is float32 [N, {', '.join(map(str, wanted.shape[1:]))}].",
            "Use the function that prepares images in use: preprocess.classifier(pixels, SIZE).",
        )
    if np.allclose(found[: len(wanted)], wanted[: len(found)], atol=1e-5):
        return
    if found.max() > 10:
        cause = (
            "These are grey levels from 0 to 255: neither scaled nor normalised, so every limit becomes far too large."
        )
    elif found.min() >= 0:
        cause = "It is scaled to 0 … 1 but not normalised: the calibrator never sees a negative pixel."
    else:
        cause = "It is prepared otherwise than in use."
    raise Wrong(
        f"The batch reaches from {found.min():.3g} to {found.max():.3g}; in use it is {wanted.min():.3g} to {wanted.max():.3g}.",
        cause,
        "Use the very function that prepares images in use: preprocess.classifier(pixels, SIZE).",
    )


@reference("set-reader")
def _reader():
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self, pixels, batch=32):
            self.pixels, self.batch, self.at = pixels, batch, 0

        def get_next(self):
            rows = self.pixels[self.at : self.at + self.batch]
            self.at += self.batch
            return {"image": preprocess.classifier(rows, SIZE)} if len(rows) else None

    return Reader


# ---------------------------------------------------------------- 3: a set that is chosen


@exercise(
    "set-chosen",
    points=4,
    hints=(
        "Which surfaces does the line see in use, and which of them are among the first 64?",
        "Look at `log`: each entry has a seed, a material and whether a defect was found. Take some of each kind.",
        'For each material take the first 21 entries: [entry["seed"] for material in MATERIALS for entry in [one for one '
        'in log if one["material"] == material][:21]]',
    ),
)
def chosen(chosen: Sequence[int]):
    known = {entry["seed"]: entry for entry in surfaces.production_log()}
    try:
        seeds = [int(seed) for seed in chosen]
    except (TypeError, ValueError):
        raise Wrong(
            f"`chosen` is a {type(chosen).__name__}.", "Seeds from the log were asked for.", "A list of whole numbers."
        ) from None
    if not 8 <= len(seeds) <= MOST or len(set(seeds)) != len(seeds):
        raise Wrong(
            f"You chose {len(seeds)} images, {len(set(seeds))} different ones.",
            f"The line stops for an hour of labelling and checking: {MOST} images are what there is time for.",
            f"Choose 8 to {MOST} different seeds.",
        )
    strange = [seed for seed in seeds if seed not in known]
    if strange:
        raise Wrong(
            f"Seed {strange[0]} is not in the log.",
            "Only what the line has photographed can be chosen; the numbers are seeds, not places in the list.",
            'Take entry["seed"].',
        )
    gain, quality = paired(_sqnr(seeds), _of_the_first()), _sqnr(seeds).mean()
    kinds = {known[seed]["material"] for seed in seeds}
    if gain.low <= 0:
        missing = [material for material in surfaces.MATERIALS if material not in kinds]
        raise Wrong(
            f"On {len(TESTED)} other surfaces the answers are {gain} dB from those of the first {MOST} images: the "
            "interval does not lie above 0.",
            f"No {' and no '.join(missing)} is among yours."
            if missing
            else "Each kind is there, but hardly any of some.",
            "Some of every material, in about equal parts.",
        )
    return (
        f"{len(seeds)} images of {len(kinds)} materials: {quality:.1f} dB on {len(TESTED)} other surfaces, "
        f"{gain} dB more than the first {MOST}."
    )


@reference("set-chosen")
def _chosen():
    return [
        entry["seed"]
        for material in surfaces.MATERIALS
        for entry in [one for one in surfaces.production_log() if one["material"] == material][: MOST // 3]
    ]


def _photographed(seeds: Sequence[int]) -> np.ndarray:
    """uint8 [N, S, S, 3]: the surfaces of the log that have these seeds."""
    materials = {entry["seed"]: entry["material"] for entry in surfaces.production_log()}
    return np.stack([surfaces.surface(seed, SIZE, material=materials[seed]).image for seed in seeds])


@functools.cache
def _of_the_first() -> np.ndarray:
    return _sqnr([entry["seed"] for entry in surfaces.production_log()[:MOST]])


def _sqnr(seeds: Sequence[int]) -> np.ndarray:
    """SQNR of each test surface's answers in dB, calibrated by entropy on these images of the log."""
    x, exact = _exact()
    images = preprocess.classifier(_photographed(seeds), SIZE)
    counted = collect(MODEL, images, tensors_to_calibrate(MODEL), bins=2048, batch=32)
    noise = _logits(quantize(MODEL, scales(counted, "entropy")), x) - exact
    return 10 * np.log10((exact**2).sum(1) / (noise**2).sum(1))


@functools.cache
def _exact() -> tuple[np.ndarray, np.ndarray]:
    x = _prepared(TESTED)
    return x, _logits(onnx.load(MODEL), x)


def _prepared(seeds: Sequence[int]) -> np.ndarray:
    return preprocess.classifier(np.stack([surfaces.surface(seed, SIZE).image for seed in seeds]), SIZE)


def _logits(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["logits"], {"image": x[at : at + 32]})[0] for at in range(0, len(x), 32)])
