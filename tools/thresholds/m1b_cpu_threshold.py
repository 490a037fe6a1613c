"""How much faster than PyTorch eager ONNX Runtime runs the detector on this CPU: the data behind a threshold of
`s1.m1b`.

python -m tools.thresholds.m1b_cpu_threshold RAW.onnx DECODED.onnx docs/results/m1b_cpu_threshold.json [--runs 5]

Each form is compared with PyTorch in the same form, at two sizes, on composed scenes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from course.data.scenes import scene
from course.models import yolo
from tools.thresholds.cpu_threshold import Case, measure, parser

BATCHES, SIZES = (1, 4, 8), (320, 416)


def scenes(run: int, batch: int, size: int) -> np.ndarray:
    """float32 [batch, 3, size, size], 0 to 1."""
    images = np.stack([scene(1000 * run + index, size).image for index in range(batch)])
    return images.transpose(0, 3, 1, 2).astype(np.float32, order="C") / 255


def main() -> None:
    args = parser(__doc__.split("\n")[0], "raw", "decoded").parse_args()
    models = {"raw": yolo(decode=False), "decoded": yolo()}

    def cases(run: int) -> Iterator[Case]:
        for form, model in models.items():
            labels = [{"form": form, "size": size, "batch": batch} for size in SIZES for batch in BATCHES]
            inputs = [scenes(run, label["batch"], label["size"]) for label in labels]
            yield Case(getattr(args, form), model, inputs, labels)

    measure(args, "m1b_cpu_threshold", ["raw", "decoded"], cases)


if __name__ == "__main__":
    main()
