"""Industrial twin: surfaces as an inspection camera sees them, with or without a defect, each made by a seed.

Used where the course needs images of another domain: grey, textured, without objects. As in `scenes`,
integers and rounded floats only, so that a seed gives the same bytes on every machine with the same Pillow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from course.errors import CourseError, ShapeError

MATERIALS = ("brushed metal", "rolled steel", "fabric")
DEFECTS = ("scratch", "pit", "inclusion", "patch")
CLASSES = ("good",) + DEFECTS
"""Names of labels 0 to 4."""


@dataclass(frozen=True)
class Surface:
    """image: uint8 [S, S, 3] RGB; label: 0 to 4 (`CLASSES`); mask: bool [S, S], True on the defect."""

    image: np.ndarray
    label: int
    mask: np.ndarray


def surface(seed: int, size: int = 224, defect: str | None = "any", material: str | None = None) -> Surface:
    """Make the surface that belongs to a seed.

    Args:
        seed: any integer from 0. The same seed shows the same material with each defect.
        size: side in pixels, from 32.
        defect: one of `DEFECTS`; None for a good surface; "any": the seed decides among all five `CLASSES`.
        material: one of `MATERIALS`; None: the seed decides.

    Raises:
        CourseError, ShapeError: an argument is something else.
    """
    if defect not in (None, "any", *DEFECTS) or material not in (None, *MATERIALS) or seed < 0:
        raise CourseError(
            "This surface cannot be made.",
            f"Its seed is {seed}, its defect {defect!r} and its material {material!r}.",
            f"Use a seed from 0, a defect of {', '.join(DEFECTS)}, any or None, "
            f"and a material of {', '.join(MATERIALS)} or None.",
        )
    if size < 32:
        raise ShapeError("This surface cannot be made.", f"Its size is {size} pixels.", "Ask for at least 32 pixels.")
    choice, texture, flaw = (np.random.Generator(np.random.PCG64([seed, part])) for part in range(3))
    drawn_material, drawn_label = int(choice.integers(len(MATERIALS))), int(choice.integers(len(CLASSES)))
    label = drawn_label if defect == "any" else CLASSES.index(defect or "good")
    make = {"brushed metal": _brushed_metal, "rolled steel": _rolled_steel, "fabric": _fabric}
    grey = make[material or MATERIALS[drawn_material]](texture, size)
    light = _noise(texture, 2, 2, size).astype(np.int32) - 128  # uneven lighting
    grey = grey + light * int(texture.integers(5, 20)) // 128
    mask = np.zeros((size, size), bool)
    if label:
        spoil = {"scratch": _scratch, "pit": _pit, "inclusion": _inclusion, "patch": _patch}[CLASSES[label]]
        grey, mask = spoil(flaw, grey)
    tint = texture.integers(-9, 10, 3)  # of the lamp: nearly grey
    image = np.clip(grey[..., None] * (256 + tint) // 256, 0, 255).astype(np.uint8)
    return Surface(image, int(label), mask)


def production_log() -> tuple[dict, ...]:
    """What a camera photographed in one day, in order: 200 × fabric, 60 × brushed metal, 60 × rolled steel.

    Each entry is {"seed": int, "material": str}: the arguments of `surface` for that photograph.
    """
    order = (("fabric", 200), ("brushed metal", 60), ("rolled steel", 60))
    materials = [material for material, count in order for _ in range(count)]
    return tuple({"seed": 420_000 + at, "material": material} for at, material in enumerate(materials))


# Textures: int32 [S, S], about 0 to 255.


def _brushed_metal(rng: np.random.Generator, size: int) -> np.ndarray:
    """Fine parallel streaks."""
    long = _noise(rng, size, 3, size).astype(np.int32) - 128
    short = _noise(rng, size, max(size // 12, 4), size).astype(np.int32) - 128
    grey = int(rng.integers(120, 180)) + long * 50 // 256 + short * 45 // 256
    return np.ascontiguousarray(grey.T) if rng.random() < 0.5 else grey


def _rolled_steel(rng: np.random.Generator, size: int) -> np.ndarray:
    """Cloudy scale, grain, and bands that the rolls left."""
    grey = np.full((size, size), int(rng.integers(80, 135)), np.int32)
    for cells, strength in ((4, 40), (14, 32), (45, 22), (size, 26)):
        grey += (_noise(rng, cells, cells, size).astype(np.int32) - 128) * strength // 128
    band = _wave(size, int(rng.integers(20, 60)) * size // 224 + 2) * int(rng.integers(4, 14)) // 128
    return grey + (band[None] if rng.random() < 0.5 else band[:, None])


def _fabric(rng: np.random.Generator, size: int) -> np.ndarray:
    """Plain weave: threads go over and under each other in turn, each a little lighter or darker."""
    period = int(rng.integers(6, 13))
    thread = np.arange(size) // period
    count = size // period + 1
    across, along = (rng.integers(-22, 23, count)[thread] for _ in range(2))
    round_ = _wave(size, period) * 30 // 128  # a thread is lighter along its middle
    over = (thread[:, None] + thread[None]) % 2 == 0
    lit = np.where(over, (across + round_)[:, None], (along + round_)[None] - 12)
    grain = _noise(rng, size, size, size).astype(np.int32) - 128
    return int(rng.integers(95, 170)) + lit + grain * 14 // 128


# Defects: (grey, mask).


def _scratch(rng: np.random.Generator, grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A thin, slightly bent line, brighter or darker than the surface."""
    size = len(grey)
    angle, length = rng.uniform(0, math.pi), rng.uniform(0.35, 0.8) * size
    x, y = (rng.uniform(0.3, 0.7, 2) * size).tolist()
    step_x, step_y = math.cos(angle) * length / 2, math.sin(angle) * length / 2
    bend_x, bend_y = (rng.uniform(-0.06, 0.06, 2) * size).tolist()
    points = [(x - step_x, y - step_y), (x + bend_x, y + bend_y), (x + step_x, y + step_y)]
    thickness = max(1, round(size * rng.uniform(0.006, 0.016)))
    canvas = Image.new("L", (size, size))
    ImageDraw.Draw(canvas).line([(round(a), round(b)) for a, b in points], 255, thickness)
    mask = np.asarray(canvas) > 0
    return np.where(mask, grey + (75 if rng.random() < 0.6 else -60), grey), mask


