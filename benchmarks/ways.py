"""An operator that TensorRT does not have, in five ways on one GPU: time, error, and lines to maintain.

    python -m benchmarks.ways --out docs/results/<card>/ways [--dry]

The network of `course.native.fold.restorer` ends in a fold (ONNX: Col2Im). Ways: all of it in PyTorch; the fold rewritten as
a transposed convolution; decomposed into shuffles, pads and additions; the engine cut before it and the rest in PyTorch, on
the GPU and on the CPU with copies; a plugin. All in FP16, 512 x 512 pixels. In --out: batch1.json and batch8.json
(raw times, in turns in one process), summary.json (medians, errors against FP32, builds, lines, what the parser said). Engines
lie in --work. --dry does on a CPU what can be done there: models, ways, errors in FP32; no times, no engines.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime
import torch

from course import bench
from course.engine.trt import features
from course.export import export
from course.files import atomic_write
from course.native import fold, plugin
from course.native.fold import restorer

SIDE, MOST = 512, 8
WAYS = {"rewritten": restorer.rewritten, "decomposed": restorer.decomposed}


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def write_models(work: Path) -> dict[str, bytes]:
    """way -> ONNX, FP32, with a dynamic batch."""
    image, models = torch.rand(2, 3, SIDE, SIDE), {}
    for name, module in {
        "rewritten": restorer.Restorer(restorer.rewritten),
        "decomposed": restorer.Restorer(restorer.decomposed),
        "cut": restorer.body(),
    }.items():
        path, output = work / f"{name}.onnx", restorer.PATCHES if name == "cut" else "restored"
        export(
            module,
            (image,),
            path,
            input_names=["image"],
            output_names=[output],
            dynamic={"image": {0: "n"}},
            target="8.6",
        )
        models[name] = path.read_bytes()
    models["Col2Im"] = restorer.with_col2im(work / "cut.onnx").SerializeToString()
    models["plugin"] = restorer.with_plugin(work / "cut.onnx", plugin_version="1").SerializeToString()
    return models


def lines_of(way: str) -> int:
    """Lines that somebody has to maintain, without empty ones and comments."""
    text = (
        inspect.getsource(WAYS[way])
        if way in WAYS
        else fold.text("fold.cu") + fold.text("fold.cuh") + fold.text("fold.h")
    )
    if way == "plugin":
        text += fold.source()
    elif way.startswith("cut"):
        text = inspect.getsource(Cut)
    kept = [line.strip() for line in text.splitlines() if line.strip()]
    return sum(not line.startswith(("//", "#", '"""')) for line in kept)


