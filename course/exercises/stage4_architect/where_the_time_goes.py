"""Lesson 4.01, where the time goes: the learner's stop watch is held against stages of known length, their service is timed."""

from __future__ import annotations

import functools
import io
import itertools
import threading
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from course import bench
from course.data import cifar10, preprocess
from course.exercises import Wrong, exercise, reference
from course.export import export
from course.models import resnet50

SIDE, FRAME = 112, (1280, 960)
"""Of the network's input, and width and height of a camera's frame, in pixels."""
STAGES = {"decode": 0.012, "compute": 0.030, "postprocess": 0.006}
"""Seconds of the check's own stages."""
SLACK = 0.15  # seconds that a busy machine may add to a stage
FASTER = 2.0
"""Times that everything but the network must be as fast. The network itself is left out of the race: how large its part is
depends on the machine and on who else uses it, and nobody can change it in this exercise. A quarter of each side is enough
for 112 pixels, which is a sixteenth of the pixels to convert, so twice leaves room for what the decoder cannot leave out."""
AGREE = 0.9
"""Part of the frames on which it must name the same class: a JPEG decoded at another scale differs in single grey levels."""


# ---------------------------------------------------------------- the camera and the service


@functools.cache
def frames(count: int = 24) -> tuple[bytes, ...]:
    """JPEG files of a camera, 1280 x 960: CIFAR-10's public images, enlarged."""
    files = []
    for pixels in cifar10.images("public").pixels[:count]:
        file = io.BytesIO()
        Image.fromarray(pixels).resize(FRAME, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return tuple(files)


@functools.cache
def session():
    """ResNet-50 in ONNX Runtime, x [n, 3, 112, 112] -> logits [n, 10], two threads at most."""
    import onnxruntime

    path = "artifacts/camera.onnx"
    export(
        resnet50(),
        (torch.rand(2, 3, SIDE, SIDE),),
        path,
        input_names=["x"],
        output_names=["logits"],
        dynamic={"x": {0: "batch"}},
        target="8.6",
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def decode(file: bytes) -> np.ndarray:
    """uint8 [960, 1280, 3]."""
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


def normalise(pixels: np.ndarray) -> np.ndarray:
    """float32 [1, 3, 112, 112]: normalised at full size, then shrunk, as many scripts do."""
    mean, std = (255 * np.array(values, np.float32) for values in (preprocess.IMAGENET_MEAN, preprocess.IMAGENET_STD))
    large = torch.from_numpy((pixels.astype(np.float32) - mean) / std).permute(2, 0, 1)[None]
    return torch.nn.functional.interpolate(large, (SIDE, SIDE), mode="area").numpy()


_known: list[np.ndarray] = []
"""While the check races two services it holds logits, and the network is not run."""


def compute(x: np.ndarray) -> np.ndarray:
    """Logits, float32 [n, 10]."""
    return _known[0] if _known else session().run(None, {"x": x})[0]


def name(logits: np.ndarray) -> str:
    return cifar10.CLASSES[int(logits[0].argmax())]


def service(file: bytes) -> str:
    """The naive service: a JPEG file in, the name of a class out."""
    return name(compute(normalise(decode(file))))


# ---------------------------------------------------------------- a stop watch


class _Background:
    """A stage that only starts its work, as a launch on a GPU does; `wait` is over when the work is."""

    def __init__(self) -> None:
        self._running: list[threading.Thread] = []

    def start(self, seconds: float) -> None:
        thread = threading.Thread(target=time.sleep, args=(seconds,))
        thread.start()
        self._running.append(thread)

    def wait(self) -> None:
        while self._running:
            self._running.pop().join()


@exercise(
    "time-spans",
    points=3,
    hints=(
        "When does a stage end: when its call is back, or when its work is done?",
        "For each stage: note the time, call it with what the stage before gave, wait(), note the time again. Times from "
        "time.perf_counter() are seconds.",
        "for name, stage in stages.items(): begin = time.perf_counter(); value = stage(value); wait(); spans[name] = 1e3 * "
        "(time.perf_counter() - begin)",
    ),
)
def time_spans(taken_apart: Callable):
    background = _Background()
    waited = [False]  # on a busy machine the start alone may take long: that nobody waited is seen without a clock

    def decoded(value):
        time.sleep(STAGES["decode"])
        return [*value, "decode"]

    def started(value):
        waited.append(False)
        background.start(STAGES["compute"])
        return [*value, "compute"]

    def wait():
        waited[-1] = True
        background.wait()

    def named(value):
        waited.append(False)
        time.sleep(STAGES["postprocess"])
        return [*value, "postprocess"]

    begin = time.perf_counter()
    given = taken_apart({"decode": decoded, "compute": started, "postprocess": named}, ["file"], wait)
    whole = time.perf_counter() - begin
    background.wait()
    if not isinstance(given, tuple) or len(given) != 2 or not isinstance(given[1], dict):
        raise Wrong("taken_apart gave something else than (answer, spans).", "Both are needed.", "return value, spans")
    answer, spans = given
    if answer != ["file", *STAGES]:
        raise Wrong(
            f"The answer is {answer!r}.",
            "Each stage must be called once, in order, with what the stage before it gave.",
            "value = stage(value)",
        )
    if list(spans) != list(STAGES):
        raise Wrong(f"The spans are {list(spans)}.", f"The stages are {list(STAGES)}.", "spans[name] = ...")
    if sum(spans.values()) < 1:
        raise Wrong(
            f"All stages together took {sum(spans.values()):.3f}, and {1e3 * whole:.0f} ms went by.",
            "perf_counter gives seconds; milliseconds were asked for.",
            "Multiply by 1e3.",
        )
    if not any(waited[1:2]) or spans["compute"] < 0.5e3 * STAGES["compute"]:
        raise Wrong(
            f"compute takes {spans['compute']:.1f} ms by your watch; its work takes {1e3 * STAGES['compute']:.0f} ms.",
            "The call only starts the work, as every launch on a GPU does. Its time then lands in whatever waits next, or "
            "nowhere.",
            "Call wait() before you look at the clock.",
        )
    for stage, seconds in STAGES.items():
        if not 0.9e3 * seconds <= spans[stage] <= 1e3 * (seconds + SLACK):
            raise _wrong_span(stage, spans, seconds)
    if sum(spans.values()) > 1.02e3 * whole:
        raise _wrong_span("postprocess", spans, STAGES["postprocess"])
    return (
        f"Your stages add up to {sum(spans.values()):.0f} of {1e3 * whole:.0f} ms, and work in the background is counted "
        "where it was started."
    )


def _wrong_span(stage: str, spans: dict, seconds: float) -> Wrong:
    return Wrong(
        f"{stage} takes {spans[stage]:.1f} ms by your watch; it sleeps for {1e3 * seconds:.0f} ms.",
        "A span runs from the beginning of its own stage to its end; yours counts other stages, too, or not all of it.",
        "Take the time anew before each stage.",
    )


@reference("time-spans")
def _taken_apart():
    def taken_apart(stages, value, wait):
        spans = {}
        for stage, call in stages.items():
            begin = time.perf_counter()
            value = call(value)
            wait()
            spans[stage] = 1e3 * (time.perf_counter() - begin)
        return value, spans

    return taken_apart


# ---------------------------------------------------------------- Amdahl


@exercise(
    "time-amdahl",
    points=2,
    hints=(
        "What stays as it is when one stage gets faster, and what does not?",
        "Only the span of this stage is divided; the others are added as they are. What is asked for is old over new.",
        "total = sum(spans.values()); return total / (total - spans[stage] + spans[stage] / factor)",
    ),
)
def time_amdahl(speed_up: Callable):
    cases = [({"decode": 6.0, "compute": 2.0}, "compute", 2.0), ({"a": 1.0, "b": 3.0, "c": 4.0}, "c", 4.0)]
    cases += [({"decode": 9.0, "compute": 1.0}, "compute", float("inf")), ({"all": 5.0}, "all", 3.0)]
    for spans, stage, factor in cases:
        total = sum(spans.values())
        wanted = total / (total - spans[stage] + spans[stage] / factor)
        found = float(speed_up(dict(spans), stage, factor))
        if not np.isclose(found, wanted):
            if np.isclose(found, factor):
                cause = (
                    "The stage gets that much faster, the request does not: the other stages take as long as before."
                )
            elif np.isclose(found, 1 / wanted):
                cause = "That is new over old; how many times as fast is old over new."
            elif np.isclose(found, total / wanted):
                cause = "Those are the milliseconds afterwards."
            else:
                cause = "The new total is that of the other stages, and this stage's part divided by the factor."
            raise Wrong(
                f"With {spans}, {stage} {factor:g} times as fast makes the request {wanted:.3f} times as fast; you say {found:.3f}.",
                cause,
                "Old total over new total.",
            )
    return f"Right for {len(cases)} requests, among them one whose stage takes no time at all any more."


@reference("time-amdahl")
def _speed_up():
    def speed_up(spans, stage, factor):
        total = sum(spans.values())
        return total / (total - spans[stage] + spans[stage] / factor)

    return speed_up


# ---------------------------------------------------------------- faster


@exercise(
    "time-faster",
    points=4,
    hints=(
        "The network sees 112 x 112 pixels. How many does your service decode, convert and normalise for that?",
        "A JPEG can be decoded at a half, a quarter or an eighth of its size: image.draft('RGB', size) before convert. Then "
        "shrink, and normalise last.",
        "image = Image.open(io.BytesIO(file)); image.draft('RGB', (224, 224)); pixels = np.asarray(image.convert('RGB')); "
        "return name(compute(normalise(pixels)))",
    ),
)
def time_faster(fast: Callable):
    files = frames()
    given, wanted = [fast(file) for file in files], [service(file) for file in files]
    same = sum(a == b for a, b in zip(given, wanted))
    if same < AGREE * len(files):
        raise Wrong(
            f"On {len(files) - same} of {len(files)} frames it names another class than the service.",
            "Faster does not count if the answers change: look at colours, scale and normalisation.",
            "Compare the network's input with that of normalise(decode(file)).",
        )
    places = itertools.count()
    turns = [lambda call=call: call(files[next(places) % len(files)]) for call in (fast, service)]
    _known.append(compute(normalise(decode(files[0]))))
    try:
        compared = bench.compare(*turns, labels=("fast", "service"), rounds=40, max_seconds=6)
    finally:
        _known.clear()
    if compared.ratio < FASTER:
        raise Wrong(
            f"Without the network it is {compared.ratio:.2f} times as fast; {FASTER} was asked for.",
            "Look at the longest bars of your timeline. Threads or a larger batch do not help a single request here.",
            "Decode fewer pixels, shrink before you convert to float.",
            share=max(0.0, min(0.5, 0.5 * (compared.ratio - 1) / (FASTER - 1))),
        )
    return f"Without the network: {compared}. {same} of {len(files)} answers are the same."


@reference("time-faster")
def _fast():
    def fast(file):
        image = Image.open(io.BytesIO(file))
        image.draft("RGB", (224, 224))
        return name(compute(normalise(np.asarray(image.convert("RGB")))))

    return fast
