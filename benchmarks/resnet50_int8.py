"""ResNet-50 in INT8 on one GPU: implicit and explicit quantisation beside FP32, TF32 and FP16; accuracy beside speed.

    python -m benchmarks.resnet50_int8 --out docs/results/h100/int8 [--batches 1 8 64 256] [--level 2]

One engine a variant and batch size, each with a profile of that size alone, replayed as a CUDA graph; all engines of a
batch size are timed in turns in one process. Engines and one timing cache are kept in --work, so an interrupted run goes
on. Top-1 is measured on the 1 744 images that no calibration has seen: the public ones and the rest of the calibration's.
Without a GPU it runs what a CPU can, to try the script: those numbers are the CPU's.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from course import bench, engine, quantize
from course.data import cifar10, metrics, preprocess
from course.files import atomic_write

CALIBRATION_IMAGES = 256
CALIBRATION_BATCH = 64
DAMAGED = "?"
EXPLICIT = {
    "Q/DQ good": "tensorrt",
    "Q/DQ default": "outputs",
    "Q/DQ inputs": "inputs",
    "Q/DQ both sides": "both",
}
"""Name -> placement of `course.quantize`. "default" is where ONNX Runtime puts its pairs: after every operator."""


@dataclasses.dataclass(frozen=True)
class Variant:
    name: str
    precision: str
    onnx: Path
    implicit: bool = False


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def variants(work: Path, images: np.ndarray, plain: Path, names: list[str]) -> list[Variant]:
    """The models, written once. The good engine has every Gemm in INT8, as the spike's had."""
    found = [Variant(name.upper(), name, plain) for name in ("fp32", "tf32", "fp16")]
    found.append(Variant("INT8 implicit", "int8", plain, implicit=True))
    histograms = None
    for name, placement in EXPLICIT.items():
        path = work / f"{placement}.onnx"
        if not path.exists():
            if histograms is None:
                tensors = {t for p in EXPLICIT.values() for t in quantize.tensors_to_calibrate(plain, p)}
                histograms = quantize.collect(plain, images, sorted(tensors), batch=16)
            proto = quantize.quantize(plain, quantize.scales(histograms, "entropy"), placement)
            atomic_write(path, proto.SerializeToString())
        found.append(Variant(name, "int8", path))
    return [variant for variant in found if not names or variant.name in names]


def build(variant: Variant, batch: int, work: Path, level: int, images: np.ndarray, gpu: bool) -> tuple:
    """The engine of a variant for one batch size, and what there is to say about its build."""
    file = work / f"{variant.name.replace(' ', '_').replace('/', '')}_b{batch}.engine"
    note = file.with_suffix(".json")
    if file.exists() and note.exists():
        return engine.load(file), json.loads(note.read_text())
    profile = engine.Profile.batch(variant.onnx, batch, batch, batch)
    config = engine.BuildConfig(precision=variant.precision, profiles=(profile,))
    if gpu:
        config = dataclasses.replace(
            config, runtime="tensorrt", optimization_level=level, timing_cache=work / "timing.cache"
        )
    if variant.implicit:
        import tensorrt

        # TensorRT calibrates with batches of the profile's size: as many images at every size.
        rows = images[: max(batch, CALIBRATION_IMAGES)]
        cache = work / f"implicit_b{batch}.calibration"
        with quantize.entropy_calibrator(tensorrt, variant.onnx, rows, batch=batch, cache=cache) as calibrator:
            built = engine.build(variant.onnx, dataclasses.replace(config, calibrator=calibrator))
    else:
        built = engine.build(variant.onnx, config)
    layers = built.layers()
    record = {
        "variant": variant.name,
        "batch": batch,
        "level": level if gpu else None,
        "seconds": built.build_seconds,
        "plan_bytes": built.memory().plan_bytes,
        "onnx_bytes": variant.onnx.stat().st_size,
        "layers": len(layers),
        "kinds": Counter(layer.kind for layer in layers),
        "precisions": Counter(layer.precision or DAMAGED for layer in layers),
        "layer_list": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "precision": layer.precision,
                "inputs": [(t.name, t.dtype, t.format) for t in layer.inputs],
                "outputs": [(t.name, t.dtype, t.format) for t in layer.outputs],
                "tactic": layer.tactic,
            }
            for layer in layers
        ],
    }
    built.save(file)
    note.write_text(json.dumps(record, indent=1))
    return built, record


def contestants(engines: dict[str, engine.Engine], x: torch.Tensor, gpu: bool) -> dict[str, Callable[[], object]]:
    """Each engine as a CUDA graph on a device tensor: no copies and no launches in the timed region."""
    runs = {}
    for name, built in engines.items():
        (spec,) = built.inputs
        if gpu:
            runs[name] = built.capture({spec.name: x}).replay
        else:
            runs[name] = lambda e=built, n=spec.name: e.run({n: x})
    return runs