class Engine:
    """A plan on this GPU; `run` enqueues on PyTorch's current stream."""

    def __init__(self, trt, log, plan: bytes):
        self.engine = trt.Runtime(log).deserialize_cuda_engine(plan)
        self.context = self.engine.create_execution_context()
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        self.output = next(name for name in names if name != "image")

    def run(self, image: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        self.context.set_input_shape("image", tuple(image.shape))
        self.context.set_tensor_address("image", image.data_ptr())
        self.context.set_tensor_address(self.output, out.data_ptr())
        if not self.context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise SystemExit("enqueue failed")
        return out


class Cut:
    """The engine up to the patches, then PyTorch: on the GPU, or on the CPU with a copy there and one back."""

    def __init__(self, engine: Engine, patches: torch.Tensor, on_cpu: bool):
        self.engine, self.patches, self.on_cpu = engine, patches, on_cpu
        if on_cpu:
            image = torch.Size(
                (patches.shape[0], restorer.COLOURS, *(restorer.STRIDE * side for side in patches.shape[2:]))
            )
            self.host, self.back = (
                torch.empty(shape, dtype=patches.dtype, pin_memory=True) for shape in (patches.shape, image)
            )

    def run(self, image: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        self.engine.run(image, self.patches)
        if not self.on_cpu:
            return out.copy_(restorer.folded(self.patches))
        self.host.copy_(self.patches, non_blocking=True)
        torch.cuda.current_stream().synchronize()
        self.back.copy_(restorer.folded(self.host.float()))
        return out.copy_(self.back, non_blocking=True)


def parse(trt, log, model: bytes):
    """(builder, network, parser, what it said)."""
    builder = trt.Builder(log)
    network = builder.create_network(features.network_flags(trt))
    parser = trt.OnnxParser(network, log)
    said = [] if parser.parse(model) else [parser.get_error(i).desc() for i in range(parser.num_errors)]
    return builder, network, parser, said


def build(trt, log, model: bytes) -> bytes:
    builder, network, _parser, said = parse(trt, log, model)
    if said:
        raise SystemExit("\n".join(said))
    network.get_input(0).dtype = network.get_output(0).dtype = trt.float16
    config = builder.create_builder_config()
    config.builder_optimization_level = 2
    config.set_tactic_sources(0)  # no cuBLAS, no cuDNN: 8.6 would hand their handles to every V2 plugin
    features.set_precision(trt, config, "fp16", quantised=False)
    profile = builder.create_optimization_profile()
    profile.set_shape("image", (1, 3, SIDE, SIDE), (MOST, 3, SIDE, SIDE), (MOST, 3, SIDE, SIDE))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise SystemExit("no engine was built: TensorRT's log above says why")
    return bytes(plan)


def messages(trt, log, models: dict[str, bytes], work: Path) -> dict[str, list[str]]:
    """What the parser says about the operator, and about a node that does not quite name the plugin."""
    wrong = {
        "wrong name": {"op_type": "CourseUnfold"},
        "wrong version": {"plugin_version": "2"},
        "wrong namespace": {"plugin_namespace": "elsewhere"},
    }
    found = {"Col2Im": parse(trt, log, models["Col2Im"])[3]}
    for label, words in wrong.items():
        found[label] = parse(trt, log, restorer.with_plugin(work / "cut.onnx", **words).SerializeToString())[3]
    return found


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--work", type=Path, default=Path("/tmp/ways"))
    arguments.add_argument("--dry", action="store_true")
    options = arguments.parse_args()
    for folder in (options.out, options.work):
        folder.mkdir(parents=True, exist_ok=True)
    models = write_models(options.work)
    say(f"models: {', '.join(f'{name} {len(data) >> 10} kB' for name, data in models.items())}")
    lines = {way: lines_of(way) for way in ("rewritten", "decomposed", "cut", "plugin")}
    if options.dry:
        patches = restorer.body()(torch.rand(1, 3, SIDE, SIDE)).detach()
        for way, function in WAYS.items():
            say(
                f"{way}: differs by {(function(patches) - restorer.folded(patches)).abs().max().item():.1e}, {lines[way]} lines"
            )
        say(f"lines: {lines}")
        for name in ("Col2Im", "cut", "rewritten", "decomposed"):
            onnx.checker.check_model(onnx.load_from_string(models[name]))
            session = onnxruntime.InferenceSession(models[name], providers=["CPUExecutionProvider"])
            say(
                f"{name}: {session.run(None, {'image': torch.rand(1, 3, SIDE, SIDE).numpy()})[0].shape} in ONNX Runtime"
            )
        return 0
    summary = measured(options.out, options.work, models) | {
        "lines": lines,
        "machine": bench.machine(),
        "command": sys.argv,
    }
    atomic_write(options.out / "summary.json", json.dumps(summary, indent=1).encode())
    print(json.dumps({name: value for name, value in summary.items() if name != "machine"}, indent=1))
    return 0


def measured(out: Path, work: Path, models: dict[str, bytes]) -> dict:
    import tensorrt as trt

    log = trt.Logger(trt.Logger.WARNING)
    major, minor = torch.cuda.get_device_capability()
    began = time.perf_counter()
    library = plugin.build(fold.write(work / "fold", fold.source()), architecture=f"sm_{major}{minor}")
    plugin.load(library, trt.__version__)
    summary: dict = {
        "tensorrt": trt.__version__,
        "side": SIDE,
        "plugin_compiled_s": round(time.perf_counter() - began, 1),
    }
    summary["messages"] = messages(trt, log, models, work)
    say("the parser was asked")
    engines = {}
    for name in ("cut", "rewritten", "decomposed", "plugin"):
        began = time.perf_counter()
        engines[name] = Engine(trt, log, build(trt, log, models[name]))
        summary.setdefault("built_s", {})[name] = round(time.perf_counter() - began, 1)
        say(f"{name}: built in {summary['built_s'][name]} s")
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = False, True
    exact, half = restorer.Restorer().cuda(), restorer.Restorer().cuda().half()
    torch.cuda.synchronize()
    for batch in (1, MOST):
        # a stream of its own: TensorRT waits in each enqueue on the default one
        with torch.inference_mode(), torch.cuda.stream(torch.cuda.Stream()):
            image = torch.rand(batch, 3, SIDE, SIDE, device="cuda")
            ways, row = runs(engines, half, image.half()), {}
            wanted = exact(image)
            for way, call in ways.items():
                answer = call()
                torch.cuda.synchronize()
                row[way] = {"error": float((answer.float() - wanted).abs().max())}
            found = bench.compare_many(ways, device="cuda", rounds=100, max_seconds=8)
        bench.save(found, out / f"batch{batch}.json")
        first = next(iter(found.values())).b
        row[first.label]["p50_ms"] = round(first.p50, 4)
        for way, pair in found.items():
            row[way] |= {
                "p50_ms": round(pair.a.p50, 4),
                "times": [round(one, 3) for one in (pair.ratio, pair.low, pair.high)],
            }
        summary.setdefault("results", {})[f"b{batch}"] = row
        say(f"batch {batch}: " + ", ".join(f"{way} {row[way]['p50_ms']} ms" for way in row))
    return summary


def runs(
    engines: dict[str, Engine], half: torch.nn.Module, image: torch.Tensor
) -> dict[str, Callable[[], torch.Tensor]]:
    """way -> a call that enqueues it and returns its output; the first is the baseline."""
    n, side = image.shape[0], SIDE // restorer.STRIDE
    patches = torch.empty(n, 192, side, side, dtype=image.dtype, device=image.device)
    out = {way: torch.empty_like(image) for way in ("rewritten", "decomposed", "cut, GPU", "cut, CPU", "plugin")}
    cuts = {"cut, GPU": Cut(engines["cut"], patches, False), "cut, CPU": Cut(engines["cut"], patches, True)}
    return {
        "PyTorch": lambda: half(image),
        **{way: (lambda w=way: engines[w].run(image, out[w])) for way in ("rewritten", "decomposed")},
        **{way: (lambda w=way: cuts[w].run(image, out[w])) for way in cuts},
        "plugin": lambda: engines["plugin"].run(image, out["plugin"]),
    }


if __name__ == "__main__":
    raise SystemExit(main())
