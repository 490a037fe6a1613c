"""Composed scenes with exact boxes: the detector's training, test and hidden sets.

Ten Fashion-MNIST garments (tinted, cut out by their own grey values) and ten CIFAR-10 objects (square
photographs) lie at random places, scales and angles on a textured background and cover each other in part.
A seed makes a scene, so a set is a list of seeds. All arithmetic that reaches a pixel is integer, or float
rounded before use, so that the same seed gives the same bytes on every machine with the same Pillow.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from course.errors import CourseError, DtypeError, ShapeError

GARMENTS = ("t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CLASSES = GARMENTS + OBJECTS
"""Names of labels 0 to 19."""

REFERENCE_SIZE = 320  # object sizes below are pixels of a scene of this size; they scale with the scene
MIN_SIDE, MAX_SIDE = 36.0, 140.0
MAX_ANGLE = 30.0  # degrees
MIN_VISIBLE = 0.4  # share of an object's own pixels that must stay inside the image and uncovered
TRIES = 6  # places tried for one object before it is given up

# Grey value of a garment -> opacity: black background gives 0, anything that is cloth gives 255.
_OPACITY = np.clip((np.arange(256) - 12) * 7, 0, 255).astype(np.uint8)
# Grey value of a garment -> brightness of its tint, in 1/255: dark cloth stays darker than light cloth.
_SHADE = 95 + np.arange(256) * 160 // 255


@dataclass(frozen=True)
class Scene:
    """image: uint8 [H, W, 3] RGB; boxes: float32 [K, 4], x1 y1 x2 y2 in pixels; labels: int64 [K], 0 to 19.

    Later objects lie on top of earlier ones.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class ObjectPool:
    """Images that scenes are made of.

    cifar: uint8 [N, 32, 32, 3] with labels 0 to 9 [N]; fashion: uint8 [M, 28, 28] with labels 0 to 9 [M].

    Raises:
        ShapeError, DtypeError: arrays of another form.
    """

    cifar: np.ndarray
    cifar_labels: np.ndarray
    fashion: np.ndarray
    fashion_labels: np.ndarray

    def __post_init__(self):
        for name, images, labels, form in (
            ("cifar", self.cifar, self.cifar_labels, (32, 32, 3)),
            ("fashion", self.fashion, self.fashion_labels, (28, 28)),
        ):
            if images.dtype != np.uint8:
                raise DtypeError(
                    f"The pool's {name} images cannot be used.",
                    f"They are {images.dtype}, not uint8.",
                    "Pass the images as they come from the data set, 0 to 255.",
                )
            if images.shape[1:] != form or len(images) != len(labels) or not len(images):
                raise ShapeError(
                    f"The pool's {name} images cannot be used.",
                    f"Their shape is {images.shape} with {len(labels)} labels; expected [N, "
                    f"{', '.join(map(str, form))}] with N labels, N at least 1.",
                    "Pass images and labels of the same set.",
                )


@functools.lru_cache(maxsize=4)
def shipped_pool(split: str) -> ObjectPool:
    """The objects that ship with the course; split "public" or "calibration". They share no image.

    Raises:
        CourseError: another split; MissingFileError, DamagedFileError: the shipped images are not whole.
    """
    if split not in ("public", "calibration"):
        raise CourseError(
            f"There are no shipped objects named {split!r}.",
            'The splits are "public" and "calibration".',
            "Name one of them, or pass your own images as `pool=ObjectPool(...)`.",
        )
    from course.data.sprites import SPLITS, load_sprite  # here, since training uses neither

    part = SPLITS[split]
    cifar, fashion = load_sprite("cifar10_public"), load_sprite("fashion_public")
    return ObjectPool(cifar[0][part], cifar[1][part], fashion[0][part], fashion[1][part])


