"""TensorRT's calibration cache: the text file in which IInt8Calibrator keeps scales, and where it comes from.

    TRT-8600-EntropyCalibration2
    image: 3caa54fc

A line is a tensor and its scale (largest magnitude / 127) as the hexadecimal digits of a big-endian float32; fewer than
eight are read as if zeros led them. The file
says nothing of model or data; TensorRT uses it without asking. So a second file beside it, `<name>.from.json`, holds
a fingerprint; a cache whose fingerprint does not fit, or that has none, is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from course.errors import CourseError, DamagedFileError, MissingFileError
from course.files import atomic_write
from course.paths import RESULTS
from course.quantize.calibration import Calibration, Fingerprint

_HEADER = re.compile(r"^TRT-(?P<version>\d+)-(?P<algorithm>\w+)$")
ALGORITHMS = {"entropy": "EntropyCalibration2", "min-max": "MinMaxCalibration"}
"""Our name of a method -> TensorRT's in the first line."""


@dataclass(frozen=True)
class Cache:
    """Scales by tensor, in the file's order. version: such as "8600"; algorithm: such as "EntropyCalibration2"."""

    version: str
    algorithm: str
    scales: Mapping[str, float]

    def text(self) -> str:
        """The file's content."""
        lines = [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in self.scales.items()]
        return "\n".join([f"TRT-{self.version}-{self.algorithm}", *lines, ""])


def parse_cache(text: str, name: str = "the cache") -> Cache:
    """Read the content of a cache.

    Raises:
        DamagedFileError: a line is not as TensorRT writes it; says which.
    """
    lines = text.splitlines()
    header = _HEADER.match(lines[0].strip()) if lines else None
    if header is None:
        raise DamagedFileError(
            f"{name} is no calibration cache.",
            f"Its first line is {lines[0][:60]!r}." if lines else "It is empty.",
            "It should begin with a line such as TRT-8600-EntropyCalibration2.",
        )
    scales: dict[str, float] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        tensor, _, digits = line.rpartition(": ")
        scale = _float(digits.strip())
        if not tensor or scale is None:
            raise DamagedFileError(
                f"Line {number} of {name} is not a scale.",
                f"It is {line[:80]!r}.",
                "Delete the cache and calibrate again.",
            )
        scales[tensor] = scale
    return Cache(header["version"], header["algorithm"], scales)


def read_cache(path: str | Path, wanted: Fingerprint | None = None) -> Cache:
    """Read a cache file.

    Args:
        wanted: where it must come from; None takes any cache.

    Raises:
        MissingFileError: no such file.
        DamagedFileError: not a calibration cache.
        CourseError: `wanted` is given and the cache was made with another model, other data or another method (it is
            named), was changed since, or does not say where it comes from.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            f"{path} is not there.", "There is no such calibration cache.", "Calibrate first, or check the path."
        )
    if wanted is not None:
        require_origin(path, wanted)
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise DamagedFileError(
            f"{path} is no calibration cache.", f"It is not text ({error.reason}).", "Delete it and calibrate again."
        ) from error
    return parse_cache(text, str(path))


def write_cache(path: str | Path, cache: Cache | bytes, origin: Fingerprint | None = None) -> Path:
    """Write a cache, and `origin` into the file beside it. Bytes are those that TensorRT gave."""
    data = cache if isinstance(cache, bytes) else cache.text().encode()
    if origin is None:
        return atomic_write(path, data)
    written = atomic_write(path, data)
    stamp(path, origin)
    return written


def stamp(path: str | Path, origin: Fingerprint) -> Path:
    """Say of an existing cache where it comes from. Do it for a cache that you know."""
    content = {
        "cache": hashlib.sha256(Path(path).read_bytes()).hexdigest(),
        "model": origin.model,
        "data": origin.data,
        "method": origin.method,
    }
    return atomic_write(origin_file(path), json.dumps(content, indent=1).encode())


def origin_file(path: str | Path) -> Path:
    """The file that says where a cache comes from."""
    return Path(f"{path}.from.json")


def require_origin(path: str | Path, wanted: Fingerprint) -> None:
    """Compare a cache's fingerprint with what is needed.

    Raises:
        CourseError: it differs; says in what.
        DamagedFileError: the fingerprint cannot be read.
    """
    beside = origin_file(path)
    if not beside.is_file():
        raise CourseError(
            f"{path} is not used: nobody knows what it was made with.",
            f"There is no {beside.name} beside it, and TensorRT would use it for any model.",
            f"Delete {path} to calibrate anew; or, if you know it, say so with "
            "course.quantize.stamp(path, fingerprint(model, data, method)).",
        )
    try:
        content = json.loads(beside.read_bytes())
        found = Fingerprint(content["model"], content["data"], content["method"])
        digest = content["cache"]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(
            f"{beside} cannot be read.", repr(error), f"Delete it and {path}, then calibrate again."
        ) from error
    found.require(wanted, path)
    if hashlib.sha256(Path(path).read_bytes()).hexdigest() != digest:
        raise CourseError(
            f"{path} is not used: it was changed since it was written.",
            f"Its SHA-256 is not the one in {beside.name}.",
            f"Delete {path} to calibrate anew.",
        )


def recorded_cache() -> Cache:
    """What TensorRT 8.6.0 wrote on an H200 for the shipped ResNet-50: IInt8EntropyCalibrator2, 256 images of CIFAR-10.

    Its tensors have the names of torch.onnx's older exporter. (docs/results/h200/int8/implicit_b64.calibration)

    Raises:
        MissingFileError: the results are not there.
    """
    return read_cache(RESULTS / "h200" / "int8" / "implicit_b64.calibration")


def cache_from(calibration: Calibration, version: str = "8600") -> Cache:
    """A cache with our scales, for `trtexec --calib` or a calibrator. Methods that TensorRT lacks go as entropy's.

    TensorRT compares the first line with its own version and algorithm and calibrates anew if they differ.
    """
    algorithm = ALGORITHMS.get(calibration.method.split()[0], ALGORITHMS["entropy"])
    return Cache(version, algorithm, dict(calibration.scales))


def calibration_from(cache: Cache, origin: Fingerprint | None = None) -> Calibration:
    """The scales of a cache as a Calibration: `quantize(model, calibration_from(cache))` writes them as Q/DQ pairs.

    That is the way of an 8.6 or 10 calibration to TensorRT 11, which takes no calibrators. Tensors keep their ONNX
    names in the cache; scales of TensorRT's own tensors are left out.
    """
    scales = {
        name: scale
        for name, scale in cache.scales.items()
        if not name.startswith("(Unnamed Layer*") and math.isfinite(scale) and scale > 0
    }
    method = f"TRT-{cache.version}-{cache.algorithm}"
    return Calibration(scales, origin or Fingerprint("", "", method))


def _float(digits: str) -> float | None:
    if not re.fullmatch(r"[0-9a-fA-F]{1,8}", digits):
        return None
    return struct.unpack(">f", bytes.fromhex(digits.zfill(8)))[0]
