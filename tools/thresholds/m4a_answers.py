"""How far a service's logits are off with other preprocessing: what the limits of milestone 4a separate. On a CPU.

    python -m tools.thresholds.m4a_answers --out docs/results/m4a_answers.json [--images 48]

For each way: the error of all images together and of the worst one, as `autograder.checks.service_box.compare` takes them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from autograder.checks.service_box import MOST_ERROR, MOST_ERROR_OF_ALL
from autograder.milestones.stage4 import SERVICE
from autograder.tasks.base import Seeds
from autograder.tasks.classifier import error_of
from course import bench
from course.files import atomic_write

MEAN, STD = np.array([123.675, 116.28, 103.53], np.float32), np.array([58.395, 57.12, 57.375], np.float32)


def resized(pixels: np.ndarray, way: Image.Resampling) -> np.ndarray:
    """uint8 [N, 32, 32, 3] -> float32 [N, 224, 224, 3]."""
    return np.stack([np.asarray(Image.fromarray(one).resize((224, 224), way), np.float32) for one in pixels])


def normalised(images: np.ndarray, mean=MEAN, std=STD) -> np.ndarray:
    return ((images - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)


def ways(pixels: np.ndarray, x: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    """Name -> the network's input, float32 [N, 3, 224, 224]; the first three are right work."""
    kind = Image.Resampling
    return {
        "as trained": lambda: x,
        "Pillow, bilinear": lambda: normalised(resized(pixels, kind.BILINEAR)),
        "Pillow, bicubic": lambda: normalised(resized(pixels, kind.BICUBIC)),
        "nearest pixel": lambda: normalised(resized(pixels, kind.NEAREST)),
        "colours swapped": lambda: normalised(resized(pixels, kind.BILINEAR)[..., ::-1]),
        "mean and deviation 127.5": lambda: normalised(resized(pixels, kind.BILINEAR), 127.5, 127.5),
        "0 to 1": lambda: normalised(resized(pixels, kind.BILINEAR), 0.0, 255.0),
        "the answer of another image": lambda: np.roll(x, 1, axis=0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=48)
    args = parser.parse_args()
    drawn = SERVICE.task.draw(Seeds("public", "", SERVICE.id), "thresholds", args.images)
    wanted = SERVICE.task.answers(drawn.x)
    found = {}
    for name, make in ways(drawn.pixels, drawn.x).items():
        logits = SERVICE.task.answers(np.ascontiguousarray(make()))
        each = [error_of(one[None], right[None]) for one, right in zip(logits, wanted)]
        passes = max(each) <= MOST_ERROR and error_of(logits, wanted) <= MOST_ERROR_OF_ALL
        found[name] = {"all": error_of(logits, wanted), "worst": max(each), "each": each, "passes": passes}
        print(
            f"{name:28} all {found[name]['all']:.3f}, worst {max(each):.3f}{', passes' if passes else ''}", flush=True
        )
    record = {
        "command": ["python", "-m", "tools.thresholds.m4a_answers", *sys.argv[1:]],
        "machine": bench.machine(),
        "limits": {"one image": MOST_ERROR, "all": MOST_ERROR_OF_ALL},
        "ways": found,
    }
    atomic_write(args.out, json.dumps(record, indent=1).encode())


if __name__ == "__main__":
    main()
