"""The detector in INT8 on one GPU: mAP and time beside FP32 and FP16.

    python -m benchmarks.yolo_int8 --out docs/results/h100/yolo_int8 [--size 320] [--batch 8] [--scenes 256]

Engines of one fixed shape at builder level 0: TensorRT 8.6 takes long for this detector (docs/results/README.md). Without
a GPU it runs what a CPU can, to try the script.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks.resnet50_int8 import contestants, say
from course import bench, engine, quantize
from course.data.metrics import mean_average_precision
from course.data.scenes import scene
from course.errors import CourseError
from course.files import atomic_write
from course.models import nms, yolo
from course.models.yolo import decode_numpy

CALIBRATION_SCENES = 128


def compose(count: int, size: int, first_seed: int) -> list:
    return [scene(seed, (size, size)) for seed in range(first_seed, first_seed + count)]


def pixels(scenes: list) -> np.ndarray:
    """float32 [N, 3, H, W], 0 to 1."""
    return np.stack([one.image for one in scenes]).transpose(0, 3, 1, 2).astype(np.float32) / 255


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("build/yolo_int8"))
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--scenes", type=int, default=256, help="a multiple of the batch")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20.0)
    args = parser.parse_args(argv)
    for folder in (args.out, args.work):
        folder.mkdir(parents=True, exist_ok=True)
    gpu = engine.available_runtimes()["tensorrt"] is None
    say("TensorRT on a GPU" if gpu else "no TensorRT on a GPU: a trial on the CPU")

    calibration = pixels(compose(CALIBRATION_SCENES, args.size, 50_000))
    scenes = compose(args.scenes, args.size, 90_000)
    x = pixels(scenes)
    plain = args.work / "yolo.onnx"
    if not plain.exists():
        from course.export import export

        export(
            yolo(decode=False),
            (torch.from_numpy(x[:2]),),
            plain,
            input_names=["image"],
            output_names=["raw"],
            dynamic={"image": {0: "batch"}},
            target="8.6",
        )
    models = {"FP16": (plain, "fp16"), "FP32": (plain, "fp32")}
    for name, placement in (("Q/DQ good", "tensorrt"), ("Q/DQ default", "outputs")):
        path = args.work / f"{placement}.onnx"
        if not path.exists():
            proto = quantize.ptq(plain, calibration, "entropy", placement, batch=args.batch).proto
            atomic_write(path, proto.SerializeToString())
        models[name] = (path, "int8")
    if not gpu:
        models.pop("FP16")

    rows, engines = {}, {}
    summary = {
        "command": sys.argv,
        "machine": bench.machine(),
        "size": args.size,
        "batch": args.batch,
        "scenes": args.scenes,
        "calibration_scenes": CALIBRATION_SCENES,
        "results": rows,
    }

    def keep() -> None:  # after each engine: device time can end in the middle of a build
        atomic_write(args.out / "summary.json", json.dumps(summary, indent=1, default=str).encode())

    for name, (path, precision) in models.items():
        config = engine.BuildConfig(precision, (engine.Profile.batch(path, args.batch, args.batch, args.batch),))
        if gpu:
            config = dataclasses.replace(config, runtime="tensorrt", optimization_level=0)
        try:
            built = engines[name] = engine.build(path, config)
        except CourseError as error:  # a placement that this TensorRT cannot build is a result, too
            rows[name] = {"not_built": str(error)}
            say(f"{name}: NOT BUILT, {error}")
            keep()
            continue
        found = []
        for start in range(0, len(x), args.batch):
            tensor = torch.from_numpy(x[start : start + args.batch]).to("cuda" if gpu else "cpu")
            (raw,) = built.run({"image": tensor}).values()
            boxes, scores = decode_numpy(np.asarray(raw.float().cpu()), (args.size, args.size))
            found += nms(boxes, scores)
        score = mean_average_precision(found, scenes)
        layers = built.layers()
        rows[name] = {
            "map50_95": score.map50_95,
            "map50": score.map50,
            "layers": len(layers),
            "plan_bytes": built.memory().plan_bytes,
            "seconds": built.build_seconds,
        }
        say(f"{name}: mAP {100 * score.map50_95:.2f}, {len(layers)} layers, built in {built.build_seconds:.1f} s")
        keep()
    tensor = torch.from_numpy(x[: args.batch]).to("cuda" if gpu else "cpu")
    runs = contestants(engines, tensor, gpu)  # the first is what the others are compared with
    pairs = bench.compare_many(
        runs,
        device="cuda" if gpu else "cpu",
        items=dict.fromkeys(runs, args.batch),
        rounds=args.rounds,
        max_seconds=args.seconds,
    )
    bench.save(pairs, args.out / "times.json")
    first = next(iter(pairs.values())).b
    for samples, pair in [(first, None), *((pair.a, pair) for pair in pairs.values())]:
        rows[samples.label] |= {
            "p50_ms": samples.p50,
            "times_first": [1.0, 1.0, 1.0] if pair is None else [pair.ratio, pair.low, pair.high],
        }
        say(f"{samples.label}: {samples.p50:.3f} ms")
    summary["first"] = first.label
    keep()


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    if torch.cuda.is_available():
        with torch.cuda.stream(torch.cuda.Stream()):
            main()
    else:
        main()
