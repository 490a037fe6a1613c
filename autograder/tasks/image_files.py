"""Image file -> logits: what a service gets and gives. JPEG files of small images, no two of them the same."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from autograder.tasks import classifier
from autograder.tasks.base import Seeds
from autograder.tasks.classifier import Classifier


@dataclass(frozen=True)
class DrawnFiles:
    """files: JPEG, one an image. pixels: uint8 [N, 32, 32, 3] as they are decoded. labels: int64 [N]."""

    files: Sequence[bytes]
    pixels: np.ndarray
    labels: np.ndarray
    source: str

    @property
    def x(self) -> np.ndarray:
        """float32 [N, 3, 224, 224], preprocessed as the network was trained."""
        from course.data import preprocess

        return preprocess.classifier(self.pixels)


@dataclass(frozen=True)
class ImageFiles(Classifier):
    """One JPEG file gives the logits of ten classes."""

    name: ClassVar[str] = "classifier of image files"

    def draw(self, seeds: Seeds, purpose: str, count: int, size: Any = None) -> DrawnFiles:
        pixels, labels, source = classifier.altered(seeds, purpose, count)
        files = [_jpeg(image) for image in pixels]
        decoded = np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
        return DrawnFiles(files, decoded, labels, source)


def _jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
