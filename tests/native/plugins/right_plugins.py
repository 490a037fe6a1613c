"""Right plugins with their contracts. No finding may be made up for one of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from course.native.plugin import Contract

FOLDER = Path(__file__).parent


def swish(x: np.ndarray, beta: float) -> np.ndarray:
    return x / (1 + np.exp(-beta * x))


def repeat(a: np.ndarray, b: np.ndarray, times: int) -> np.ndarray:
    return np.concatenate([np.repeat(a, times, axis=-1), b], axis=-1)


SWISH = Contract("CourseSwish", swish, shapes=[((3, 5),), ((1,),), ((2, 3, 4, 5),)], attributes={"beta": 1.5})

RIGHT: dict[str, tuple[Path, Contract]] = {
    "swish": (FOLDER / "swish", SWISH),
    "rowmean": (
        FOLDER / "right" / "rowmean.cu",
        Contract(
            "CourseRowMean",
            lambda x, shift: x - x.mean(axis=-1, keepdims=True) + shift,
            shapes=[((5, 7),), ((70, 3),), ((2, 3, 9),)],
            attributes={"shift": 0.5},
        ),
    ),
    "signs": (
        FOLDER / "right" / "signs.cu",
        Contract(
            "CourseSigns",
            lambda x, scale: (scale * np.maximum(x, 0), (x > 0).astype(np.int32)),
            shapes=[((3, 50),), ((1,),)],
            version="2",
            attributes={"scale": 2.0},
        ),
    ),
    "repeat": (
        FOLDER / "right" / "repeat.cu",
        Contract(
            "CourseRepeat",
            repeat,
            shapes=[((3, 5), (3, 2)), ((2, 2, 1), (2, 2, 4))],
            attributes={"times": 3},
            other={"times": 3},
        ),
    ),
    "affine": (
        FOLDER / "right" / "affine.cu",
        Contract(
            "CourseAffine",
            lambda x, a, b: a * x + b,
            shapes=[((300,),), ((2, 3, 4),)],
            namespace="course",
            attributes={"a": 2.0, "b": -1.0},
            types=("float32",),
        ),
    ),
}
