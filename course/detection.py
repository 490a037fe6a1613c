"""A detector from frame to boxes: what an engine is worth once decoding, suppression and waiting are counted."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

from course import bench
from course.data.metrics import mean_average_precision
from course.data.scenes import Scene, scene
from course.engine import BuildConfig, BuildProgress, Engine, Profile, build
from course.export import export
from course.files import atomic_write
from course.models.suppression import Detections, nms
from course.models.yolo import decode_numpy, yolo
from course.quantize import sqnr_db
from course.text import text_table

FEWEST_FOR_P99 = 100
JOINED = "detections"
"""The one output of `joined`."""


def compose(seeds: Sequence[int], size: int = 320) -> list[Scene]:
    """One scene of `size` px for each seed."""
    return [scene(seed, (size, size)) for seed in seeds]


def frames(scenes: Sequence[Scene]) -> np.ndarray:
    """Scenes of one size as the detector's input: float32 [N, 3, H, W], 0 to 1."""
    images = np.stack([scene.image for scene in scenes])
    return images.transpose(0, 3, 1, 2).astype(np.float32, order="C") / 255


def detect(engine: Engine, x: np.ndarray, profile: int = 0, score: float = 0.001) -> list[Detections]:
    """Frames to boxes: the engine, decoding where the engine does not do it, non-maximum suppression.

    Args:
        engine: of the detector; its input is "image", its output "raw", or "boxes" and "scores".
        x: float32 [N, 3, H, W]. profile: the optimisation profile for this shape. score: lowest that counts.

    Raises:
        ShapeError, DtypeError, ProfileError: the frames do not fit the engine.
    """
    outputs = engine.run({"image": x}, profile=profile)
    if JOINED in outputs:
        return nms(*halves(outputs[JOINED]), score=score)
    raw = "raw" in outputs
    boxes, scores = decode_numpy(outputs["raw"], x.shape[2:]) if raw else (outputs["boxes"], outputs["scores"])
    return nms(boxes, scores, score=score)


def mean_ap(engine: Engine, scenes: Sequence[Scene], profile: int = 0, batch: int = 8) -> float:
    """COCO's mAP (0 to 1) of an engine on scenes of one size, in batches of `batch`."""
    x = frames(scenes)
    found = [one for start in range(0, len(x), batch) for one in detect(engine, x[start : start + batch], profile)]
    return mean_average_precision(found, scenes).map50_95


def tell(what: str, every_s: float = 10.0) -> Callable[[BuildProgress | float], bool]:
    """Something to give to `build` or `measure` as `progress`: prints every `every_s` seconds how far it has come."""
    begin = said = time.perf_counter()

    def hear(news: BuildProgress | float) -> bool:
        nonlocal said
        now = time.perf_counter()
        if now - said >= every_s:
            said = now
            if isinstance(news, BuildProgress):
                stand = f"{news.phase.lower()}{f', {news.step} of {news.steps}' if news.steps else ''}"
            else:
                stand = f"{100 * news:.0f} %"
            print(f"  {now - begin:3.0f} s  {what}: {stand}", flush=True)
        return True

    return hear


@dataclass(frozen=True)
class Deployment:
    """One way to run the detector, measured from frames in the computer's memory to boxes.

    size: side of the frames, px. batch: frames at once. decode: "inside" or "outside" the engine. samples: times of
    one batch. map50_95: 0 to 1, on the same engine.
    """

    precision: str
    size: int
    batch: int
    decode: str
    samples: bench.Samples
    map50_95: float

    def wait_ms(self, frames_per_s: float) -> float:
        """How long the first frame of a batch waits until the batch is full, ms."""
        return 1000 * (self.batch - 1) / frames_per_s

    @property
    def slow_ms(self) -> float:
        """p99 of a batch, ms; the slowest one where there are too few samples to speak of a p99."""
        times = self.samples.milliseconds
        return self.samples.p99 if len(times) >= FEWEST_FOR_P99 else float(times.max())

    def total_ms(self, frames_per_s: float) -> float:
        """From the frame that waits longest to its boxes, ms: waiting and `slow_ms`."""
        return self.wait_ms(frames_per_s) + self.slow_ms


