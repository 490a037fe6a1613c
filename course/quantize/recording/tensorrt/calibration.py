"""Drives a calibrator as TensorRT 8.6 does: the cache first; without one, batches until there are no more; then scales.

The order of the calls is that of a record on a GPU (docs/results/h200/int8/calibrator_calls.json, tools/gpu/
calibrator_record.py): 8.6.0 asks for the cache a second time behind the batches, and writes its own only if it is still
given none; a cache of another version of TensorRT is used, one of another algorithm is not.

Errors inside a calibrator's methods do not reach the script: the bindings print them and go on with nothing, so that
an error in `get_batch` looks like the end of the data. (python/src/infer/pyInt8.cpp, v8.6.1.)
"""

from __future__ import annotations

import gc
import hashlib
import operator
import re
import struct
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from . import recording
from .calibrators import IN_CACHES, IInt8Calibrator
from .memory import MemoryProblem, read_late
from .names import CalibrationAlgoType

VERSION = "8600"
MOST_ALIKE = 16
"""So often the same batch may follow itself before the calibrator is taken for one that does not end."""
Say = Callable[[str, str], None]
"""(severity, such as "ERROR"; text) to the script's logger."""
Inputs = Mapping[str, "tuple[tuple[int, ...], np.dtype]"]
"""Input -> shape and dtype of a calibration batch."""


class Failed(Exception):
    """No scales came out; in words."""


def run(calibrator: IInt8Calibrator, onnx: bytes | None, inputs: Inputs, tensors: Sequence[str], say: Say) -> dict:
    """Calibrate. Returns what happened: "algorithm", "batches", "cache" ("read", "written", or ""), "missing" tensors.

    Raises:
        Failed: the build cannot go on.
    """
    algorithm = calibrator._algorithm  # the bindings ask a script's own get_algorithm of a plain IInt8Calibrator only
    if algorithm is None and not isinstance(algorithm := _call(calibrator, "get_algorithm"), CalibrationAlgoType):
        algorithm = CalibrationAlgoType.LEGACY_CALIBRATION  # what they make of an error
    name = IN_CACHES[algorithm]
    batch_size = _call(calibrator, "get_batch_size")
    recording.record("get_algorithm", algorithm=algorithm.name)
    recording.record("get_batch_size", size=batch_size if isinstance(batch_size, int) else None)
    done = {"algorithm": name, "batches": 0, "cache": "", "missing": []}
    given = _read_cache(calibrator)
    if (known := _known(given, name, say)) is not None:
        _read_cache(calibrator)
        say(
            "WARNING",
            "Generated calibration scales using calibration cache. Make sure that calibration cache has latest scales.",
        )
        say(
            "WARNING",
            "To regenerate calibration cache, please delete the existing one. TensorRT will generate a new calibration cache.",
        )
        return done | {"cache": "read", "missing": [tensor for tensor in tensors if tensor not in known]}
    say("INFO", "Starting Calibration.")
    batches = _batches(calibrator, inputs, say)
    if not batches:
        raise Failed(
            "Calibration failure occurred with no scaling factors detected. This could be due to no int8 calibrator or "
            "insufficient custom scales for network layers. Please see int8 sample to setup calibration correctly."
        )
    text = _scales(onnx, batches, name)
    found = _parse(text, name)
    if found is None:
        raise Failed(f"The scales that came back are no cache of {name}.")
    missing = [tensor for tensor in tensors if tensor not in found]
    done |= {"batches": len(batches), "missing": missing}
    if _read_cache(calibrator):
        return done
    say("INFO", f"Writing Calibration Cache for calibrator: TRT-{VERSION}-{name}")
    _write_cache(calibrator, text)
    return done | {"cache": "written"}


def _call(calibrator: IInt8Calibrator, method: str, *arguments: object) -> object:
    """What the method returned; None if it raised, which is printed and remembered."""
    try:
        return getattr(calibrator, method)(*arguments)
    except Exception as error:  # the bindings catch every std::exception
        words = f"{type(error).__name__}: {error}"
        print(f"[ERROR] Exception caught in {method}(): {words}", file=sys.stderr)
        recording.record("problem", where=method, words=words)
        return None


def _read_cache(calibrator: IInt8Calibrator) -> bytes:
    """What `read_calibration_cache` gives; b"" for nothing."""
    given = _call(calibrator, "read_calibration_cache")
    data = b"" if given is None else _bytes(given, "read_calibration_cache")
    recording.record("read_calibration_cache", bytes=len(data), sha256=hashlib.sha256(data).hexdigest() if data else "")
    return data


def _known(data: bytes, name: str, say: Say) -> dict[str, float] | None:
    """The scales of a cache by tensor; None if there is none that can be used."""
    if not data:
        return None
    say("INFO", f"Reading Calibration Cache for calibrator: {name}")
    found = _parse(data, name)
    if found is None:
        say("WARNING", "Calibration table does not match calibrator algorithm type.")
        recording.record("problem", where="read_calibration_cache", words=f"It is no cache of {name}.")
    return found


