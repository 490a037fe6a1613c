"""CourseFold, the plugin of stage 3's lessons: its sources in parts, its contract, and what it computes.

    x [n, c * kernel * kernel, h, w] -> y [n, c, (h - 1) * stride + kernel - 2 * padding, ...]

Overlapping patches are added up, as `torch.nn.functional.fold` (ONNX: Col2Im) does. fold.cu and fold.cuh are the kernel,
fold.h declares the class; questions.h, work.h, plan.h and creator.h define it, and are the course's own answers of lesson 3.04;
entry.h, for a library that registers nothing by itself, is that of lesson 3.05.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from course.files import atomic_write
from course.native.plugin import Contract

FOLDER = Path(__file__).parent
PARTS = ("questions", "work", "plan", "creator")
GIVEN = ("fold.cu", "fold.cuh", "fold.h")
HEAD = '#include "fold.h"\n#include "fold.cuh"\n#include <cstring>\n#include <new>\n'
REGISTER = "REGISTER_TENSORRT_PLUGIN(FoldCreator);"


def text(name: str) -> str:
    """One of the files, such as "fold.h"."""
    return (FOLDER / name).read_text()


def fold(x: np.ndarray, kernel: int = 1, stride: int = 1, padding: int = 0) -> np.ndarray:
    """What the plugin computes: x [n, c * kernel * kernel, h, w] -> [n, c, height, width], the dtype of x.

    Its definition is that of `torch.nn.functional.fold`, with x [n, c * kernel * kernel, h * w] there.
    """
    n, channels, h, w = x.shape
    c = channels // kernel**2
    patches = x[:, : c * kernel**2].reshape(n, c, kernel, kernel, h, w)
    y = np.zeros((n, c, (h - 1) * stride + kernel, (w - 1) * stride + kernel), x.dtype)
    for i in range(kernel):
        for j in range(kernel):
            y[:, :, i : i + (h - 1) * stride + 1 : stride, j : j + (w - 1) * stride + 1 : stride] += patches[:, :, i, j]
    return y[:, :, padding : y.shape[2] - padding, padding : y.shape[3] - padding]


def contract() -> Contract:
    """What CourseFold is asked to be."""
    return Contract(
        "CourseFold",
        fold,
        shapes=[((2, 18, 2, 3),), ((1, 9, 4, 2),), ((1, 27, 1, 1),)],
        attributes={"kernel": 3, "stride": 2, "padding": 1},
        other={"kernel": 3, "stride": 3, "padding": 0},
    )


def source(parts: Mapping[str, str] | None = None, *, entry: str = "") -> str:
    """fold_plugin.cpp.

    Args:
        parts: name -> C++ text; what is missing of PARTS is the course's own.
        entry: an entry point for the registry's load_library; then nothing registers itself when the library is loaded.
    """
    parts = parts or {}
    made = HEAD + "\n".join(parts[name] if name in parts else text(f"{name}.h") for name in PARTS)
    return made.replace(REGISTER, "") + entry if entry else made


def write(folder: str | Path, plugin_source: str) -> Path:
    """The plugin's folder: fold.cu, fold.cuh, fold.h as given, and this fold_plugin.cpp."""
    folder = Path(folder)
    for name in GIVEN:
        atomic_write(folder / name, (FOLDER / name).read_bytes())
    atomic_write(folder / "fold_plugin.cpp", plugin_source.encode())
    return folder
