"""Scene -> boxes and scores: composed scenes, and the reference's answers to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from autograder.tasks import answers
from autograder.tasks.base import Seeds, Task
from autograder.tasks.detector_answers import Answer, error_of, form_of, read
from autograder.tasks.detector_mistakes import why_wrong
from course.data.scenes import Scene
from course.errors import MissingFileError


@dataclass(frozen=True)
class DrawnScenes:
    """`x`: float32 [N, 3, H, W], 0 to 1; `scenes`: the N scenes with their boxes; `source`: in words."""

    x: np.ndarray
    scenes: tuple[Scene, ...]
    source: str


@dataclass(frozen=True)
class Detector(Task):
    """One scene, float32 [3, H, W] from 0 to 1, gives boxes and scores, or raw output.

    Called with decode=False the reference gives the module with raw output.
    """

    reference: str = "course.models:yolo"
    name: ClassVar[str] = "detector"
    drawn: ClassVar[str] = "Scenes"
    sized: ClassVar[bool] = True

    def draw(self, seeds: Seeds, purpose: str, count: int, size: int | tuple[int, int] | None = None) -> DrawnScenes:
        return draw(seeds, purpose, count, size)

    def answers(self, x: np.ndarray) -> Answer:
        return Answer(*answers.reference_answers(self.reference, x))

    def form(self, facts: Mapping) -> str:
        return form_of(facts)

    def options(self, form: str) -> dict[str, object]:
        return {"decode": form == "decoded"}

    def why_wrong(
        self,
        runs: Sequence[tuple[slice, Sequence[np.ndarray]]],
        wanted: Answer,
        x: np.ndarray,
        limits: Any,
        facts: Mapping,
    ) -> str:
        for part, outputs in runs:
            images = x[part]
            answer = read(outputs, len(images), images.shape[2:])
            if not error_of(answer, wanted[part]).worst <= limits.max_error:
                numbers = (facts["elements"], self.weights())
                return "An answer of a timed run is wrong. " + why_wrong(
                    answer, wanted[part], images, self.answers, numbers
                )
        return ""


def draw(seeds: Seeds, purpose: str, count: int, size: int | tuple[int, int]) -> DrawnScenes:
    """`count` composed scenes of `size` px (side, or height and width) for one purpose; the same arguments give the
    same scenes, and no two sizes share one.

    Composed from the public objects; in hidden mode the CIFAR-10 ones come from the hidden pool, where the
    instructor has fetched it. Objects, places, scales, angles and background all follow the seed.
    """
    from course.data import cifar10, scenes

    height, width = (size, size) if isinstance(size, int) else size
    rng = np.random.default_rng(seeds(f"{purpose} {height}x{width}"))
    pool, source = scenes.shipped_pool("public"), "scenes composed at random from public objects"
    if seeds.mode == "hidden":
        try:
            hidden = cifar10.images("hidden")
            pool = scenes.ObjectPool(hidden.pixels, hidden.labels, pool.fashion, pool.fashion_labels)
            source = "scenes composed at random from hidden CIFAR-10 objects and public garments"
        except MissingFileError:
            source += ", with a hidden seed (the hidden pool is not on this machine: `course data fetch`)"
    seeds = rng.integers(0, 2**63, count).tolist()
    made = tuple(scenes.scene(number, (height, width), "public", pool) for number in seeds)
    x = np.stack([scene.image for scene in made]).transpose(0, 3, 1, 2).astype(np.float32, order="C") / 255
    return DrawnScenes(x, made, source)
