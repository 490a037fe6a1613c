"""Taking what a learner handed in: plain files, without following any link, copied to where nobody else writes."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from autograder.artifacts.base import Taken
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


def is_engine(path: Path) -> bool:
    """Whether a file is a ready engine, by its name or by how it begins."""
    with open(path, "rb") as file:
        head = file.read(8)
    return path.suffix in _ENGINES or any("engine" in kind and head.startswith(magic) for magic, kind in _MAGIC)


def take(workdir: str | Path, name: str, folder: Path, max_mb: float, *, refuse: Callable[[str, bytes], None]) -> Taken:
    """Copy `workdir/name` to `folder`.

    No component of the path below `workdir` may be a link; the file must be a regular one with one name, and
    no larger than `max_mb` (10^6 bytes). `refuse(name, data)` may raise Rejected for what it finds in it.

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
                "Save it as a file at this path, and hand it in again.",
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
    refuse(name, data)
    target = folder / Path(name).name
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as file:
        file.write(data)
    return Taken(name, target, hashlib.sha256(data).hexdigest(), len(data))


def take_folder(workdir: str | Path, name: str, to: Path, max_mb: float, max_files: int = 200) -> Taken:
    """Copy the folder `workdir/name` with all that is in it to `to`.

    It may hold folders and regular files with one name each, `max_files` and `max_mb` (10^6 bytes) at most.

    Raises:
        Rejected: it is missing, is no folder, or holds anything else or more; says what and where.
    """
    target, digest = to / Path(name).name, hashlib.sha256()
    room = int(max_mb * 1e6)
    files = 0
    queue = [(name, _open(Path(workdir), name), target)]
    if not stat.S_ISDIR(os.fstat(queue[0][1]).st_mode):
        os.close(queue[0][1])
        raise Rejected(f"{name} is no folder.", "A folder is handed in here.", f"Put your files into {name}/.")
    try:
        while queue:
            shown, folder, copy = queue.pop()
            try:
                copy.mkdir()
                for entry in sorted(os.listdir(folder)):
                    place = f"{shown}/{entry}"
                    if entry in ("__pycache__", ".ipynb_checkpoints"):
                        continue
                    descriptor = _open_entry(folder, entry, place)
                    info = os.fstat(descriptor)
                    if stat.S_ISDIR(info.st_mode):
                        queue.append((place, descriptor, copy / entry))
                        continue
                    try:
                        if not stat.S_ISREG(info.st_mode) or info.st_nlink > 1:
                            kind = "a file with a second name" if stat.S_ISREG(info.st_mode) else _kind(info.st_mode)
                            raise Rejected(f"{place} is {kind}.", "Plain files are taken only.", f"Replace {place}.")
                        files += 1
                        if files > max_files:
                            raise Rejected(
                                f"{name} holds more than {max_files} files.",
                                "Far fewer are needed.",
                                "Remove the rest.",
                            )
                        data = _read(descriptor, place, room) if info.st_size else b""
                    finally:
                        os.close(descriptor)
                    room -= len(data)
                    with open(os.open(copy / entry, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as file:
                        file.write(data)
                    digest.update(f"{place}\0{len(data)}\0".encode(errors="surrogateescape") + data)
            finally:
                os.close(folder)
    except BaseException:
        for _, descriptor, _ in queue:
            os.close(descriptor)
        raise
    return Taken(name, target, digest.hexdigest(), int(max_mb * 1e6) - room)


def _open_entry(folder: int, entry: str, place: str) -> int:
    try:
        return os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
    except OSError as error:
        raise _not_opened(place, place, entry, folder, error) from error


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
        if engines and name.endswith(".onnx"):
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
            "Hand in what is asked for only; a network holds its weights once.",
        )
    if not data:
        raise Rejected(f"{name} is empty.", "It has 0 bytes.", "Run the cell that writes it to its end.")
    return data


def refuse_other_than_onnx(name: str, data: bytes) -> None:
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
