"""How much faster than PyTorch eager ONNX Runtime runs ResNet-50 on this CPU: the data behind a threshold of
`s1.m1`.

python -m tools.thresholds.m1_cpu_threshold RESNET50.onnx docs/results/m1_cpu_threshold.json [--runs 5]
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from course.models import resnet50
from tools.thresholds.cpu_threshold import Case, measure, parser

BATCHES = (1, 4, 8)


def main() -> None:
    args, model = parser(__doc__.split("\n")[0], "onnx").parse_args(), resnet50()

    def cases(run: int) -> Iterator[Case]:
        rng = np.random.default_rng(run)
        inputs = [rng.standard_normal((batch, 3, 224, 224), dtype=np.float32) for batch in BATCHES]
        yield Case(args.onnx, model, inputs, [{"batch": batch} for batch in BATCHES])

    measure(args, "m1_cpu_threshold", ["onnx"], cases)


if __name__ == "__main__":
    main()
