"""Files that are whole or not there: atomic writes, and shipped assets checked against their hashes."""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import json
import os
import tempfile
import time
from pathlib import Path

from course.errors import CourseError, DamagedFileError, MissingFileError
from course.paths import ASSETS


def atomic_write(path: str | Path, data: bytes) -> Path:
    """Write `data` to `path` so that a reader sees the old file or the whole new one, never a part.

    A process that is killed while it writes leaves a hidden file beside it, which goes when the file is written an hour
    later or more.

    Raises:
        CourseError: the folder cannot be written or the disk is full; no partial file is left.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = file.name
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # NamedTemporaryFile makes 0600, which hides the file from others
        os.replace(temporary, path)
        _sweep(path)
    except OSError as error:
        raise CourseError(
            f"{path} could not be written ({len(data) / 1e6:.1f} MB).",
            error.strerror or str(error),
            f"Check the free space and the permissions of {path.parent}, then try again.",
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
    return path


def _sweep(path: Path, seconds: float = 3600.0) -> None:
    """Remove what killed writers of `path` left. Nobody writes for so long."""
    for name in glob.glob(f".{glob.escape(path.name)}.????????", root_dir=path.parent):
        left = path.parent / name
        with contextlib.suppress(OSError):  # another process sweeps as well, or it is not ours
            if time.time() - left.stat().st_mtime > seconds:
                left.unlink()


def sha256(path: str | Path) -> str:
    """Hex SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


@functools.cache
def require_asset(name: str, folder: Path = ASSETS) -> Path:
    """Path of a shipped file, after its SHA-256 was compared with `manifest.json` (once per process).

    Raises:
        MissingFileError: the file or the manifest is not there.
        DamagedFileError: the content differs from what was shipped.
    """
    path, manifest = folder / name, folder / "manifest.json"
    restore = f"Run `git checkout -- course/assets/{name}` in the course folder, or clone the course again."
    if not path.is_file():
        raise MissingFileError(f"course/assets/{name} is missing.", "It ships with the course.", restore)
    if not manifest.is_file():
        raise MissingFileError(
            "course/assets/manifest.json is missing.",
            "It lists the shipped files.",
            restore.replace(name, "manifest.json"),
        )
    listed = json.loads(manifest.read_text())
    if name not in listed:
        raise MissingFileError(
            f"course/assets/{name} is not listed.",
            "manifest.json does not know this file.",
            "Name a file that the manifest lists.",
        )
    if sha256(path) != listed[name]["sha256"]:
        raise DamagedFileError(
            f"course/assets/{name} is damaged.",
            f"Its SHA-256 is not the {listed[name]['sha256'][:12]}… that was shipped.",
            restore,
        )
    return path
