"""ResNet-50 on one GPU: precisions and batch sizes, TensorRT against PyTorch and ONNX Runtime, accuracy beside speed.

    python benchmarks/resnet50_matrix.py --out docs/results/resnet50_h200

Everything that runs in this process is measured interleaved (course.bench.compare_many), so that all contestants
see the same machine. What cannot run (no TensorRT, no ONNX Runtime CUDA, torch.compile without Triton) is listed in
the result with the reason. Engines and the timing cache are kept in --work, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from course import bench, engine, models
from course.data import cifar10, metrics, preprocess

PRECISIONS = ("fp32", "tf32", "fp16")
TUNED_BATCH, LARGEST_BATCH = 64, 256  # of the engines' optimisation profile


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


# ---------------------------------------------------------------- PyTorch


def torch_contestants(model: torch.nn.Module) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """PyTorch eager in three precisions and torch.compile, each a function of a float32 CUDA batch."""
    plain = model.cuda().eval()
    half = models.resnet50("cifar10").cuda().eval().half().to(memory_format=torch.channels_last)
    torch.backends.cudnn.benchmark = True

    def allow_tf32(on: bool) -> None:  # for every contestant: torch.compile compiles anew when it finds it changed
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = on

    def precise(tf32: bool):
        def run(x):
            allow_tf32(tf32)
            return plain(x)

        return run

    compiled = torch.compile(half, mode="reduce-overhead", dynamic=False)  # fuses, and replays CUDA graphs

    def half_eager(x):
        allow_tf32(True)
        return half(x.half().to(memory_format=torch.channels_last)).float()

    def half_compiled(x):
        allow_tf32(True)
        torch.compiler.cudagraph_mark_step_begin()
        return compiled(x.half().to(memory_format=torch.channels_last)).float()

    return {
        "PyTorch eager fp32": precise(False),
        "PyTorch eager tf32": precise(True),
        "PyTorch eager fp16 channels_last": half_eager,
        "torch.compile fp16 (CUDA graphs)": half_compiled,
    }


# ---------------------------------------------------------------- TensorRT


def build_engines(onnx_path: Path, work: Path, level: int, rebuild: bool) -> tuple[dict[str, engine.Engine], list]:
    """One engine a precision, with one profile for all batch sizes; and how long each build took."""
    record = work / "builds.json"
    log = json.loads(record.read_text()) if record.exists() else []
    profile = engine.Profile.batch(onnx_path, 1, TUNED_BATCH, LARGEST_BATCH)
    engines = {}
    for precision in PRECISIONS:
        path = work / f"resnet50_{precision}.engine"
        if path.exists():
            engines[precision] = engine.load(path)
            say(f"{precision}: loaded {path.name}")
            continue
        cache = work / f"timing_{precision}.cache"
        for attempt in ("without timing cache", "with timing cache"):
            if attempt.startswith("with ") and (precision != "fp16" or not rebuild):
                continue  # one precision is enough to show what the cache is worth
            built = engine.build(
                onnx_path,
                engine.BuildConfig(
                    precision=precision, profiles=(profile,), optimization_level=level, timing_cache=cache
                ),
            )
            log.append(
                {
                    "precision": precision,
                    "attempt": attempt,
                    "optimization_level": level,
                    "profile": [1, TUNED_BATCH, LARGEST_BATCH],
                    "seconds": built.build_seconds,
                    "plan_bytes": built.memory().plan_bytes,
                    "layers": len(built.layers()),
                }
            )
            record.write_text(json.dumps(log))
            say(f"{precision} {attempt}: {built.build_seconds:.1f} s, {log[-1]['layers']} layers")
        built.save(path)
        engines[precision] = built
    return engines, log


def tensorrt_contestants(engines: dict[str, engine.Engine], batch: torch.Tensor) -> dict[str, Callable]:
    """Each engine with plain enqueue and with a CUDA graph, on device tensors (no copies in the timed region)."""
    contestants = {}
    for precision, built in engines.items():
        (name,) = (spec.name for spec in built.inputs)
        contestants[f"TensorRT {precision}"] = lambda e=built, n=name: e.run({n: batch})
        contestants[f"TensorRT {precision} + CUDA graph"] = built.capture({name: batch}).replay
    return contestants


# ---------------------------------------------------------------- ONNX Runtime


def onnxruntime_sessions(onnx_path: Path) -> dict:
    """Sessions of ONNX Runtime's CUDA provider on torch's current stream. TF32 is its default, so both are named.

    Raises:
        RuntimeError: this ONNX Runtime cannot use the GPU.
    """
    import onnxruntime

    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise RuntimeError("this ONNX Runtime has no CUDA provider")
    sessions = {}
    for label, tf32 in (("ONNX Runtime CUDA fp32", "0"), ("ONNX Runtime CUDA tf32", "1")):
        options = {"use_tf32": tf32, "user_compute_stream": str(torch.cuda.current_stream().cuda_stream)}
        sessions[label] = onnxruntime.InferenceSession(str(onnx_path), providers=[("CUDAExecutionProvider", options)])
        if sessions[label].get_providers()[0] != "CUDAExecutionProvider":
            raise RuntimeError("the CUDA provider did not load; see ONNX Runtime's log")
    return sessions


def bound_run(session, batch: torch.Tensor) -> Callable[[], torch.Tensor]:
    """A run with input and output bound on the device, so that nothing is copied in the timed region."""
    binding, output = session.io_binding(), torch.empty(len(batch), 10, device="cuda")
    binding.bind_input(session.get_inputs()[0].name, "cuda", 0, np.float32, tuple(batch.shape), batch.data_ptr())
    binding.bind_output(session.get_outputs()[0].name, "cuda", 0, np.float32, tuple(output.shape), output.data_ptr())

    def run(keep=(batch, output)):  # `keep` holds the memory that was bound
        session.run_with_iobinding(binding)
        return keep[1]

    return run


# ---------------------------------------------------------------- accuracy


def top1(run: Callable[[torch.Tensor], torch.Tensor], batches: list[torch.Tensor], labels: np.ndarray) -> float:
    """Share of images (0–1) whose best class is the label."""
    return float(metrics.top1(torch.cat([run(batch).float() for batch in batches]).cpu().numpy(), labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the raw samples and summary.json")
    parser.add_argument("--work", type=Path, default=Path("build/resnet50_matrix"), help="engines and caches")
    parser.add_argument("--onnx", type=Path, help="take this ResNet-50 instead of exporting it")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64, 256])
    parser.add_argument("--level", type=int, default=2, help="builder optimisation level")
    parser.add_argument("--rounds", type=int, default=200, help="samples of each contestant per batch size")
    parser.add_argument("--seconds", type=float, default=30.0, help="longest measurement per batch size")
    parser.add_argument("--no-rebuild", action="store_true", help="do not build FP16 again with its timing cache")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    args.work.mkdir(parents=True, exist_ok=True)

    model = models.resnet50("cifar10")
    images = [cifar10.images(split) for split in ("calibration", "public")]
    pixels, labels = (np.concatenate([getattr(i, field) for i in images]) for field in ("pixels", "labels"))
    example = torch.from_numpy(preprocess.classifier(pixels[:2]))
    onnx_path = args.onnx or args.work / "resnet50.onnx"
    if not onnx_path.exists():
        from course.export import export  # needs the exporter's packages, which a machine that only measures may lack

        export(
            model,
            (example,),
            onnx_path,
            input_names=("images",),
            output_names=("logits",),
            dynamic={"images": {0: "batch"}, "logits": {0: "batch"}},
            target="8.6",
        )

    not_run: dict[str, str] = {}
    in_torch = torch_contestants(model)
    if args.no_compile:
        in_torch.pop("torch.compile fp16 (CUDA graphs)")
    reason = engine.available_runtimes()["tensorrt"]
    engines, builds = ({}, []) if reason else build_engines(onnx_path, args.work, args.level, not args.no_rebuild)
    if reason:
        not_run["TensorRT"] = reason

    # Batch 8 is timed too, so torch.compile has it anyway.
    batches = [torch.from_numpy(preprocess.classifier(pixels[i : i + 8])).cuda() for i in range(0, len(pixels), 8)]
    accuracy = {}
    for name, run in list(in_torch.items()):
        try:
            accuracy[name] = top1(run, batches, labels)
        except Exception as error:  # torch.compile needs a compiler toolchain; the reason belongs into the result
            not_run[name] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            in_torch.pop(name)
    for precision, built in engines.items():
        accuracy[f"TensorRT {precision}"] = top1(lambda x: built.run({"images": x})["logits"], batches, labels)
    try:
        sessions = onnxruntime_sessions(onnx_path)
    except Exception as error:  # a wheel without CUDA, or one whose libraries are not here
        sessions, not_run["ONNX Runtime CUDA"] = {}, str(error).splitlines()[0]
    for name, session in sessions.items():
        accuracy[name] = top1(lambda x: bound_run(session, x)(), batches, labels)
    say("top-1 on the 2 000 shipped test images: " + ", ".join(f"{k} {v:.2%}" for k, v in accuracy.items()))

    rows, too_few = [], []
    for size in args.batches:
        batch = torch.from_numpy(preprocess.classifier(np.resize(pixels, (size, 32, 32, 3)))).cuda()
        contestants = {name: (lambda run=run: run(batch)) for name, run in in_torch.items()}
        contestants |= tensorrt_contestants(engines, batch)
        contestants |= {name: bound_run(session, batch) for name, session in sessions.items()}
        for run in contestants.values():  # compiling, cuDNN's search and graph recording take longer than the timing
            for _ in range(3):
                run()
        torch.cuda.synchronize()
        result = bench.compare_many(
            contestants,
            device="cuda",
            items=dict.fromkeys(contestants, size),
            rounds=args.rounds,
            max_seconds=args.seconds,
        )
        bench.save(result, args.out / f"batch{size}.json")
        first = next(iter(result.values())).b
        if len(first.milliseconds) < bench.FEWEST_ROUNDS:
            too_few.append(size)
        for samples, ratio in [(first, None), *((c.a, (c.ratio, c.low, c.high)) for c in result.values())]:
            rows.append(
                {
                    "batch": size,
                    "name": samples.label,
                    "samples": len(samples.milliseconds),
                    "p50_ms": samples.p50,
                    "p90_ms": samples.p90,
                    "p99_ms": samples.p99,
                    "images_per_s": samples.items_per_second,
                    "speedup_over_first": ratio,
                    "top1": accuracy.get(samples.label.removesuffix(" + CUDA graph")),
                }
            )
            say(f"batch {size:3d}  {samples.label:36s} {samples.p50:8.3f} ms  {samples.items_per_second:9.0f} images/s")

    summary = {
        "command": " ".join(sys.argv),
        "machine": bench.machine(),
        "rows": rows,
        "builds": builds,
        "accuracy_images": len(pixels),
        "accuracy": accuracy,
        "not_run": not_run,
    }
    (args.out / "summary.json").write_text(json.dumps(summary, indent=1))
    say(f"wrote {args.out}; not run: {not_run or 'nothing'}")
    if too_few:
        sys.exit(
            f"Batch {too_few}: fewer than {bench.FEWEST_ROUNDS} rounds fitted into --seconds {args.seconds:g}. "
            "These times are no evidence; give more seconds."
        )


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    with torch.cuda.stream(torch.cuda.Stream()):  # one stream for all, so that the timer sees every contestant's work
        main()
