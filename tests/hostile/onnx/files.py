"""Things that are no plain ONNX file at the artifact's path. Each function gets the folder of a submission,
which holds `artifacts/`, and leaves something at artifacts/resnet50.onnx (or not)."""

from __future__ import annotations

import gzip
import os
import pickle
import socket
import zipfile
from pathlib import Path

from tests.measuring import tiny

NAME = "artifacts/resnet50.onnx"


def blank(folder: Path) -> None:
    """An untouched release."""


def empty(folder: Path) -> None:
    (folder / NAME).touch()


def symlink_to_reference(folder: Path) -> None:
    """A link to somebody's good file."""
    (folder / "elsewhere.onnx").write_bytes(tiny.export())
    (folder / NAME).symlink_to(folder / "elsewhere.onnx")


def symlinked_folder(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "real" / "resnet50.onnx").write_bytes(tiny.export())
    (folder / "artifacts").rmdir()
    (folder / "artifacts").symlink_to("real")


def hardlink_to_reference(folder: Path) -> None:
    (folder / "elsewhere.onnx").write_bytes(tiny.export())
    os.link(folder / "elsewhere.onnx", folder / NAME)


def link_to_endless_device(folder: Path) -> None:
    (folder / NAME).symlink_to("/dev/zero")


def device(folder: Path) -> None:
    """A device file itself, where the user may make one; else a link to one."""
    try:
        os.mknod(folder / NAME, 0o666 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        (folder / NAME).symlink_to("/dev/full")


def pipe(folder: Path) -> None:
    """A FIFO without a writer: opening it would wait for ever."""
    os.mkfifo(folder / NAME)


def unix_socket(folder: Path) -> None:
    here = os.getcwd()
    os.chdir(folder / "artifacts")  # a socket's path has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("resnet50.onnx")
    finally:
        os.chdir(here)


def folder_instead(folder: Path) -> None:
    (folder / NAME).mkdir()


def file_instead_of_folder(folder: Path) -> None:
    (folder / "artifacts").rmdir()
    (folder / "artifacts").write_bytes(tiny.export())


def engine_only(folder: Path) -> None:
    (folder / "artifacts" / "resnet50.engine").write_bytes(b"ptrt" + bytes(1000))


def engine_named_onnx(folder: Path) -> None:
    """A ready engine of another model, under the right name."""
    (folder / NAME).write_bytes(b"ftrt" + bytes(1000))


def torch_file(folder: Path) -> None:
    with zipfile.ZipFile(folder / NAME, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))


def bare_pickle(folder: Path) -> None:
    """It would write a file if anybody loaded it."""

    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {folder}/PWNED",)

    (folder / NAME).write_bytes(pickle.dumps(Bomb(), protocol=4))


def zip_bomb(folder: Path) -> None:
    """100 MB of zeros in 100 kB."""
    (folder / NAME).write_bytes(gzip.compress(bytes(100_000_000), 9))


def sparse_giant(folder: Path) -> None:
    """A file of 1 TB that takes no space."""
    with open(folder / NAME, "wb") as file:
        file.truncate(1 << 40)
