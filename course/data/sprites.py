"""Shipped image collections: one PNG with the images side by side, and a JSON file with their labels."""

from __future__ import annotations

import functools
import io
import json

import numpy as np
from PIL import Image

from course.errors import MissingFileError
from course.files import require_asset

COLUMNS = 50
SPLITS = {"calibration": slice(0, 1000), "public": slice(1000, 2000)}
"""Which images of a sprite belong to which part; no image is in both."""


def load_sprite(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a shipped sprite, all 2 000 in shipped order (`SPLITS` says which are for what).

    Args:
        name: "cifar10_public" or "fashion_public".

    Returns:
        pixels: uint8 [2000, 32, 32, 3] RGB for CIFAR-10, uint8 [2000, 28, 28] grey for Fashion-MNIST.
            Read-only.
        labels: int64 [2000]. Read-only. Both hold every class equally often in each part.

    Raises:
        MissingFileError, DamagedFileError: a file is not there or not what was shipped.
    """
    if name not in ("cifar10_public", "fashion_public"):
        raise MissingFileError(
            f"There is no sprite named {name!r}.",
            "The course ships two sprites.",
            'Use "cifar10_public" or "fashion_public".',
        )
    return _read(name)


def sprite_info(name: str) -> dict:
    """The sprite's JSON file: `classes`, `labels`, `indices` (places in the original test set), `tile` px."""
    return json.loads(require_asset(f"{name}.json").read_text())


def to_png(pixels: np.ndarray) -> bytes:
    """Lossless PNG of images uint8 [N, S, S] or [N, S, S, 3], `COLUMNS` in a row; N is a multiple of that."""
    count, side = pixels.shape[:2]
    grid = pixels.reshape(count // COLUMNS, COLUMNS, *pixels.shape[1:]).swapaxes(1, 2)
    sheet = np.ascontiguousarray(grid.reshape(count // COLUMNS * side, COLUMNS * side, *pixels.shape[3:]))
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def from_png(data: bytes, side: int) -> np.ndarray:
    """The images in a PNG made by `to_png`: uint8 [N, side, side] or [N, side, side, 3]."""
    sheet = np.asarray(Image.open(io.BytesIO(data)))
    rows = sheet.shape[0] // side
    grid = sheet.reshape(rows, side, COLUMNS, side, *sheet.shape[2:]).swapaxes(1, 2)
    return grid.reshape(rows * COLUMNS, side, side, *sheet.shape[2:])


@functools.cache
def _read(name: str) -> tuple[np.ndarray, np.ndarray]:
    info = sprite_info(name)
    pixels = from_png(require_asset(f"{name}.png").read_bytes(), info["tile"])
    labels = np.array(info["labels"], dtype=np.int64)
    pixels.setflags(write=False)
    labels.setflags(write=False)
    return pixels, labels
