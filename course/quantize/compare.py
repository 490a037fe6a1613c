"""The table of precisions: size of the file and of the plan, accuracy, agreement. Speed belongs to course.bench."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from course.data.metrics import top1
from course.engine import BuildConfig, Engine, Profile, build, graph
from course.errors import CourseError, ShapeError
from course.quantize.activations import Data, batches
from course.quantize.arithmetic import sqnr_db
from course.text import text_table


@dataclass(frozen=True)
class PrecisionRow:
    """One line. top1: share (0 to 1) of rows whose class is right; agreement: whose class is the first engine's.

    onnx_bytes: of the ONNX file, None if it was not given. plan_bytes: of the engine. runtime: where it ran.
    """

    name: str
    runtime: str
    top1: float
    agreement: float
    plan_bytes: int
    onnx_bytes: int | None = None


def logits(engine: Engine, data: Data, batch: int = 8) -> np.ndarray:
    """float32 [N, C]: the engine's first output for all rows of `data`, batch by batch.

    Raises:
        CourseError: there is no data; else as `Engine.run`.
    """
    found = [
        np.asarray(engine.run(feed)[engine.outputs[0].name])
        for feed in batches(data, [spec.name for spec in engine.inputs], batch)
    ]
    if not found:
        raise CourseError("There is nothing to run.", "The data has no batch.", "Give at least one input.")
    return np.concatenate(found)


def precision_table(
    engines: Mapping[str, Engine], data: Data, labels: np.ndarray, models: Mapping[str, object] = {}, *, batch: int = 8
) -> tuple[PrecisionRow, ...]:
    """Accuracy and size of a classifier's engines, such as FP32, FP16 and INT8; agreement is with the first one.

    Args:
        engines: name -> engine.
        data: test images, none of which was used for calibration. labels: int64 [N].
        models: name -> the ONNX file, bytes or ModelProto that an engine came from, for its size.

    Raises:
        ShapeError: logits and labels do not fit.
        CourseError: there is no engine, or no data.
    """
    if not engines:
        raise CourseError("There is nothing to compare.", "No engine was given.", "Give at least one: name -> engine.")
    data = data if isinstance(data, (np.ndarray, Mapping, Sequence)) else list(data)
    rows, first = [], None
    for name, engine in engines.items():
        answers = logits(engine, data, batch)
        first = answers.argmax(1) if first is None else first
        size = len(graph.read(models[name]).data) if name in models else None
        agreement = float((answers.argmax(1) == first).mean())
        rows.append(
            PrecisionRow(name, engine.runtime, top1(answers, labels), agreement, engine.memory().plan_bytes, size)
        )
    return tuple(rows)


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences and its 95 % interval, in the unit of the values."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.1f} ({self.low:+.1f} to {self.high:+.1f})"


def paired(found: np.ndarray, base: np.ndarray, rounds: int = 2000) -> Difference:
    """How much more `found` is than `base`, image by image.

    Both were measured on the same images, so what one image makes easy or hard for both drops out, and the interval is
    narrower than that of either alone. The interval is the percentile bootstrap's (Efron and Tibshirani 1993, chapter
    13): `rounds` samples of the images with replacement, from a fixed seed.

    Args:
        found, base: [N], one value for each image; SQNR in dB, or whether the class is right.

    Raises:
        ShapeError: they differ in length, or are empty.
    """
    found, base = np.asarray(found, np.float64), np.asarray(base, np.float64)
    if found.shape != base.shape or found.ndim != 1 or not len(found):
        raise ShapeError(
            "These measurements cannot be compared image by image.",
            f"Their shapes are {found.shape} and {base.shape}.",
            "Give one value for each image, for the same images in the same order.",
        )
    difference = found - base
    drawn = np.random.default_rng(0).integers(0, len(difference), (rounds, len(difference)))
    low, high = np.percentile(difference[drawn].mean(1), (2.5, 97.5))
    return Difference(float(difference.mean()), float(low), float(high))


@dataclass(frozen=True)
class FileRow:
    """What a classifier's ONNX file computes. top1: 0 to 1. sqnr_db: of its logits against the first file's, None for
    that one. onnx_bytes: of the file."""

    name: str
    top1: float
    sqnr_db: float | None
    onnx_bytes: int


def file_rows(models: Mapping[str, object], data: np.ndarray, labels: np.ndarray, batch: int = 32) -> list[FileRow]:
    """Accuracy of files, computed by ONNX Runtime on the CPU, whatever else this machine has.

    Args:
        models: name -> ONNX file, bytes or ModelProto; the first is what the others are compared with.
        data: float32 [N, C, H, W], images that no calibration saw. labels: int64 [N].

    Raises: as `course.engine.build`; ShapeError if logits and labels do not fit.
    """
    rows, exact = [], None
    for name, model in models.items():
        read = graph.read(model)
        found = _logits_of(read, data, batch)
        rows.append(
            FileRow(name, top1(found, labels), None if exact is None else sqnr_db(exact, found), len(read.data))
        )
        exact = found if exact is None else exact
    return rows


_computed: dict[tuple[str, str], np.ndarray] = {}
"""Logits by the hashes of file and data: the float file that all others are compared with is run once."""
_MOST_COMPUTED = 8


def _logits_of(read: graph.Model, data: np.ndarray, batch: int) -> np.ndarray:
    key = read.sha256, hashlib.sha256(np.ascontiguousarray(data).tobytes()).hexdigest()
    if key not in _computed:
        profile = Profile.batch(read.data, 1, batch, batch)
        with build(read.data, BuildConfig(runtime="onnxruntime", profiles=(profile,))) as engine:
            found = logits(engine, data, batch)
        while len(_computed) >= _MOST_COMPUTED:
            del _computed[next(iter(_computed))]
        _computed[key] = found
    return _computed[key]


def file_table(rows: Sequence[FileRow]) -> str:
    """The rows under each other."""
    return text_table(
        ("", "top-1 %", "logits, dB", "ONNX file, MB"),
        [(row.name, 100 * row.top1, row.sqnr_db, row.onnx_bytes / 1e6) for row in rows],
    )