def _bytes(given: object, method: str) -> bytes:
    try:
        return bytes(memoryview(given))
    except TypeError as error:
        print(f"[ERROR] Exception caught in {method}(): {error}", file=sys.stderr)
        recording.record("problem", where=method, words=str(error))
        return b""


def _parse(data: bytes, name: str) -> dict[str, float] | None:
    """Scales by tensor; None if the text is of another algorithm, or no cache."""
    lines = data.decode(errors="replace").splitlines()
    if not lines or not re.fullmatch(rf"TRT-\d+-{name}", lines[0].strip()):
        return None
    found = {}
    for line in lines[1:]:
        tensor, _, digits = line.rpartition(": ")
        if tensor and re.fullmatch(r"[0-9a-fA-F]{1,8}", digits.strip()):
            (found[tensor],) = struct.unpack(">f", bytes.fromhex(digits.strip().zfill(8)))
    return found


def _batches(calibrator: IInt8Calibrator, inputs: Inputs, say: Say) -> list[dict[str, np.ndarray]]:
    """All that `get_batch` gives, read when it has returned."""
    frozen = gc.get_freeze_count() > 0
    try:
        return _read_batches(calibrator, inputs, say)
    finally:
        if not frozen:
            gc.unfreeze()


def _read_batches(calibrator: IInt8Calibrator, inputs: Inputs, say: Say) -> list[dict[str, np.ndarray]]:
    found: list[dict[str, np.ndarray]] = []
    known: dict[str, np.ndarray] = {}  # by hash: a batch that comes again takes no memory
    alike, last = 0, ""
    while True:
        given = _call(calibrator, "get_batch", list(inputs))
        addresses = _addresses(given, len(inputs))
        if addresses is None:
            recording.record("get_batch", names=list(inputs), end=True)
            return found
        del given
        batch, hashes = {}, []
        for address, (name, (shape, dtype)) in zip(addresses, inputs.items()):
            size = int(np.prod(shape)) * dtype.itemsize
            try:
                data = read_late(address, size, name)
            except MemoryProblem as problem:
                recording.record("problem", where="get_batch", words=str(problem))
                raise Failed(str(problem)) from problem
            digest = hashlib.sha256(data).hexdigest()
            hashes.append(digest)
            batch[name] = known.setdefault(digest, np.frombuffer(data, dtype).reshape(shape))
        recording.record("get_batch", names=list(inputs), end=False, sha256=hashes, **_seen(batch))
        say("INFO", f"  Calibrated batch {len(found)}.")
        found.append(batch)
        # Garbage is looked for before every reading (`memory`): among all objects for the first batch, from then on among
        # new ones, since with PyTorch loaded it takes half a second to look at all.
        gc.freeze()
        alike = alike + 1 if hashes == last else 1
        last = hashes
        if alike >= MOST_ALIKE or len(found) >= recording.most_batches:
            words = f"get_batch gave the same batch {alike} times" if alike >= MOST_ALIKE else f"{len(found)} batches"
            words = f"{words} and does not end. TensorRT would ask for ever: return None behind the last batch."
            recording.record("problem", where="get_batch", words=words)
            raise Failed(words)


def _addresses(given: object, count: int) -> list[int] | None:
    """None at the end of the data, or where the bindings could not read what was returned."""
    if given is None:
        return None
    try:
        addresses = [operator.index(one) for one in given]
    except TypeError:
        words = f"Unable to cast {type(given).__name__} to a list of addresses: return [int(address)]."
        print(f"[ERROR] Exception caught in get_batch(): {words}", file=sys.stderr)
        recording.record("problem", where="get_batch", words=words)
        return None
    if addresses and len(addresses) != count:
        words = f"get_batch returned {len(addresses)} addresses for {count} inputs."
        recording.record("problem", where="get_batch", words=words)
        raise Failed(words)
    return addresses or None


def _seen(batch: Mapping[str, np.ndarray]) -> dict[str, object]:
    """Shapes and ranges, to tell batches apart by eye."""
    with np.errstate(all="ignore"):
        return {
            "shapes": [list(array.shape) for array in batch.values()],
            "low": [float(array.min()) for array in batch.values()],
            "high": [float(array.max()) for array in batch.values()],
        }


def _scales(onnx: bytes | None, batches: list[dict[str, np.ndarray]], name: str) -> bytes:
    if recording.calibrate is None:
        raise Failed("The stand-in runs no network: set tensorrt.recording.calibrate, which computes scales.")
    if onnx is None:
        raise Failed("The stand-in calibrates networks that came through OnnxParser only.")
    try:
        return bytes(recording.calibrate(onnx, batches, name))
    except Exception as error:
        recording.record("problem", where="calibrate", words=f"{type(error).__name__}: {error}")
        raise


def _write_cache(calibrator: IInt8Calibrator, text: bytes) -> None:
    view = memoryview(text)
    recording.record("write_calibration_cache", bytes=len(text), sha256=hashlib.sha256(text).hexdigest())
    _call(calibrator, "write_calibration_cache", view)
    try:
        view.release()  # TensorRT's memory is gone, too
    except BufferError:
        pass  # a NumPy array over it is left alone
