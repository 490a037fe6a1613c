"""A detector from frame to boxes: what an engine is worth once decoding, suppression and waiting are counted."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from course import bench
from course.data.metrics import mean_average_precision
from course.data.scenes import Scene
from course.engine import BuildProgress, Engine
from course.models.suppression import Detections, nms
from course.models.yolo import decode_numpy
from course.text import text_table

FEWEST_FOR_P99 = 100


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