def scene(
    seed: int, size: int | tuple[int, int] = REFERENCE_SIZE, split: str = "public", pool: ObjectPool | None = None
) -> Scene:
    """Make the scene that belongs to (seed, split).

    Three to ten objects, fewer where they do not fit. At least 40 % of each can be seen. A box is the box
    around the object's own pixels (opacity of at least one half) inside the image, the covered ones included.

    Args:
        seed: any integer from 0; a secret one makes a hidden set.
        size: side in pixels, or (height, width); from 64.
        split: part of the seed, and the shipped objects that are used unless `pool` is given.
        pool: objects to use instead.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 64:
        raise ShapeError(
            "This scene cannot be made.", f"Its size is {height}x{width} pixels.", "Ask for at least 64x64."
        )
    if seed < 0:
        raise CourseError("This scene cannot be made.", f"Its seed is {seed}.", "Use a seed from 0.")
    pool = pool or shipped_pool(split)
    rng = np.random.Generator(np.random.PCG64([seed, int.from_bytes(split.encode(), "little")]))
    canvas = _background(rng, height, width)
    owner = np.zeros((height, width), np.uint8)  # which object owns each pixel; 0 is the background
    boxes, labels = [], []
    total, visible = [1], [1]  # pixels of each object, whole and uncovered, counted from 1
    for _ in range(rng.integers(3, 11)):
        cutout, mask, label = _object(rng, pool, min(height, width) / REFERENCE_SIZE)
        place = _place(rng, mask > 127, owner, total, visible)
        if place is None:
            continue
        left, top, box = place
        canvas.paste(cutout, (left, top), Image.fromarray(mask))
        boxes.append(box)
        labels.append(label)
    return Scene(np.array(canvas), np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64))


def _place(
    rng: np.random.Generator, solid: np.ndarray, owner: np.ndarray, total: list[int], visible: list[int]
) -> tuple[int, int, tuple[int, int, int, int]] | None:
    """Find a place where the object and all before it stay visible; book it. (left, top, box), or None."""
    (height, width), (rows, columns), area = owner.shape, solid.shape, int(np.count_nonzero(solid))
    for _ in range(TRIES):
        left = int(rng.uniform(0.08, 0.92) * width) - columns // 2
        top = int(rng.uniform(0.08, 0.92) * height) - rows // 2
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + columns, width), min(top + rows, height)
        inside = solid[y0 - top : y1 - top, x0 - left : x1 - left]
        kept = int(np.count_nonzero(inside))
        if kept < max(MIN_VISIBLE * area, 1):
            continue
        window = owner[y0:y1, x0:x1]
        covered = np.bincount(window[inside], minlength=len(total)).tolist()
        if any(visible[k] - covered[k] < MIN_VISIBLE * total[k] for k in range(1, len(total))):
            continue
        for k in range(1, len(total)):
            visible[k] -= covered[k]
        window[inside] = len(total)
        total.append(area)
        visible.append(kept)
        xs, ys = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
        return left, top, (x0 + int(xs[0]), y0 + int(ys[0]), x0 + int(xs[-1]) + 1, y0 + int(ys[-1]) + 1)
    return None


def _object(rng: np.random.Generator, pool: ObjectPool, scale: float) -> tuple[Image.Image, np.ndarray, int]:
    """One object, scaled, turned and maybe mirrored: RGB cut-out, opacity uint8 [h, w], label."""
    garment, mirror = rng.random() < 0.5, rng.random() < 0.5
    index = int(rng.integers(len(pool.fashion if garment else pool.cifar)))
    side = scale * round(MIN_SIDE * (MAX_SIDE / MIN_SIDE) ** rng.random(), 3)
    angle = math.radians(rng.uniform(-MAX_ANGLE, MAX_ANGLE))
    tint = rng.integers(70, 256, 3)
    if garment:
        grey = np.asarray(_turn(Image.fromarray(pool.fashion[index]), side, angle, mirror))
        shaded = (_SHADE[:, None] * tint // 255).astype(np.uint8)
        return Image.fromarray(shaded[grey]), _OPACITY[grey], int(pool.fashion_labels[index])
    # A fourth channel of 255 goes through the same turn and comes out as the mask of the photograph.
    padded = np.full((32, 32, 4), 255, np.uint8)
    padded[..., :3] = pool.cifar[index]
    photograph = Image.frombuffer("RGBX", (32, 32), padded.tobytes(), "raw", "RGBX", 0, 1)
    turned = _turn(photograph, side, angle, mirror)
    pixels = np.frombuffer(turned.tobytes(), np.uint8).reshape(turned.height, turned.width, 4)
    return (
        Image.fromarray(np.ascontiguousarray(pixels[..., :3])),
        np.ascontiguousarray(pixels[..., 3]),
        10 + int(pool.cifar_labels[index]),
    )


def _turn(image: Image.Image, side: float, angle: float, mirror: bool) -> Image.Image:
    """Scale a square image to `side` pixels and rotate it, in one bilinear step; black outside."""
    # Rounding hides the last bit, in which C libraries differ.
    cosine, sine = round(math.cos(angle), 6), round(math.sin(angle), 6)
    out, shrink = math.ceil(side * (cosine + abs(sine))), round(image.width / side, 9)
    flip = -1.0 if mirror else 1.0
    a, b, d, e = flip * cosine * shrink, flip * sine * shrink, -sine * shrink, cosine * shrink
    centre = image.width / 2
    return image.transform(
        (out, out),
        Image.Transform.AFFINE,
        (a, b, centre - (a + b) * out / 2, d, e, centre - (d + e) * out / 2),
        Image.Resampling.BILINEAR,
    )


def _background(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """A gradient, noise of three octaves, and in half of the scenes stripes: RGB."""

    def noise(cells: int, channels: int) -> Image.Image:
        values = rng.integers(0, 256, (cells, cells, channels), np.uint8)
        small = Image.fromarray(values if channels == 3 else np.repeat(values, 3, axis=2))
        return small.resize((64, 64), Image.Resampling.BILINEAR)

    canvas = noise(2, 3)  # bilinear between four corner colours: a gradient
    for cells in (5, 17, 64):
        octave = noise(cells, 3 if rng.random() < 0.3 else 1)
        canvas = Image.blend(canvas, octave, round(rng.uniform(0.05, 0.35), 3))
    canvas = canvas.resize((width, height), Image.Resampling.BILINEAR)  # once, for speed
    if rng.random() < 0.5:
        # Stripes as a triangle wave along (x, y) . (step), in integers: period of 12 to 130 pixels.
        step_x, step_y = (int(v) for v in rng.integers(-20, 21, 2))
        xs, ys = np.arange(width, dtype=np.int32), np.arange(height, dtype=np.int32)
        phase = xs * step_x + ys[:, None] * step_y
        wave = (np.abs((phase & 255) - 128) * 255 // 128).astype(np.uint8)
        stripes = Image.merge("RGB", [Image.fromarray(wave)] * 3)
        canvas = Image.blend(canvas, stripes, round(rng.uniform(0.05, 0.3), 3))
    return canvas
