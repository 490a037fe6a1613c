"""One classifier, run in several ways: the same images for all, and time taken in turns."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from course import bench
from course.data import preprocess
from course.data.cifar10 import Images
from course.engine import Engine
from course.first.result import Speed

INPUT, OUTPUT = "images", "logits"
FEWEST_IMAGES, IMAGES_SECONDS = 64, 40.0  # a slow machine stops after so long, but not before so many images
ROUNDS, MOST_SECONDS = 20, 40.0  # a slow machine gets more time, so that about so many rounds fit


@dataclass(frozen=True)
class Runner:
    """A way to run the classifier: `run(prepare(x))` for float32 [N, 3, S, S] gives logits [N, classes]."""

    label: str
    run: Callable[[Tensor], Tensor] | None = None  # None: it can be built here, but not run
    prepare: Callable[[Tensor], Tensor] = lambda x: x
    engine: Engine | None = None
    timing_cache: bool = False  # built with kernel timings of an earlier build


def engine_runner(label: str, engine: Engine, timing_cache: bool = False) -> Runner:
    return Runner(label, lambda x: engine.run({INPUT: x})[OUTPUT], engine=engine, timing_cache=timing_cache)


def pytorch_runners(model: nn.Module, device: str, half: bool) -> list[Runner]:
    """PyTorch eager as it comes, the baseline, last; on a GPU, if `half`, also in float16: a fair rival."""
    if device == "cpu":
        return [Runner("PyTorch eager fp32", _eager(model))]
    model = copy.deepcopy(model).to(device)
    tf32 = torch.backends.cudnn.allow_tf32 and torch.cuda.get_device_capability()[0] >= 8
    baseline = Runner("PyTorch eager tf32" if tf32 else "PyTorch eager fp32", _eager(model))
    if not half:
        return [baseline]
    small = copy.deepcopy(model).half().to(memory_format=torch.channels_last)
    return [
        Runner("PyTorch eager fp16", _eager(small), lambda x: x.half().contiguous(memory_format=torch.channels_last)),
        baseline,
    ]


def _eager(model: nn.Module) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        with torch.inference_mode():
            return model(x)

    return run


def predict(
    runners: Sequence[Runner], images: Images, batch: int, device: str, tell: Callable[[float, str], None]
) -> dict[str, np.ndarray]:
    """The class that each runner gives each image: label -> int64 [N]. All get the same input.

    N is the number of images, or fewer if that takes too long.
    """
    begin = time.perf_counter()
    found: dict[str, list[np.ndarray]] = {runner.label: [] for runner in runners}
    for start in range(0, len(images), batch):
        x = _input(images.pixels[start : start + batch], device)
        for runner in runners:
            found[runner.label].append(runner.run(runner.prepare(x)).argmax(1).cpu().numpy())
        done = min(start + batch, len(images))
        tell(done / len(images), f"{done} of {len(images)} images")
        if done >= FEWEST_IMAGES and time.perf_counter() - begin > IMAGES_SECONDS:
            break
    return {label: np.concatenate(parts) for label, parts in found.items()}


def race(
    runners: Sequence[Runner],
    images: Images,
    batch: int,
    device: str,
    seconds: float,
    progress: Callable[[float], None],
) -> Speed:
    """Time all runners in turns on the same images, which are prepared and on the device already.

    The last runner is the baseline. It takes `seconds`, or up to MOST_SECONDS where too few rounds would fit.
    """
    x = _input(np.resize(images.pixels, (batch, *images.pixels.shape[1:])), device)
    *others, baseline = runners
    calls = {r.label: (lambda run=r.run, own=r.prepare(x): run(own)) for r in (baseline, *others)}
    begin = time.perf_counter()
    for call in calls.values():
        call()
    limit = min(max(seconds, ROUNDS * (time.perf_counter() - begin)), MOST_SECONDS)
    busy, own, begin = *_cpu_seconds(), time.perf_counter()
    comparisons = bench.compare_many(
        calls, items=dict.fromkeys(calls, batch), device=device, max_seconds=limit, progress=progress
    )
    busy, own = (now - before for now, before in zip(_cpu_seconds(), (busy, own)))
    machine = (time.perf_counter() - begin) * (os.cpu_count() or 1)
    return Speed(batch, comparisons, min(1.0, max(0.0, (busy - own) / machine)))


def _cpu_seconds() -> tuple[float, float]:
    """CPU time that everything on this machine, and this process, used so far."""
    times, own = psutil.cpu_times(), psutil.Process().cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # contained in user and nice
    return sum(times) - guests - idle, own.user + own.system


def _input(pixels: np.ndarray, device: str) -> Tensor:
    return torch.from_numpy(preprocess.classifier(pixels)).to(device)
