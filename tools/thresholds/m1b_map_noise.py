"""How much mAP coarser arithmetic costs the detector, and how much that varies with the scenes: the data behind the
threshold MAP_DROP of `s1.m1b`.

python -m tools.thresholds.m1b_map_noise docs/results/m1b_map_noise.json [--scenes 512] [--draws 16] [--each 64]

On a CPU. Every variant sees the same scenes; its loss is paired with FP32 in PyTorch, draw by draw.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from course import bench, engine  # noqa: E402
from course.data.metrics import mean_average_precision  # noqa: E402
from course.data.scenes import scene  # noqa: E402
from course.detection import frames  # noqa: E402
from course.export import export  # noqa: E402
from course.files import atomic_write  # noqa: E402
from course.models import nms, yolo  # noqa: E402
from course.models.suppression import Detections  # noqa: E402
from course.models.yolo import decode_numpy  # noqa: E402

REFERENCE = "FP32, PyTorch"
Detector = Callable[[np.ndarray], np.ndarray]
"""Frames to raw output, both float32."""


def in_torch(model: torch.nn.Module, dtype: torch.dtype = torch.float32) -> Detector:
    model = copy.deepcopy(model).to(dtype)

    def run(x: np.ndarray) -> np.ndarray:
        torch.set_num_threads(1)  # of this thread: parts run side by side
        with torch.inference_mode():
            return model(torch.from_numpy(x).to(dtype)).float().numpy()

    return run


def coarse(model: torch.nn.Module, bits: int) -> torch.nn.Module:
    """Weights of convolutions rounded to so many bits, a scale for each channel."""
    model = copy.deepcopy(model)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d):
            step = layer.weight.detach().abs().amax((1, 2, 3), keepdim=True) / (2 ** (bits - 1) - 1)
            layer.weight.data = (layer.weight.detach() / step).round() * step
    return model


def in_onnxruntime(model: torch.nn.Module, folder: str, sizes: list[int]) -> Detector:
    path = Path(folder) / "raw.onnx"
    export(
        model,
        (torch.zeros(2, 3, 64, 96),),
        path,
        input_names=["image"],
        output_names=["raw"],
        dynamic={"image": {0: "batch", 2: "height", 3: "width"}},
    )
    low, high = (1, 3, min(sizes), min(sizes)), (8, 3, max(sizes), max(sizes))
    profile = engine.Profile({"image": (low, high, high)})
    built = engine.build(path, engine.BuildConfig(profiles=(profile,), runtime="onnxruntime"))
    return lambda x: built.run({"image": x})["raw"]


def find(detector: Detector, scenes: list) -> list[Detections]:
    def one(part: list) -> list[Detections]:
        x = frames(part)
        return nms(*decode_numpy(detector(x), x.shape[2:]))

    parts = [scenes[start : start + 8] for start in range(0, len(scenes), 8)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [found for part in pool.map(one, parts) for found in part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[320, 416], help="sides in px")
    parser.add_argument("--scenes", type=int, default=512, help="of each size")
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--each", type=int, default=64, help="scenes in a draw, none of them twice")
    args = parser.parse_args()
    begin, rng = time.perf_counter(), np.random.default_rng(0)
    model = yolo(decode=False)
    draws = [rng.choice(args.scenes, args.each, replace=False).tolist() for _ in range(args.draws)]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        variants = {
            REFERENCE: in_torch(model),
            "FP32, ONNX Runtime": in_onnxruntime(model, folder, args.sizes),
            "FP16 weights and arithmetic, PyTorch": in_torch(model, torch.float16),
            "bfloat16 weights and arithmetic, PyTorch": in_torch(model, torch.bfloat16),
            "FP32, weights of 8 bits, PyTorch": in_torch(coarse(model, 8)),
            "FP32, weights of 6 bits, PyTorch": in_torch(coarse(model, 6)),
        }
        for size in args.sizes:
            scenes = [scene(10_000 + seed, size) for seed in range(args.scenes)]
            maps: dict[str, np.ndarray] = {}
            for name, detector in variants.items():
                found = find(detector, scenes)
                maps[name] = np.array(
                    [
                        mean_average_precision([found[i] for i in draw], [scenes[i] for i in draw]).map50_95
                        for draw in draws
                    ]
                )
                lost = 100 * (maps[REFERENCE] - maps[name])
                print(
                    f"{time.perf_counter() - begin:5.0f} s  {size} px, {name}: mAP {100 * maps[name].mean():.2f} % "
                    f"(deviation {100 * maps[name].std(ddof=1):.2f}), lost {lost.mean():.3f} points "
                    f"(deviation {lost.std(ddof=1):.3f}, most {lost.max():.3f})",
                    flush=True,
                )
                results.append(
                    {"size": size, "variant": name, "map50_95": maps[name].tolist(), "points_lost": lost.tolist()}
                )
                save(args, draws, results)  # what is done stays, should the rest be ended


def save(args: argparse.Namespace, draws: list[list[int]], results: list[dict]) -> None:
    record = {
        "command": [
            "python",
            "-m",
            "tools.thresholds.m1b_map_noise",
            f"docs/results/{args.out.name}",
            "--sizes",
            *map(str, args.sizes),
            "--scenes",
            str(args.scenes),
            "--draws",
            str(args.draws),
            "--each",
            str(args.each),
        ],
        "machine": bench.machine(),
        "note": "mAP: COCO, IoU 0.50 to 0.95, 0 to 1, one number a draw. points_lost: of 100, against FP32 in PyTorch "
        "on the same draw. The scenes are course.data.scenes.scene(10000 + i, size).",
        "draws": draws,
        "results": results,
    }
    atomic_write(args.out, json.dumps(record, indent=1, default=str).encode())


if __name__ == "__main__":
    main()