def measure(
    engines: Mapping[str, Engine],
    scenes: Mapping[int, Sequence[Scene]],
    batches: Sequence[int],
    max_seconds: float = 40.0,
    progress: Callable[[float], object] | None = None,
) -> list[Deployment]:
    """Time every engine at every size and batch, all in turns, so that a busy moment hits all of them alike.

    Args:
        engines: "inside" or "outside" (where it decodes), or with the precision before it, such as "fp16 outside",
            -> engine, whose profile number i is for the i-th size.
        scenes: size in px -> scenes to measure the mAP on and to feed, in the order of the profiles.
        max_seconds: of timing, all together. progress: called with the part of the timing that is done, 0
            to 1; with 0 after each mAP, which comes before it.
    """
    calls, ways = {}, {}
    for name, engine in engines.items():
        for profile, (size, some) in enumerate(scenes.items()):
            quality, x = mean_ap(engine, some, profile), frames(some[: max(batches)])
            if progress is not None:
                progress(0.0)
            for batch in batches:
                label = f"{name}, {size} px, batch {batch}"
                calls[label] = functools.partial(detect, engine, x[:batch], profile)
                ways[label] = (engine.precision, size, batch, name.split()[-1], quality)
    items = {label: batch for label, (_, _, batch, _, _) in ways.items()}
    compared = bench.compare_many(calls, items=items, rounds=FEWEST_FOR_P99, max_seconds=max_seconds, progress=progress)
    samples = {label: found.a for label, found in compared.items()}
    samples[next(iter(calls))] = next(iter(compared.values())).b
    return [Deployment(*way[:4], samples[label], way[4]) for label, way in ways.items()]


def table(deployments: Sequence[Deployment], frames_per_s: float) -> str:
    """The measured numbers as text; `frames_per_s` arrive from all cameras together."""
    rows = [
        (
            d.precision,
            d.size,
            d.batch,
            d.decode,
            100 * d.map50_95,
            d.samples.p50,
            d.slow_ms,
            len(d.samples.milliseconds),
            d.wait_ms(frames_per_s),
            d.total_ms(frames_per_s),
            d.samples.items_per_second,
        )
        for d in deployments
    ]
    return text_table(
        (
            "precision",
            "px",
            "batch",
            "decoded",
            "mAP %",
            "p50 ms",
            "p99 ms*",
            "samples",
            "wait ms",
            "wait + p99",
            "frames/s",
        ),
        rows,
    ) + (f"\n* the slowest of all where there are fewer than {FEWEST_FOR_P99} samples")


# ---------------------------------------------------------------- what INT8 does to its answers


def joined(path: str | Path, size: int = 320) -> onnx.ModelProto:
    """The detector with one output, as many exporters write it: "detections" [N, A, 24], boxes in pixels, then scores.

    Writes the ONNX file (batch open, `size` px) and returns it.
    """
    export(
        yolo(),
        (torch.rand(2, 3, size, size),),
        path,
        input_names=["image"],
        output_names=["boxes", "scores"],
        dynamic={"image": {0: "batch"}},
        target="8.6",
        once=True,
    )
    model = onnx.load(str(path))
    model.graph.node.append(onnx.helper.make_node("Concat", ["boxes", "scores"], [JOINED], "join", axis=2))
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(JOINED, onnx.TensorProto.FLOAT, ["batch", None, 24]))
    atomic_write(path, model.SerializeToString())
    return model


def halves(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ "detections" [N, A, 24] -> boxes [N, A, 4], scores [N, A, 20]."""
    return found[..., :4], found[..., 4:]


@dataclass(frozen=True)
class Accuracy:
    """A detector's answers on some scenes. map50_95: 0 to 1. boxes_db, scores_db: SQNR against the float model's,
    in dB. highest: the largest score anywhere."""

    name: str
    map50_95: float
    boxes_db: float
    scores_db: float
    highest: float


def answers(model, scenes: Sequence[Scene], batch: int = 8) -> np.ndarray:
    """float32 [N, A, 24]: what the file computes, by ONNX Runtime on the CPU, whatever else this machine has."""
    x, found = frames(scenes), []
    with build(model, BuildConfig(runtime="onnxruntime", profiles=(Profile.batch(model, 1, batch, batch),))) as engine:
        for start in range(0, len(x), batch):
            found.append(engine.run({"image": x[start : start + batch]})[JOINED])
    return np.concatenate(found)


def accuracy(name: str, model, exact: np.ndarray, scenes: Sequence[Scene]) -> Accuracy:
    """Run a version of `joined` on scenes. exact: `answers` of the float model on the same scenes.

    Raises: as `build`.
    """
    boxes, scores = halves(answers(model, scenes))
    right_boxes, right_scores = halves(exact)
    found = mean_average_precision(nms(boxes, scores), scenes).map50_95
    return Accuracy(name, found, sqnr_db(right_boxes, boxes), sqnr_db(right_scores, scores), float(scores.max()))


def accuracy_table(rows: Sequence[Accuracy]) -> str:
    """The rows under each other."""
    return text_table(
        ("", "mAP %", "boxes, dB", "scores, dB", "highest score"),
        [(one.name, 100 * one.map50_95, _db(one.boxes_db), _db(one.scores_db), one.highest) for one in rows],
    )


def _db(value: float) -> float | None:
    return value if math.isfinite(value) else None
