"""How much faster than PyTorch eager ONNX Runtime runs ResNet-50 on this CPU: the data behind a threshold of
`s1.m1`.

python tools/m1_cpu_threshold.py RESNET50.onnx docs/results/m1_cpu_threshold.json [--runs 5]

Each run is a fresh engine, batch 1, 4 and 8, both programs in turns, CPU time on one thread each, as the
grader does it. The file holds all samples.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from autograder.engine_process import CpuTime, one_thread  # noqa: E402
from course import bench, engine  # noqa: E402
from course.files import atomic_write  # noqa: E402
from course.models import resnet50  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("onnx", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=40.0, help="at most, per run and batch size")
    args = parser.parse_args()
    model, runs = resnet50(), []
    for run in range(args.runs):
        profile = engine.Profile.batch(args.onnx, 1, 16, 16)
        with (
            one_thread(),
            engine.build(args.onnx, engine.BuildConfig(profiles=(profile,), runtime="onnxruntime")) as built,
        ):
            name = built.inputs[0].name
            for batch in (1, 4, 8):
                x = np.random.default_rng(run).standard_normal((batch, 3, 224, 224), dtype=np.float32)
                tensor = torch.from_numpy(x)

                def eager() -> torch.Tensor:
                    with torch.inference_mode():
                        return model(tensor)

                before = os.getloadavg()[0]
                found = bench.compare(
                    lambda: built.run({name: x}),
                    eager,
                    labels=("ONNX Runtime", "PyTorch eager"),
                    items=(batch, batch),
                    rounds=12,
                    max_seconds=args.seconds,
                    clock=CpuTime(),
                )
                print(f"run {run + 1}, load {before:.1f}: batch {batch}: {found}", flush=True)
                runs.append(
                    {
                        "run": run,
                        "batch": batch,
                        "load_before": before,
                        "time": time.time(),
                        "ratio": found.ratio,
                        "low": found.low,
                        "high": found.high if found.high < 1e9 else None,
                        "engine_ms": found.a.milliseconds.tolist(),
                        "eager_ms": found.b.milliseconds.tolist(),
                    }
                )
    record = {
        "command": [
            "python",
            "tools/m1_cpu_threshold.py",
            args.onnx.name,
            "--runs",
            str(args.runs),
            "--seconds",
            f"{args.seconds:g}",
        ],
        "machine": bench.machine(),
        "clock": "CPU time, one thread each",
        "note": "The load averages say how busy the machine was with other programs.",
        "runs": runs,
    }
    atomic_write(args.out, json.dumps(record, indent=1, default=str).encode())


if __name__ == "__main__":
    main()
