"""TensorRT's own calibration, for 8.6 and 10: IInt8EntropyCalibrator2 and IInt8MinMaxCalibrator over the course's data.

    with entropy_calibrator(tensorrt, model, images, batch=64, cache="resnet50.cache") as calibrator:
        engine = build(model, BuildConfig(precision="int8", profiles=(profile,), calibrator=calibrator))

The optimal shape of the first profile must have this batch size. TensorRT 11 and TensorRT-RTX have no calibrators:
there, write the same scales as Q/DQ pairs (`calibration_from(read_cache(path))`, then `quantize`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from course.engine import graph
from course.errors import CourseError, UnsupportedError
from course.quantize.activations import Data, batches, count_batches
from course.quantize.calibration import Fingerprint, Tell, fingerprint
from course.quantize.network import Network
from course.quantize.trt_cache import ALGORITHMS, parse_cache, require_origin, write_cache

Upload = Callable[[np.ndarray], Any]
"""An array -> an object with `data_ptr()`, in the GPU's memory."""


def entropy_calibrator(
    trt,
    model,
    data: Data,
    *,
    batch: int = 8,
    cache: str | Path | None = None,
    progress: Tell | None = None,
    upload: Upload | None = None,
):
    """An `IInt8EntropyCalibrator2`: TensorRT runs the batches, counts, and chooses scales by entropy.

    Args:
        trt: the module tensorrt.
        data: as for `course.quantize.collect`; rows that do not fill a last batch are left out.
        cache: the calibration cache. If it is there, TensorRT reads it and runs no data.
        progress: called for each batch with the part that is done, 0 to 1.
        upload: puts an array into the GPU's memory; None is torch.

    Returns:
        The calibrator, a context manager: leaving the block raises what went wrong inside TensorRT's callbacks, where
        nothing may be raised, and gives memory back.

    Raises:
        UnsupportedError: this TensorRT has no calibrators.
        CourseError: the cache was made with another model, other data or another method; there is no full batch.
    """
    if not hasattr(trt, "IInt8EntropyCalibrator2"):
        raise _no_calibrators(trt)
    feeder = _Feeder(model, data, batch, ALGORITHMS["entropy"], cache, progress, upload)

    class EntropyCalibrator(_Callbacks, trt.IInt8EntropyCalibrator2):
        def __init__(self):
            trt.IInt8EntropyCalibrator2.__init__(self)
            self.feeder = feeder

    return EntropyCalibrator()


def min_max_calibrator(
    trt,
    model,
    data: Data,
    *,
    batch: int = 8,
    cache: str | Path | None = None,
    progress: Tell | None = None,
    upload: Upload | None = None,
):
    """An `IInt8MinMaxCalibrator`: scales from the largest magnitudes. All else as `entropy_calibrator`."""
    if not hasattr(trt, "IInt8MinMaxCalibrator"):
        raise _no_calibrators(trt)
    feeder = _Feeder(model, data, batch, ALGORITHMS["min-max"], cache, progress, upload)

    class MinMaxCalibrator(_Callbacks, trt.IInt8MinMaxCalibrator):
        def __init__(self):
            trt.IInt8MinMaxCalibrator.__init__(self)
            self.feeder = feeder

    return MinMaxCalibrator()


def _no_calibrators(trt) -> UnsupportedError:
    return UnsupportedError(
        f"TensorRT {trt.__version__} has no calibrators.",
        "It quantises only what Q/DQ pairs in the model say.",
        "Write the scales into the model: course.quantize.ptq(model, data), or "
        "quantize(model, calibration_from(read_cache(path))) for those of an older TensorRT.",
    )


class _Callbacks:
    """The methods that TensorRT calls, and the block around a build. `feeder` does the work."""

    feeder: _Feeder

    def get_batch_size(self) -> int:
        return self.feeder.batch

    def get_batch(self, names: Sequence[str]) -> list[int] | None:
        return self.feeder.next(names)

    def read_calibration_cache(self) -> bytes | None:
        return self.feeder.read()

    def write_calibration_cache(self, cache) -> None:
        self.feeder.write(bytes(cache))

    def __enter__(self):
        return self

    def __exit__(self, kind, *_) -> None:
        self.feeder.close(kind is None)


class _Feeder:
    """What both calibrators do: hand over batches, keep the cache, remember errors."""

    def __init__(
        self,
        model,
        data: Data,
        batch: int,
        method: str,
        cache: str | Path | None,
        progress: Tell | None,
        upload: Upload | None,
    ):
        inputs = Network(graph.read(model).proto).inputs
        if not isinstance(data, Sequence) and count_batches(data, batch) is None:
            data = list(data)  # a generator would be used up by the fingerprint
        self.batch, self.cache, self.progress = batch, None if cache is None else Path(cache), progress
        self.upload = upload or _to_torch
        self.origin: Fingerprint = fingerprint(model, data, method, batch)
        self.total = sum(len(next(iter(feed.values()))) == batch for feed in batches(data, inputs, batch))
        if not self.total:
            raise CourseError(
                f"The calibration data does not fill a batch of {batch}.",
                "TensorRT reads whole batches of the profile's optimal shape.",
                "Give more rows, or a smaller batch (and profile).",
            )
        if self.cache is not None and self.cache.is_file():
            require_origin(self.cache, self.origin)
            parse_cache(self.cache.read_text(), str(self.cache))
        self.feeds: Iterator[dict[str, np.ndarray]] = batches(data, inputs, batch)
        self.done, self.error, self.held = 0, None, []

    def next(self, names: Sequence[str]) -> list[int] | None:
        """Addresses of the next batch, in the order of `names`; None at the end, or when something went wrong."""
        try:
            if self.error is not None:
                return None
            feed = next((feed for feed in self.feeds if len(next(iter(feed.values()))) == self.batch), None)
            if feed is None:
                self.held = []
                return None
            self.held = [self.upload(np.ascontiguousarray(feed[name])) for name in names]  # TensorRT reads them later
            self.done += 1
            if self.progress is not None:
                self.progress(self.done / self.total, f"{self.done * self.batch} images")
            return [int(one.data_ptr()) for one in self.held]
        except BaseException as error:  # must not unwind through TensorRT
            self.error = error
            return None

    def read(self) -> bytes | None:
        """The cache for TensorRT, None to calibrate. Its origin was compared when the calibrator was made."""
        try:
            return self.cache.read_bytes() if self.cache is not None and self.cache.is_file() else None
        except BaseException as error:
            self.error = error
            return None

    def write(self, cache: bytes) -> None:
        """Keep what TensorRT found, unless a batch failed: then it saw only a part of the data."""
        try:
            if self.cache is not None and self.error is None:
                write_cache(self.cache, cache, self.origin)
        except BaseException as error:
            self.error = error

    def close(self, tell: bool) -> None:
        """Give memory back. `tell`: raise what went wrong, if anything did."""
        self.held = []
        if tell and self.error is not None:
            raise CourseError(
                "The calibration did not see all its data.",
                f"{type(self.error).__name__}: {self.error}",
                "The engine that was built is not to be used. Repair the cause, then build again.",
            ) from self.error


def _to_torch(array: np.ndarray):
    import torch

    return torch.tensor(array, device="cuda")
