"""The inputs of a measurement: drawn from a seed, in the grader's process; labels never leave it.

In self-check the seed is public. In grading it is an HMAC of the student and the milestone with the
instructor's secret: no file of inputs could leak, and no two students get the same images. Every image is
moved, zoomed, mirrored and relit by numbers from the same seed, so that there is no finite list of images
to learn by heart.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from course.errors import CourseError, MissingFileError
from course.paths import ROOT

if TYPE_CHECKING:
    from course.data.scenes import Scene

SECRET_VARIABLE = "TRT_GRADER_SECRET"
MODES = ("public", "hidden")
_SHORTEST = 16


@dataclass(frozen=True)
class Drawn:
    """`x`: float32 [N, 3, 224, 224]; `labels`: int64 [N]; `source`: where the images come from, in words."""

    x: np.ndarray
    labels: np.ndarray
    source: str


def secret(root: Path = ROOT) -> bytes:
    """The instructor's secret: from the environment, else from `.grading/secret`, which is made at its first
    use.

    Raises:
        CourseError: it is too short, or others could read the file.
    """
    if text := os.environ.get(SECRET_VARIABLE):
        if len(text) < _SHORTEST:
            raise CourseError(
                f"{SECRET_VARIABLE} is too short.",
                f"It has {len(text)} characters.",
                f"Use at least {_SHORTEST}, for example from `openssl rand -hex 32`.",
            )
        return text.encode()
    path = root / ".grading" / "secret"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    except FileExistsError:
        pass
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        key = file.read(4096).strip()
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise CourseError(
            f"Others can read {path}.",
            f"Its permissions are {stat.filemode(mode)}.",
            f"Run `chmod 600 {path}`; if a learner may have read it, delete it.",
        )
    if len(key) < _SHORTEST:
        raise CourseError(f"{path} holds no secret.", f"It has {len(key)} bytes.", "Delete it; a new one is made.")
    return key


def seed(mode: str, who: str, milestone: str, purpose: str, key: bytes | None = None) -> int:
    """256-bit seed. `key` is the secret of mode "hidden".

    Raises:
        CourseError: there is no such mode, or a hidden seed was asked for without a student or a secret.
    """
    if mode not in MODES:
        raise CourseError(f"There is no mode {mode!r}.", f"Modes: {', '.join(MODES)}.", "Use one of these.")
    if mode == "hidden" and (not who or not key):
        raise CourseError(
            "Hidden inputs need a student and a secret.",
            "One of them is empty.",
            "Give --who, and let the instructor's account run the grader.",
        )
    who, key = (who, key) if mode == "hidden" else ("", b"public")
    message = json.dumps([mode, who, milestone, purpose]).encode()  # a list: no two students share a text
    return int.from_bytes(hmac.new(key, message, hashlib.sha256).digest(), "big")


def draw(mode: str, who: str, milestone: str, purpose: str, count: int, key: bytes | None = None) -> Drawn:
    """`count` labelled images for one purpose ("fp16", "speed batch 8"); the same arguments give the same
    images.

    From CIFAR-10's public split; in hidden mode also from the hidden pool, where the instructor has fetched
    it.
    """
    from course.data import cifar10, preprocess

    rng = np.random.default_rng(seed(mode, who, milestone, purpose, key))
    pool, source = cifar10.images("public"), "public CIFAR-10 images, altered at random"
    if mode == "hidden":
        try:
            pool, source = cifar10.images("hidden"), "hidden CIFAR-10 images, altered at random"
        except MissingFileError:
            source += " (the hidden pool is not on this machine: `course data fetch`)"
    chosen = rng.choice(len(pool), count, replace=count > len(pool))
    return Drawn(preprocess.classifier(alter(pool.pixels[chosen], rng)), pool.labels[chosen], source)


@dataclass(frozen=True)
class DrawnScenes:
    """`x`: float32 [N, 3, H, W], 0 to 1; `scenes`: the N scenes with their boxes; `source`: in words."""

    x: np.ndarray
    scenes: tuple[Scene, ...]
    source: str


def draw_scenes(
    mode: str,
    who: str,
    milestone: str,
    purpose: str,
    count: int,
    size: int | tuple[int, int],
    key: bytes | None = None,
) -> DrawnScenes:
    """`count` composed scenes of `size` px (side, or height and width) for one purpose; the same arguments give the
    same scenes, and no two sizes share one.

    Composed from the public objects; in hidden mode the CIFAR-10 ones come from the hidden pool, where the
    instructor has fetched it. Objects, places, scales, angles and background all follow the seed.
    """
    from course.data import cifar10, scenes

    height, width = (size, size) if isinstance(size, int) else size
    rng = np.random.default_rng(seed(mode, who, milestone, f"{purpose} {height}x{width}", key))
    pool, source = scenes.shipped_pool("public"), "scenes composed at random from public objects"
    if mode == "hidden":
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
