"""The naive service that others are compared with, and what it can do: made by the grader, in a box of its own."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np

from autograder.checks import service_box as box
from autograder.checks.base import Bench
from autograder.tasks import answers
from course.serving.repository import PROGRAMS


def service(at: Bench) -> box.Service:
    """Started at the first call, with the reference's network."""
    return box.naive(at, at.once("naive repository", lambda: _repository(at)))


def _repository(at: Bench) -> Path:
    folder = Path(at.boxes.enter_context(tempfile.TemporaryDirectory(prefix="grader-naive-")))
    version = folder / box.MODEL / "1"
    version.mkdir(parents=True)
    shutil.copyfile(PROGRAMS / "naive" / "config.pbtxt", version.parent / "config.pbtxt")
    shutil.copyfile(PROGRAMS / "naive" / "model.py", version / "model.py")
    sample = np.zeros((2, 3, 224, 224), np.float32)
    (version / "model.onnx").write_bytes(answers.reference_onnx(at.task.reference, sample))
    return folder


def capacity(at: Bench) -> tuple[float, float]:
    """What it does at most, in requests/s, and its p50 at one client in ms: measured once."""
    return at.once("naive capacity", lambda: _capacity(at))


def _capacity(at: Bench) -> tuple[float, float]:
    plain = service(at)
    files = at.draw("naive service", 200).files
    with box.only(at, plain), at.step("measuring the naive service"):
        alone = plain.closed(files, 1, 1.5, warmup=0.3, timeout=20.0)
        full = plain.closed(files, 6, 2.5, warmup=0.3, timeout=20.0)
    return full.rate, alone.p50
