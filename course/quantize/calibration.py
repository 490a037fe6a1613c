"""Calibration: histograms of a model's activations, collected in one pass that can be interrupted, and their scales.

histograms = collect(model, images)                       # once
calibration = scales(histograms, "entropy")               # any method, seconds each
calibration = calibrate(model, images, "entropy")         # both
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from course.engine import graph
from course.errors import CourseError, DamagedFileError, MissingFileError
from course.files import atomic_write
from course.quantize.activations import BATCH, Data, batches, count_batches, feed_digest, inner_tensors
from course.quantize.arithmetic import LARGEST, parameters
from course.quantize.calibrators import Method
from course.quantize.calibrators import method as named_method
from course.quantize.histograms import BINS, PARTS, Histogram
from course.quantize.network import Network

Tell = Callable[[float, str], None]
"""Progress: (part that is done, 0 to 1; a word on it), as `with course.progress.Steps(...)("Calibrate") as tell`."""
_collected: dict[tuple, Histograms] = {}
"""What was counted of arrays, by hashes of model and data: a method more, or the check of an exercise, need not wait again."""
_MOST_COLLECTED = 4
CHECKPOINT_SECONDS = 5.0
"""How often a checkpoint is written: what a killed process loses at most."""


@dataclass(frozen=True)
class Fingerprint:
    """Where a calibration comes from: SHA-256 of the model's bytes and of the data; the method with its settings."""

    model: str
    data: str
    method: str

    def require(self, wanted: Fingerprint, path: str | Path) -> None:
        """Compare with what is needed.

        Raises:
            CourseError: names what differs: the model, the data or the method.
        """
        causes = {"model": "another model", "data": "other calibration data", "method": "another method"}
        for part, cause in causes.items():
            found, needed = getattr(self, part), getattr(wanted, part)
            if found != needed:
                raise CourseError(
                    f"{path} is not used: it was made with {cause}.",
                    f"Its {part} is {_short(found)}, needed is {_short(needed)}.",
                    f"Delete {path} to calibrate anew, or give the {part} that it was made with.",
                )


@dataclass
class Histograms:
    """Histograms of a model's activations, by tensor, in the order in which the model makes them.

    images: rows of data that were seen. seconds: that collecting took, in all runs together.
    fingerprint: method is "histograms" with the number of bins: every calibration method can follow.
    """

    tensors: dict[str, Histogram]
    fingerprint: Fingerprint
    images: int = 0
    seconds: float = 0.0

    def __getitem__(self, tensor: str) -> Histogram:
        return self.tensors[tensor]

    def copy(self) -> Histograms:
        """An independent copy."""
        return replace(self, tensors={name: one.copy() for name, one in self.tensors.items()})