def _pit(rng: np.random.Generator, grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two to seven small dark holes, each with a bright lower rim."""
    size = len(grey)
    holes, rims = Image.new("L", (size, size)), Image.new("L", (size, size))
    for _ in range(int(rng.integers(2, 8))):
        radius, shift = max(2, round(size * rng.uniform(0.012, 0.03))), max(1, size // 150)
        x, y = (int(v) for v in rng.integers(radius + 2, size - radius - 2, 2))
        box = (x - radius, y - radius, x + radius, y + radius)
        ImageDraw.Draw(rims).ellipse(tuple(v + shift for v in box), 255)
        ImageDraw.Draw(holes).ellipse(box, 255)
    hole, rim = np.asarray(holes) > 0, np.asarray(rims) > 0
    return np.where(hole, grey * 2 // 5, np.where(rim, grey + 45, grey)), hole | rim


def _inclusion(rng: np.random.Generator, grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A long dark ragged grain of foreign material, along the rows or the columns."""
    mask = _blob(rng, len(grey), rng.uniform(0.12, 0.28), rng.uniform(0.025, 0.06))
    mask = np.ascontiguousarray(mask.T) if rng.random() < 0.5 else mask
    return np.where(mask, grey // 3 + 10, grey), mask


def _patch(rng: np.random.Generator, grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A large stain: the texture goes on below it, lighter or darker and flatter."""
    mask = _blob(rng, len(grey), rng.uniform(0.14, 0.28), rng.uniform(0.14, 0.28))
    middle = int(grey.mean())
    stained = middle + (grey - middle) * 3 // 5 + (45 if rng.random() < 0.5 else -40)
    return np.where(mask, stained, grey), mask


def _blob(rng: np.random.Generator, size: int, half_width: float, half_height: float) -> np.ndarray:
    """An ellipse (half axes as shares of the side) with a ragged edge: bool [S, S], never empty."""
    x, y = (int(v) for v in (rng.uniform(0.3, 0.7, 2) * size))
    a, b = max(3, round(half_width * size)), max(3, round(half_height * size))
    columns, rows = np.arange(size) - x, np.arange(size)[:, None] - y
    distance = columns * columns * 256 // (a * a) + rows * rows * 256 // (b * b)  # 256 on the ellipse
    ragged = _noise(rng, 24, 24, size).astype(np.int32) - 128
    return distance + ragged * 3 // 2 < 256


def _noise(rng: np.random.Generator, rows: int, columns: int, size: int) -> np.ndarray:
    """Random cells, smoothly enlarged: uint8 [S, S]."""
    cells = Image.fromarray(rng.integers(0, 256, (rows, columns), np.uint8))
    return np.asarray(cells.resize((size, size), Image.Resampling.BILINEAR))


def _wave(size: int, period: int) -> np.ndarray:
    """Triangle wave, -128 to 127, highest in the middle of each period: int64 [S]."""
    phase = np.arange(size) % period * 256 // max(period - 1, 1)
    return np.minimum(127, 127 - np.abs(phase - 128) * 2)
