"""Taking a learner's file: one plain file, without following any link, copied to where nobody else writes."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from autograder.rejected import Rejected

_ENGINES = (".engine", ".plan", ".trt", ".ort", ".pte", ".eng")
_MAGIC = (
    (b"ptrt", "a TensorRT engine"),
    (b"ftrt", "a TensorRT engine"),
    (b"COURSENG", "a saved engine"),
    (b"PK\x03\x04", "a zip archive (as torch.save writes)"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"\x7fELF", "a program"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x02", "a pickle"),
    (b"version https://git-lfs", "a Git LFS pointer"),
)


@dataclass(frozen=True)
class Snapshot:
    """A private copy: `path`, its SHA-256 and size in bytes. `name` is the learner's path, for messages."""

    name: str
    path: Path
    sha256: str
    bytes: int


def take(workdir: str | Path, name: str, folder: Path, max_mb: float) -> Snapshot:
    """Copy `workdir/name` to `folder`.

    No component of the path below `workdir` may be a link; the file must be a regular one with one name, and
    no larger than `max_mb` (10^6 bytes).

    Raises:
        Rejected: it is not; says what was found and what to do.
    """
    descriptor = _open(Path(workdir), name)
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise Rejected(
                f"{name} is {_kind(info.st_mode)}.",
                "Only a plain file is opened.",
                "Save the model to this path, and hand it in again.",
            )
        if info.st_nlink > 1:
            raise Rejected(
                f"{name} has {info.st_nlink} names (hard links).",
                "A second name may belong to a file that is not yours.",
                f"Make a copy: cp {name} copy && mv copy {name}",
            )
        data = _read(descriptor, name, int(max_mb * 1e6))
    finally:
        os.close(descriptor)
    _refuse_other_formats(name, data)
    target = folder / Path(name).name
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as file:
        file.write(data)
    return Snapshot(name, target, hashlib.sha256(data).hexdigest(), len(data))


def _open(workdir: Path, name: str) -> int:
    """Descriptor of the file, opened component by component; O_NONBLOCK so that a FIFO cannot hang us."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    parts = name.split("/")
    try:
        folder = os.open(workdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Rejected(
            f"The folder {workdir} cannot be opened.",
            error.strerror or str(error),
            "Give the folder of the notebook.",
        ) from error
    try:
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            try:
                inner = os.open(part, flags | (os.O_NONBLOCK if last else os.O_DIRECTORY), dir_fd=folder)
            except OSError as error:
                raise _not_opened(name, "/".join(parts[: index + 1]), part, folder, error) from error
            os.close(folder)
            folder = inner
    except BaseException:
        os.close(folder)
        raise
    return folder


def _not_opened(name: str, so_far: str, part: str, folder: int, error: OSError) -> Rejected:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        is_link = stat.S_ISLNK(os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode)
        return Rejected(
            f"{so_far} is {'a link' if is_link else 'no folder'}.",
            "The grader follows no links and takes plain files only.",
            f"Put the file itself at {name}.",
        )
    if error.errno == errno.ENOENT:
        stem = Path(name).stem
        engines = [
            entry for entry in _names(folder) if entry.endswith(_ENGINES) and (entry.startswith(stem) or "/" in name)
        ]
        if engines:
            return Rejected(
                f"{name} is missing, but there is {engines[0]}.",
                "A ready engine is program code, so the grader builds engines itself, from ONNX.",
                f"Hand in the ONNX file as {name}.",
            )
        return Rejected(
            f"{name} is missing.", f"There is no {so_far}.", "Run the cells that write it, then check again."
        )
    return Rejected(f"{name} cannot be opened.", error.strerror or str(error), "Save it again as a plain file.")


def _names(folder: int) -> list[str]:
    try:
        return sorted(os.listdir(folder))[:1000]
    except OSError:
        return []


def _read(descriptor: int, name: str, limit: int) -> bytes:
    """The content; never more than `limit` bytes, even if the file grows while it is read."""
    size = os.fstat(descriptor).st_size
    data = b""
    if size <= limit:
        chunks, left = [], limit + 1
        while left and (chunk := os.read(descriptor, min(left, 1 << 22))):
            chunks.append(chunk)
            left -= len(chunk)
        data = b"".join(chunks)
    if max(size, len(data)) > limit:
        raise Rejected(
            f"{name} has {max(size, len(data)) / 1e6:,.0f} MB.",
            f"At most {limit / 1e6:,.0f} MB are read for this milestone.",
            "Export the given network only, with its weights once.",
        )
    if not data:
        raise Rejected(f"{name} is empty.", "It has 0 bytes.", "Run the cell that writes it to its end.")
    return data


def _refuse_other_formats(name: str, data: bytes) -> None:
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            engine = "engine" in kind
            raise Rejected(
                f"{name} is {kind}, not an ONNX model.",
                "A ready engine is program code, so the grader builds engines itself, from ONNX."
                if engine
                else "Nothing but ONNX is opened here.",
                "Export the model with course.export.export and hand in that file.",
            )
    if data[4:8] == b"ORTM":
        raise Rejected(
            f"{name} is in ONNX Runtime's own format.",
            "The grader builds engines itself, from ONNX.",
            "Hand in the ONNX file that it was made from.",
        )


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    return next((text for test, text in kinds if test(mode)), "no plain file")
