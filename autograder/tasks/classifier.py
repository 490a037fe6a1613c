"""Image -> logits: labelled images, and how far two sets of logits agree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from autograder.rejected import Rejected
from autograder.tasks import answers
from autograder.tasks.base import Seeds, Task
from course.errors import MissingFileError


@dataclass(frozen=True)
class Drawn:
    """`x`: float32 [N, 3, 224, 224]; `labels`: int64 [N]; `source`: where the images come from, in words."""

    x: np.ndarray
    labels: np.ndarray
    source: str


@dataclass(frozen=True)
class Classifier(Task):
    """One image, float32 [3, 224, 224], gives the logits of ten classes."""

    reference: str = "course.models:resnet50"
    name: ClassVar[str] = "classifier"
    drawn: ClassVar[str] = "Images"
    sized: ClassVar[bool] = False

    def draw(self, seeds: Seeds, purpose: str, count: int, size: Any = None) -> Drawn:
        return draw(seeds, purpose, count)

    def answers(self, x: np.ndarray) -> np.ndarray:
        """Logits, float32 [N, classes]."""
        return answers.reference_answers(self.reference, x)[0]

    def form(self, facts: Mapping) -> str:
        return ""

    def options(self, form: str) -> dict[str, object]:
        return {}

    def why_wrong(
        self,
        runs: Sequence[tuple[slice, Sequence[np.ndarray]]],
        wanted: np.ndarray,
        x: np.ndarray,
        limits: Any,
        facts: Mapping,
    ) -> str:
        for part, (answer, *_) in runs:
            error = error_of(answer, wanted[part])
            if not error <= limits.max_error:
                return "An answer of a timed run is wrong. " + why_wrong(answer, wanted[part], error)
        same = np.mean([answer.argmax(1) == wanted[part].argmax(1) for part, (answer, *_) in runs])
        if same < limits.min_agreement:
            return f"In the timed runs only {100 * same:.0f} % of the images got PyTorch's class."
        return ""


def draw(seeds: Seeds, purpose: str, count: int) -> Drawn:
    """`count` labelled images for one purpose ("fp16", "speed batch 8"); the same arguments give the same
    images.

    From CIFAR-10's public split; in hidden mode also from the hidden pool, where the instructor has fetched
    it.
    """
    from course.data import preprocess

    pixels, labels, source = altered(seeds, purpose, count)
    return Drawn(preprocess.classifier(pixels), labels, source)


def altered(seeds: Seeds, purpose: str, count: int) -> tuple[np.ndarray, np.ndarray, str]:
    """The pixels of `draw`, uint8 [N, 32, 32, 3], their labels, and where they come from."""
    from course.data import cifar10

    rng = np.random.default_rng(seeds(purpose))
    pool, source = cifar10.images("public"), "public CIFAR-10 images, altered at random"
    if seeds.mode == "hidden":
        try:
            pool, source = cifar10.images("hidden"), "hidden CIFAR-10 images, altered at random"
        except MissingFileError:
            source += " (the hidden pool is not on this machine: `course data fetch`)"
    chosen = rng.choice(len(pool), count, replace=count > len(pool))
    return alter(pool.pixels[chosen], rng), pool.labels[chosen], source


def alter(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each image moved by up to 3 px, zoomed by up to 10 %, perhaps mirrored, and relit by up to 20 %.

    pixels: uint8 [N, S, S, 3]. Returns the same shape and dtype. Mild enough that a class stays what it is.
    """
    import torch
    import torch.nn.functional as F

    count, side = pixels.shape[:2]
    zoom = rng.uniform(0.9, 1.1, count)
    shift = rng.uniform(-3, 3, (count, 2)) * 2 / side  # the grid's unit is half the image
    mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    theta = np.zeros((count, 2, 3))
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = zoom * mirror, zoom, shift
    grid = F.affine_grid(torch.from_numpy(theta).float(), [count, 3, side, side], align_corners=False)
    images = torch.tensor(pixels).permute(0, 3, 1, 2).float()
    moved = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False).permute(0, 2, 3, 1).numpy()
    gain, offset = rng.uniform(0.8, 1.2, (count, 1, 1, 1)), rng.uniform(-12, 12, (count, 1, 1, 1))
    return np.clip(np.rint((moved - 128) * gain + 128 + offset), 0, 255).astype(np.uint8)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927)."""
    z, part = 1.96, hits / count
    centre = (part + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(part * (1 - part) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def drop_interval(answer: np.ndarray, wanted: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """95 % interval of the accuracy lost, paired by image (normal approximation)."""
    lost = (wanted.argmax(1) == labels).astype(float) - (answer.argmax(1) == labels)
    half = 1.96 * lost.std() / math.sqrt(len(lost))
    return float(lost.mean() - half), float(lost.mean() + half)


def error_of(answer: np.ndarray, wanted: np.ndarray) -> float:
    """Root mean square of the difference, relative to that of the reference around each image's mean logit.

    Infinite for another shape, NaN or infinity.
    """
    if answer.shape != wanted.shape or not np.isfinite(answer).all():
        return math.inf
    spread = np.sqrt(np.mean((wanted - wanted.mean(axis=1, keepdims=True)) ** 2))
    return float(np.sqrt(np.mean((answer.astype(np.float64) - wanted) ** 2)) / max(float(spread), 1e-12))


def why_wrong(answer: np.ndarray, wanted: np.ndarray, error: float) -> str:
    if answer.shape != wanted.shape:
        return f"The output has the shape {list(answer.shape)}, PyTorch's has {list(wanted.shape)}."
    if not np.isfinite(answer).all():
        return f"The output holds {int((~np.isfinite(answer)).sum())} values that are NaN or infinite."
    return f"The logits are wrong by {100 * error:.0f} %: those of another network."


def only_output(outputs: list[np.ndarray]) -> np.ndarray:
    """Raises:
    Rejected: there is more than one, or none.
    """
    if len(outputs) != 1:
        raise Rejected("The model does not have one output.", f"It has {len(outputs)}.", "Export it with one.")
    return outputs[0]
