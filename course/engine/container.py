"""The file of a saved engine: what it is and where it may run, then the engine itself.

8 bytes   magic
4 bytes   length of the header, little-endian
32 bytes  SHA-256 of the header
header    JSON, see `Header`
payload   what the runtime reads: a TensorRT plan, or ONNX for ONNX Runtime
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from course.engine.profiles import Profile
from course.engine.types import TensorSpec
from course.errors import DamagedFileError, EngineMismatchError, MissingFileError
from course.files import atomic_write

MAGIC = b"COURSENG"
FORMAT = 1
_PREFIX = struct.Struct("<8sI32s")
_REBUILD = "Build it again from the ONNX model with course.engine.build(), then save it."


@dataclass(frozen=True)
class Header:
    """What an engine says about itself. `gpu` and `compute_capability` are None where no GPU is involved."""

    runtime: str
    runtime_version: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profiles: tuple[Profile, ...]
    onnx_sha256: str
    build_seconds: float
    weights_bytes: int | None = None
    gpu: str | None = None
    compute_capability: str | None = None


def write(path: str | Path, header: Header, payload: bytes) -> Path:
    """Write an engine file, whole or not at all.

    Raises:
        CourseError: the folder cannot be written or the disk is full.
    """
    from course import __version__

    text = json.dumps(
        {
            "format": FORMAT,
            "course": __version__,
            **asdict(header),
            "inputs": [_spec_to_json(spec) for spec in header.inputs],
            "outputs": [_spec_to_json(spec) for spec in header.outputs],
            "profiles": [dict(profile.shapes) for profile in header.profiles],
            "payload_bytes": len(payload),
            "payload_sha256": hashlib.sha256(payload).hexdigest(),
        },
        indent=1,
    ).encode()
    prefix = _PREFIX.pack(MAGIC, len(text), hashlib.sha256(text).digest())
    return atomic_write(path, prefix + text + payload)


def read(path: str | Path) -> tuple[Header, bytes]:
    """Read and check an engine file.

    Raises:
        MissingFileError, DamagedFileError: no such file, another kind of file, or a part of one.
        EngineMismatchError: written by a newer course.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path} is not there.", "There is no such file.", _REBUILD)
    data = path.read_bytes()
    if not data.startswith(MAGIC):
        raise DamagedFileError(f"{path} is not an engine file of this course.", _what_it_looks_like(data), _REBUILD)
    if len(data) < _PREFIX.size:
        raise _cut_short(path, len(data))
    _, length, digest = _PREFIX.unpack_from(data)
    text, payload = data[_PREFIX.size : _PREFIX.size + length], data[_PREFIX.size + length :]
    if len(text) < length:
        raise _cut_short(path, len(data))
    if hashlib.sha256(text).digest() != digest:
        raise DamagedFileError(f"{path} is damaged.", "Its description does not match its checksum.", _REBUILD)
    fields = json.loads(text)
    if fields["format"] != FORMAT:
        raise EngineMismatchError(
            f"{path} has file format {fields['format']}.",
            f"This course reads format {FORMAT}; course {fields['course']} wrote it.",
            _REBUILD,
        )
    if len(payload) < fields["payload_bytes"]:
        raise _cut_short(path, len(data))
    if hashlib.sha256(payload).hexdigest() != fields["payload_sha256"]:
        raise DamagedFileError(f"{path} is damaged.", "The engine in it does not match its checksum.", _REBUILD)
    fields["inputs"] = tuple(_spec_from_json(spec) for spec in fields["inputs"])
    fields["outputs"] = tuple(_spec_from_json(spec) for spec in fields["outputs"])
    fields["profiles"] = tuple(Profile(shapes) for shapes in fields["profiles"])
    return Header(**{name: fields[name] for name in Header.__dataclass_fields__}), payload


def require_same_model(path: str | Path, header: Header, model) -> None:
    """Compare the hash of the ONNX model that the engine was built from.

    Raises:
        EngineMismatchError: another model.
    """
    if header.onnx_sha256 != model.sha256:
        raise EngineMismatchError(
            f"{path} was built from another model than {model.name}.",
            f"The SHA-256 of its ONNX is {header.onnx_sha256[:12]}…, the other's is {model.sha256[:12]}….",
            _REBUILD,
        )


def require_same_machine(path: str | Path, header: Header, version: str, capability: str, gpu: str) -> None:
    """Compare the TensorRT version and the GPU architecture of an engine with those here.

    Raises:
        EngineMismatchError: names each difference.
    """
    differences = []
    if header.runtime_version != version:
        differences.append(f"it was built with TensorRT {header.runtime_version}, here is {version}")
    if header.compute_capability != capability:
        differences.append(
            f"it was built for compute capability {header.compute_capability} ({header.gpu}), "
            f"here is {capability} ({gpu})"
        )
    if differences:
        text = "; ".join(differences)
        raise EngineMismatchError(f"{path} cannot run on this machine.", f"{text[0].upper()}{text[1:]}.", _REBUILD)


def _spec_to_json(spec: TensorSpec) -> dict:
    return {"name": spec.name, "dtype": str(spec.dtype), "shape": list(spec.shape), "dims": list(spec.dims)}


def _spec_from_json(fields: dict) -> TensorSpec:
    dtype = fields["dtype"] if fields["dtype"] == "bfloat16" else np.dtype(fields["dtype"])
    return TensorSpec(fields["name"], dtype, tuple(fields["shape"]), tuple(fields["dims"]))


def _cut_short(path: Path, size: int) -> DamagedFileError:
    return DamagedFileError(
        f"{path} is cut short ({size} bytes).",
        "Its end is missing; a copy or a download was perhaps interrupted.",
        _REBUILD,
    )


def _what_it_looks_like(data: bytes) -> str:
    if not data:
        return "The file is empty."
    if data[:4] in (b"ptrt", b"ftrt", b"vtrt"):
        return "It looks like a bare TensorRT plan, which does not say what it was built from and for."
    if data[:1] == b"\x08":
        return "It looks like an ONNX model, which is what an engine is built from."
    return f"It begins with {data[:8]!r} instead of {MAGIC!r}."