def accuracy(
    built: engine.Engine, x: np.ndarray, labels: np.ndarray, batch: int, gpu: bool
) -> tuple[float, np.ndarray]:
    """Top-1 (0 to 1), and the logits float32 [N, 10]."""
    (spec,), answers = built.inputs, []
    for start in range(0, len(x), batch):
        part = np.resize(x[start : start + batch], (batch, *x.shape[1:]))
        tensor = torch.from_numpy(part).to("cuda" if gpu else "cpu")
        (logits,) = built.run({spec.name: tensor}).values()
        answers.append(np.asarray(logits.float().cpu())[: len(x) - start])
    logits = np.concatenate(answers)
    return float(metrics.top1(logits, labels)), logits


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for raw samples, layer lists, summary.json")
    parser.add_argument("--work", type=Path, default=Path("build/resnet50_int8"), help="models, engines, timing cache")
    parser.add_argument("--onnx", type=Path, help="take this ResNet-50 instead of exporting it")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64, 256])
    parser.add_argument("--variants", nargs="*", default=[], help="names; all if left out")
    parser.add_argument("--level", type=int, default=2, help="builder optimisation level")
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--seconds", type=float, default=20.0, help="longest measurement per batch size")
    parser.add_argument("--images", type=int, default=1744, help="images for top-1, at most 1 744")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    args.work.mkdir(parents=True, exist_ok=True)
    gpu = engine.available_runtimes()["tensorrt"] is None
    say("TensorRT on a GPU" if gpu else "no TensorRT on a GPU: a trial on the CPU")

    calibration, public = cifar10.images("calibration"), cifar10.images("public")
    images = preprocess.classifier(calibration.pixels[:CALIBRATION_IMAGES])
    unseen = np.concatenate([public.pixels, calibration.pixels[CALIBRATION_IMAGES:]])[: args.images]
    x = preprocess.classifier(unseen)
    labels = np.concatenate([public.labels, calibration.labels[CALIBRATION_IMAGES:]])[: args.images]
    plain = args.onnx or args.work / "resnet50.onnx"
    if not plain.exists():
        from course.export import export
        from course.models import resnet50

        export(
            resnet50(),
            (torch.from_numpy(x[:2]),),
            plain,
            input_names=["image"],
            output_names=["logits"],
            dynamic={"image": {0: "batch"}},
            target="8.6",
        )
    wanted = [v for v in variants(args.work, images, plain, args.variants) if gpu or v.precision in ("fp32", "int8")]
    wanted = [v for v in wanted if gpu or not v.implicit]

    results, not_run = {}, {}
    for batch in args.batches:
        engines, rows = {}, {}
        for variant in wanted:
            begin = time.monotonic()
            try:
                built, record = build(variant, batch, args.work, args.level, images, gpu)
            except Exception as error:  # one variant that fails must not take the others' time on the card with it
                not_run[f"{variant.name} b{batch}"] = f"{type(error).__name__}: {str(error)[:300]}"
                say(f"b{batch} {variant.name}: NOT BUILT, {not_run[f'{variant.name} b{batch}']}")
                continue
            top1, _ = accuracy(built, x, labels, batch, gpu)
            engines[variant.name] = built
            rows[variant.name] = {key: value for key, value in record.items() if key != "layer_list"} | {"top1": top1}
            name = f"layers_{variant.name.replace(' ', '_').replace('/', '')}_b{batch}.json"
            if batch in (1, 64):
                atomic_write(args.out / name, json.dumps(record["layer_list"]).encode())
            say(
                f"b{batch} {variant.name}: {record['layers']} layers, top-1 {100 * top1:.1f} %, built in "
                f"{record['seconds']:.1f} s ({time.monotonic() - begin:.0f} s)"
            )
        tensor = torch.from_numpy(np.resize(x, (batch, *x.shape[1:]))).to("cuda" if gpu else "cpu")
        order = {"FP16" if gpu else "FP32": None, **engines}  # the first is what the others are compared with
        runs = contestants({name: engines[name] for name in order if name in engines}, tensor, gpu)
        if len(runs) < 2:
            continue
        found = bench.compare_many(
            runs,
            device="cuda" if gpu else "cpu",
            items=dict.fromkeys(runs, batch),
            rounds=args.rounds,
            max_seconds=args.seconds,
        )
        bench.save(found, args.out / f"batch{batch}.json")
        first = next(iter(found.values())).b
        for samples, pair in [(first, None), *((pair.a, pair) for pair in found.values())]:
            rows[samples.label] |= {
                "p50_ms": samples.p50,
                "p99_ms": samples.p99,
                "images_per_s": samples.items_per_second,
                "times_fp16": [1.0, 1.0, 1.0] if pair is None else [pair.ratio, pair.low, pair.high],
                "samples": len(samples.milliseconds),
            }
            say(f"b{batch:3d} {samples.label:18s} {samples.p50:8.3f} ms {samples.items_per_second:9.0f} images/s")
        results[f"b{batch}"] = rows
        for built in engines.values():
            built.close()
        summary = {
            "command": sys.argv,
            "machine": bench.machine(),
            "level": args.level,
            "calibration_images": CALIBRATION_IMAGES,
            "top1_images": len(x),
            "first": first.label,
            "not_run": not_run,
            "results": results,
        }
        atomic_write(args.out / "summary.json", json.dumps(summary, indent=1, default=str).encode())
    say(f"wrote {args.out}; not run: {not_run or 'nothing'}")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    if torch.cuda.is_available():
        with torch.cuda.stream(torch.cuda.Stream()):
            main()
    else:
        main()
