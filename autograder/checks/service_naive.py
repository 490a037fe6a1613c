"""The services that others are compared with, made by the grader, each in a box of its own: the naive one, and on a GPU a good one
without CUDA graphs.

Both run the reference's network, on a GPU as engines that the grader built. What they do is measured once before anything that
was handed in has run: on a GPU it could leave work behind that slows others down while its own processes stand still.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from autograder.checks import service_box as box
from autograder.checks import service_plans
from autograder.checks.base import Bench, OpenHere
from autograder.tasks import answers
from course.serving.plans import ONNX, PLAN
from course.serving.repository import PROGRAMS

GPU = {"naive": "naive_gpu", "plain": "plain_gpu"}
"""Name -> folder of its program."""
CLIENT_S, WARMUP_S = 1.5, 0.3


def service(at: Bench) -> box.Service:
    """The naive one, started at the first call."""
    program = GPU["naive"] if at.lane == "gpu" else "naive"
    return at.once("naive service", lambda: box.start(at, _repository(at, program, 1), "the naive service", ours=True))


def plain(at: Bench) -> box.Service:
    """The good one without CUDA graphs, started at the first call; its engine is for as large a batch as the judged one's."""
    most = service_plans.largest(at)
    return at.once(
        "plain service",
        lambda: box.start(at, _repository(at, GPU["plain"], most), "a service without CUDA graphs", ours=True),
    )


def _repository(at: Bench, program: str, largest: int) -> Path:
    folder = Path(at.boxes.enter_context(tempfile.TemporaryDirectory(prefix="grader-naive-")))
    version = folder / box.MODEL / "1"
    version.mkdir(parents=True)
    shutil.copyfile(PROGRAMS / program / "config.pbtxt", version.parent / "config.pbtxt")
    shutil.copyfile(PROGRAMS / program / "model.py", version / "model.py")
    sample = np.zeros((2, 3, 224, 224), np.float32)
    onnx = at.once("reference's network", lambda: answers.reference_onnx(at.task.reference, sample))
    if at.lane == "gpu":
        (version / PLAN).write_bytes(service_plans.plan(at, onnx, largest))
    else:
        (version / ONNX).write_bytes(onnx)
    return folder


def before_others(at: Bench, measure: Callable[[Bench], object]) -> None:
    """On a GPU take one of the measurements below now, since nothing that was handed in has run yet. If this machine cannot,
    the check that needs it says so later.
    """
    if at.lane == "gpu":
        with contextlib.suppress(OpenHere):
            measure(at)


def capacity(at: Bench) -> tuple[float, float]:
    """What the naive one does at most, in requests/s, and its p50 at one client in ms: measured once."""
    return at.once("naive capacity", lambda: _capacity(at))


def plain_alone(at: Bench) -> float:
    """p50 of the good one without CUDA graphs at one client, in ms: measured once."""
    return at.once("plain service alone", lambda: _alone(at, plain(at), "a service without CUDA graphs"))


def _capacity(at: Bench) -> tuple[float, float]:
    naive = service(at)
    files = at.draw("naive service", 200).files
    with box.only(at, naive), at.step("measuring the naive service"):
        alone = naive.closed(files, 1, CLIENT_S, warmup=WARMUP_S, timeout=20.0)
        full = naive.closed(files, 6, 2.5, warmup=WARMUP_S, timeout=20.0)
    return full.rate, alone.p50


def _alone(at: Bench, one: box.Service, name: str) -> float:
    files = at.draw("naive service", 200).files
    with box.only(at, one), at.step(f"measuring {name}"):
        return one.closed(files, 1, CLIENT_S, warmup=WARMUP_S, timeout=20.0).p50