@dataclass(frozen=True)
class Calibration:
    """Symmetric INT8 scales, by tensor: a value x becomes round(x / scale), clipped to -127 … 127."""

    scales: Mapping[str, float]
    fingerprint: Fingerprint
    images: int = 0
    seconds: float = field(default=0.0, compare=False)

    @property
    def method(self) -> str:
        """Name and settings of the method."""
        return self.fingerprint.method

    def amax(self, tensor: str) -> float:
        """Largest magnitude that is not clipped."""
        return self.scales[tensor] * LARGEST

    def save(self, path: str | Path) -> Path:
        """Write it as JSON."""
        content = {
            "model": self.fingerprint.model,
            "data": self.fingerprint.data,
            "method": self.method,
            "images": self.images,
            "seconds": self.seconds,
            "scales": dict(self.scales),
        }
        return atomic_write(path, json.dumps(content, indent=1).encode())

    @staticmethod
    def load(path: str | Path, wanted: Fingerprint | None = None) -> Calibration:
        """Read what `save` wrote.

        Args:
            wanted: what it must come from; see `fingerprint`.

        Raises:
            MissingFileError, DamagedFileError: no such file, or not one of `save`.
            CourseError: made with another model, other data or another method; says which.
        """
        path = Path(path)
        if not path.is_file():
            raise MissingFileError(
                f"{path} is not there.", "There is no such calibration.", "Calibrate and save it first."
            )
        try:
            content = json.loads(path.read_bytes())
            found = Calibration(
                {str(name): float(scale) for name, scale in content["scales"].items()},
                Fingerprint(content["model"], content["data"], content["method"]),
                int(content["images"]),
                float(content["seconds"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedFileError(
                f"{path} is not a calibration.", f"It cannot be read ({error!r}).", "Delete it and calibrate again."
            ) from error
        if wanted is not None:
            found.fingerprint.require(wanted, path)
        return found


def fingerprint(model, data: Data, method: str | Method, batch: int = BATCH) -> Fingerprint:
    """What a calibration of this model with this data and method carries. Reads all of the data.

    method: a Method, or the words that a file has for it, such as "entropy" or TensorRT's "EntropyCalibration2".
    """
    read = graph.read(model)
    digest = hashlib.sha256()
    for feed in batches(data, Network(read.proto).inputs, batch):
        digest.update(feed_digest(feed))
    return Fingerprint(read.sha256, digest.hexdigest(), method if isinstance(method, str) else method.name)


def collect(
    model,
    data: Data,
    tensors: Sequence[str] | None = None,
    *,
    batch: int = BATCH,
    bins: int = BINS,
    axis: int | None = None,
    progress: Tell | None = None,
    checkpoint: str | Path | None = None,
) -> Histograms:
    """Run the model on the data and count the values of its activations. Activations are not kept.

    Args:
        model: ONNX file, its bytes, or a ModelProto; float32.
        data: see `course.quantize.activations.Data`; preprocessed as in use.
        tensors: their names; None for all float32 activations.
        bins: for each sign. axis: count every channel along this axis by itself; it takes 16 bytes a bin and channel,
            so use fewer bins then.
        checkpoint: a file that holds what was counted so far. If it is there, the run goes on behind its last batch:
            the data must begin with the same batches.
        progress: called after each batch.

    Raises:
        CourseError: the checkpoint belongs to another model, other data or other settings (it is named); there is no
            data; a value is not finite; or the model does not run on the data.
        ShapeError, DtypeError: the data does not fit the model's inputs.
        DamagedFileError: the checkpoint cannot be read.
        MissingFileError, ParseError: the model cannot be read.
    """
    read = graph.read(model)
    net = Network(read.proto)
    wanted = net.activations() if tensors is None else list(dict.fromkeys(tensors))
    names = hashlib.sha256(chr(10).join(wanted).encode()).hexdigest()[:16]
    settings = f"histograms bins={bins} axis={axis} tensors={names}"
    key = None
    if isinstance(data, np.ndarray) and checkpoint is None:
        key = read.sha256, settings, batch, feed_digest({"": data})
        if key in _collected:
            return _collected[key].copy()
    run = inner_tensors(read.proto, wanted)
    state = _State(Fingerprint(read.sha256, "", settings), [], {})
    if checkpoint is not None and Path(checkpoint).is_file():
        state = _State.read(Path(checkpoint), state)
    done, total, saved = len(state.digests), count_batches(data, batch), time.monotonic()
    if total is not None and total < done:
        raise _other_data(checkpoint, f"It has seen {done} batches; the data has {total}.")
    number = 0
    try:
        for number, feed in enumerate(batches(data, net.inputs, batch), 1):
            digest = feed_digest(feed).hex()
            if number <= done:
                if state.digests[number - 1] != digest:
                    raise _other_data(checkpoint, f"Batch {number} is not the one that it has seen.")
                continue
            started = time.perf_counter()
            state.add(run(feed), digest, len(next(iter(feed.values()))), bins, axis)
            state.seconds += time.perf_counter() - started
            if checkpoint is not None and time.monotonic() - saved > CHECKPOINT_SECONDS:
                state.write(checkpoint)
                saved = time.monotonic()
            if progress is not None:
                progress(number / total if total else 0.0, f"{state.images} images")
    finally:  # after an exception or Ctrl-C, too
        if checkpoint is not None and state.whole and len(state.digests) > done:
            state.write(checkpoint)
    if number < done:
        raise _other_data(checkpoint, f"It has seen {done} batches; the data has {number}.")
    if not state.images:
        raise CourseError(
            "There is no calibration data.",
            "The data has no batch, or none with a row.",
            "Give at least some hundred typical inputs.",
        )
    data_digest = hashlib.sha256(b"".join(map(bytes.fromhex, state.digests))).hexdigest()
    found = {name: state.histograms[name] for name in wanted}
    made = Histograms(found, Fingerprint(read.sha256, data_digest, settings), state.images, state.seconds)
    if key is not None:
        while len(_collected) >= _MOST_COLLECTED:
            del _collected[next(iter(_collected))]
        _collected[key] = made.copy()
    return made


def scales(histograms: Histograms, method: str | Method = "entropy") -> Calibration:
    """Symmetric scales from histograms. `method`: a name of METHODS, or `calibrators.method(name, settings)`.

    Raises:
        CourseError: there is no such method.
    """
    chosen = _method(method)
    started = time.perf_counter()
    found = {tensor: float(parameters(chosen(one)).scale[0]) for tensor, one in histograms.tensors.items()}
    made_from = Fingerprint(histograms.fingerprint.model, histograms.fingerprint.data, chosen.name)
    return Calibration(found, made_from, histograms.images, histograms.seconds + time.perf_counter() - started)


def calibrate(
    model,
    data: Data,
    method: str | Method = "entropy",
    tensors: Sequence[str] | None = None,
    *,
    batch: int = BATCH,
    progress: Tell | None = None,
    checkpoint: str | Path | None = None,
) -> Calibration:
    """`collect`, then `scales`. Raises: as they do."""
    chosen = _method(method)  # before the long part
    return scales(collect(model, data, tensors, batch=batch, progress=progress, checkpoint=checkpoint), chosen)


def _method(method: str | Method) -> Method:
    return named_method(method) if isinstance(method, str) else method


def _short(value: str) -> str:
    return f"{value[:12]}…" if len(value) == 64 else repr(value)


def _other_data(checkpoint: str | Path | None, cause: str) -> CourseError:
    return CourseError(
        f"{checkpoint} is not used: it was made with other calibration data.",
        cause,
        f"Delete {checkpoint} to calibrate anew, or give the data that it was made with, in the same "
        "batches; more may follow.",
    )


@dataclass
class _State:
    """What was counted so far. digests: hex SHA-256 of each batch. whole: no batch was broken off in the middle."""

    fingerprint: Fingerprint
    digests: list[str]
    histograms: dict[str, Histogram]
    images: int = 0
    seconds: float = 0.0
    whole: bool = True

    def add(self, values: Mapping[str, np.ndarray], digest: str, images: int, bins: int, axis: int | None) -> None:
        self.whole = False
        for name, array in values.items():
            if name not in self.histograms:
                self.histograms[name] = Histogram(1 if axis is None else array.shape[axis], bins)
            self.histograms[name].add(array, axis, f"Tensor {name!r}")
        self.digests.append(digest)
        self.images += images
        self.whole = True

    def write(self, path: str | Path) -> None:
        head = {
            "model": self.fingerprint.model,
            "method": self.fingerprint.method,
            "digests": self.digests,
            "channels": {name: one.channels for name, one in self.histograms.items()},
            "images": self.images,
            "seconds": self.seconds,
        }
        all_of = list(self.histograms.values())
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            head=np.array(json.dumps(head)),
            **{part: np.concatenate([getattr(one, part) for one in all_of]) for part in PARTS},
        )
        atomic_write(path, buffer.getvalue())

    @staticmethod
    def read(path: Path, wanted: _State) -> _State:
        try:
            with np.load(path, allow_pickle=False) as file:
                head = json.loads(str(file["head"]))
                arrays = {part: file[part] for part in PARTS}
            found = _State(
                Fingerprint(head["model"], "", head["method"]),
                list(head["digests"]),
                {},
                int(head["images"]),
                float(head["seconds"]),
            )
            start = 0
            for name, channels in head["channels"].items():
                found.histograms[name] = one = Histogram(channels, arrays["counts"].shape[-1])
                for part in PARTS:
                    setattr(one, part, arrays[part][start : start + channels].copy())
                start += channels
        except Exception as error:  # a damaged zip raises one of many: BadZipFile, zlib.error, KeyError, …
            raise DamagedFileError(
                f"{path} is not a checkpoint of a calibration.",
                f"It cannot be read ({error!r}).",
                "Delete it and calibrate again.",
            ) from error
        found.fingerprint.require(wanted.fingerprint, path)
        return found
