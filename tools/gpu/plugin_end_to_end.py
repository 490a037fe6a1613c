"""A plugin from its sources to an engine on one GPU: built, put into a network in two ways, saved, run in a new process.

    python -m tools.gpu.plugin_end_to_end --out docs/results/<card>/plugin

The plugin is the CourseSwish of tests/native/plugins/swish (IPluginV2DynamicExt; TensorRT 8 and 10). In --out:
summary.json with the largest errors against NumPy, the layers that the inspector names and the seconds; fp32.json and
fp16.json with raw times of the plugin's engine beside TensorRT's standard layers for the same function and a device copy.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import tensorrt as trt
import torch
from onnx import TensorProto, helper

from course import bench
from course.files import atomic_write
from course.kernels.on_gpu import captured
from course.native import plugin
from course.paths import ROOT

SOURCES = ROOT / "tests" / "native" / "plugins" / "swish"
BETA, COUNT = 1.5, 1 << 25
LOG = trt.Logger(trt.Logger.WARNING)
TYPES = {
    "fp32": (TensorProto.FLOAT, np.float32, torch.float32),
    "fp16": (TensorProto.FLOAT16, np.float16, torch.float16),
}


def swish(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return x / (1 + np.exp(-BETA * x))


def onnx_model(kind: str, custom: bool) -> bytes:
    """x [n] -> y [n]: as one node of the plugin's name, or as Mul, Sigmoid, Mul."""
    element, numpy_type, _ = TYPES[kind]
    if custom:
        nodes = [helper.make_node("CourseSwish", ["x"], ["y"], domain="course", beta=BETA, plugin_version="1")]
        weights = []
    else:
        nodes = [
            helper.make_node("Mul", ["x", "beta"], ["scaled"]),
            helper.make_node("Sigmoid", ["scaled"], ["gate"]),
            helper.make_node("Mul", ["x", "gate"], ["y"]),
        ]
        weights = [onnx.numpy_helper.from_array(np.array([BETA], numpy_type), "beta")]
    graph = helper.make_graph(
        nodes,
        "swish",
        [helper.make_tensor_value_info("x", element, ["n"])],
        [helper.make_tensor_value_info("y", element, ["n"])],
        weights,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("course", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def network(kind: str, way: str):
    """way: "by hand" (add_plugin_v2), "ONNX" (the parser finds the plugin by its name) or "standard"."""
    builder = trt.Builder(LOG)
    made = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    if way == "by hand":
        x = made.add_input("x", trt.float32 if kind == "fp32" else trt.float16, (-1,))
        creator = trt.get_plugin_registry().get_plugin_creator("CourseSwish", "1", "")
        fields = [trt.PluginField("beta", np.array([BETA], np.float32), trt.PluginFieldType.FLOAT32)]
        layer = made.add_plugin_v2([x], creator.create_plugin("swish", trt.PluginFieldCollection(fields)))
        y = layer.get_output(0)
        y.name = "y"
        made.mark_output(y)
        y.dtype = x.dtype
    else:
        parser = trt.OnnxParser(made, LOG)
        if not parser.parse(onnx_model(kind, way == "ONNX")):
            raise SystemExit("\n".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    return builder, made


def build(kind: str, way: str, path: Path) -> float:
    builder, made = network(kind, way)
    config = builder.create_builder_config()
    config.builder_optimization_level = 2
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    # TensorRT 8.6 makes handles of cuBLAS and cuDNN for a V2 plugin unless these sources are off; this plugin needs none.
    config.set_tactic_sources(0)
    if kind == "fp16":
        config.set_flag(trt.BuilderFlag.FP16)
    profile = builder.create_optimization_profile()
    profile.set_shape("x", (1,), (COUNT,), (COUNT,))
    config.add_optimization_profile(profile)
    begin = time.perf_counter()
    if (plan := builder.build_serialized_network(made, config)) is None:
        raise SystemExit(f"{kind}, {way}: TensorRT built nothing; its log above says why.")
    atomic_write(path, bytes(plan))
    return round(time.perf_counter() - begin, 1)


class Plan:
    """A plan file on this GPU. `run(x)` enqueues on PyTorch's current stream."""

    def __init__(self, path: Path, kind: str):
        self.engine = trt.Runtime(LOG).deserialize_cuda_engine(path.read_bytes())
        self.context, self.kind = self.engine.create_execution_context(), kind
        inspector = self.engine.create_engine_inspector()
        # A plugin's metadata holds control characters, which TensorRT 8.6 writes as they are.
        self.layers = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON), strict=False)[
            "Layers"
        ]

    def run(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.context.set_input_shape("x", tuple(x.shape))
        self.context.set_tensor_address("x", x.data_ptr())
        self.context.set_tensor_address("y", y.data_ptr())
        if not self.context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise SystemExit("enqueue failed")


def errors(plan: Plan) -> dict[str, float]:
    """Largest error, relative to the largest value, at sizes with tails."""
    found = {}
    for count in (1, 31, 4099, 1 << 20):
        x = np.random.default_rng(count).normal(0, 3, count).astype(TYPES[plan.kind][1])
        given = torch.from_numpy(x).cuda()
        out = torch.full_like(given, float("nan"))
        plan.run(given, out)
        torch.cuda.synchronize()
        wanted = swish(x)
        found[str(count)] = float(np.abs(out.cpu().numpy() - wanted).max() / np.abs(wanted).max())
    return found


def times(kind: str, folder: Path, out: Path) -> dict[str, float]:
    x = torch.randn(COUNT, device="cuda", dtype=TYPES[kind][2])
    y = torch.empty_like(x)
    calls = {"copy": lambda: y.copy_(x)}
    plans = {way: Plan(folder / f"{kind}-{way.replace(' ', '_')}.plan", kind) for way in ("ONNX", "standard")}
    for way, plan in plans.items():
        calls["plugin" if way == "ONNX" else way] = lambda plan=plan: plan.run(x, y)
        plan.run(x, y)
        calls[("plugin" if way == "ONNX" else way) + ", graph"] = captured(lambda plan=plan: plan.run(x, y))
    found = bench.compare_many(calls, device="cuda", rounds=150, max_seconds=8)
    bench.save(found, out / f"{kind}.json")
    return {label: round(pair.ratio, 4) for label, pair in found.items()}


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--work", type=Path, default=Path("/tmp/plugin"))
    arguments.add_argument("--again", action="store_true", help="only load the plans and compare: the new process")
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    options.work.mkdir(parents=True, exist_ok=True)
    capability = torch.cuda.get_device_capability()
    begin = time.perf_counter()
    library = plugin.build(SOURCES, architecture=f"sm_{capability[0]}{capability[1]}")
    compiled = round(time.perf_counter() - begin, 1)
    plugin.load(library, trt.__version__)
    ways = [
        (kind, way, options.work / f"{kind}-{way.replace(' ', '_')}.plan")
        for kind in TYPES
        for way in ("by hand", "ONNX")
    ]
    if options.again:
        print(json.dumps({f"{kind} {way}": errors(Plan(path, kind)) for kind, way, path in ways}))
        return 0
    summary: dict[str, object] = {"tensorrt": trt.__version__, "machine": bench.machine(), "compiled_s": compiled}
    for kind, way, path in [*ways, *((kind, "standard", options.work / f"{kind}-standard.plan") for kind in TYPES)]:
        seconds = build(kind, way, path)
        plan = Plan(path, kind)
        summary[f"{kind} {way}"] = {"built_s": seconds, "errors": errors(plan), "layers": plan.layers}
        print(kind, way, seconds, "s", flush=True)
    command = [
        sys.executable,
        "-m",
        "tools.gpu.plugin_end_to_end",
        "--again",
        "--out",
        options.out,
        "--work",
        options.work,
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT)
    summary["in a new process"] = (
        json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else done.stderr[-2000:]
    )
    atomic_write(options.out / "summary.json", json.dumps(summary, indent=1).encode())
    for kind in TYPES:
        summary[f"{kind} speed, times a copy's"] = times(kind, options.work, options.out)
        atomic_write(options.out / "summary.json", json.dumps(summary, indent=1).encode())
    print(json.dumps({name: value for name, value in summary.items() if "speed" in name}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
