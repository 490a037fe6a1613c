"""CUDA graphs on one GPU: what they gain over model sizes and batches, and what goes wrong with them, in real messages.

    python -m tools.gpu.graphs --out docs/results/<card>/graphs

In --out: summary.json; MODEL_bN.json with the raw times of a run until it is done, without a graph and with one, the
engine alone and with its copies, in turns; profiles.json with batch 1 of an engine built for 1-1-1 beside one built for
1-64-256. Each part is written as soon as it is there. Engines are FP16 at builder level 0, so that all of it takes one
to two minutes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper

from course import bench
from course.engine import log
from course.export import export
from course.files import atomic_write
from course.models import resnet50
from course.serving.graphs import Graph
from course.serving.here import cuda_here, is_real, raw_engine
from course.serving.run import Run, text
from course.serving.words import ServingError

BATCHES = {"mlp": (1, 8, 64, 256), "cnn": (1, 8, 64, 256), "resnet50": (1, 8, 64, 256)}


def mlp(path: Path) -> None:
    """x [n, 256] -> y [n, 10], three products: hardly any work, some launches."""
    random, sizes, nodes, weights, last = np.random.default_rng(0), (256, 256, 256, 10), [], [], "x"
    for number, shape in enumerate(zip(sizes, sizes[1:])):
        values = (random.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{number}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{number}"], [f"m{number}" if number < 2 else "y"]))
        if number < 2:
            nodes.append(helper.make_node("Relu", [f"m{number}"], [last := f"r{number}"]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 256])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])
    graph = helper.make_graph(nodes, "mlp", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    atomic_write(path, model.SerializeToString())


def cnn(path: Path) -> None:
    """image [n, 3, 64, 64] -> y [n, 10]: twenty small convolutions, one launch each."""
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = [torch.nn.Conv2d(3, 32, 3, 2, 1), torch.nn.ReLU()]
    for _ in range(19):
        layers += [torch.nn.Conv2d(32, 32, 3, 1, 1), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(32, 10))
    _export(model, 64, path)


def resnet(path: Path) -> None:
    _export(resnet50(), 224, path)


def _export(model: torch.nn.Module, side: int, path: Path) -> None:
    export(
        model.eval(),
        (torch.rand(2, 3, side, side),),
        path,
        input_names=["image"],
        output_names=["y"],
        dynamic={"image": {0: "n"}},
        target="8.6",
    )


MAKERS: dict[str, Callable[[Path], None]] = {"mlp": mlp, "cnn": cnn, "resnet50": resnet}


@dataclass(frozen=True)
class Contest:
    """One batch size of an engine: what enqueues it, and on which stream, by label. All have buffers of their own."""

    enqueue: Mapping[str, tuple[Callable[[], object], object]]
    plain: Run
    graphs: tuple[Graph, Graph]

    def whole(self, cudart) -> dict[str, Callable[[], None]]:
        """Enqueue, and wait until it is done."""

        def made(enqueue, stream) -> Callable[[], None]:
            def run() -> None:
                enqueue()
                cudart.cudaStreamSynchronize(stream)

            return run

        return {label: made(*pair) for label, pair in self.enqueue.items()}

    def close(self) -> None:
        for each in (self.plain, *self.graphs):
            each.close()


def contest(cudart, engine, batch: int) -> Contest:
    plain, bare, full = (
        Run(cudart, engine, batch),
        Graph(cudart, engine, batch, copies=False),
        Graph(cudart, engine, batch),
    )
    kinds, handle = cudart.cudaMemcpyKind, int(plain.stream)
    copies_in, copies_out = [], []
    for buffer in plain.buffers.values():
        host, size = buffer.host.ctypes.data, buffer.bytes
        if buffer.is_input:
            copies_in.append((buffer.device, host, size, kinds.cudaMemcpyHostToDevice, plain.stream))
        else:
            copies_out.append((host, buffer.device, size, kinds.cudaMemcpyDeviceToHost, plain.stream))

    def with_copies() -> None:
        for copy in copies_in:
            cudart.cudaMemcpyAsync(*copy)
        plain.context.execute_async_v3(handle)
        for copy in copies_out:
            cudart.cudaMemcpyAsync(*copy)

    return Contest(
        {
            "no graph": (lambda: plain.context.execute_async_v3(handle), plain.stream),
            "graph": (lambda: cudart.cudaGraphLaunch(bare.executable, bare.stream), bare.stream),
            "no graph, copies": (with_copies, plain.stream),
            "graph, copies": (lambda: cudart.cudaGraphLaunch(full.executable, full.stream), full.stream),
        },
        plain,
        (bare, full),
    )


def enqueue_us(cudart, one: Contest, count: int = 200) -> dict[str, list[float]]:
    """Microseconds of CPU until the call is back, the GPU idle before each; in turns."""
    found: dict[str, list[float]] = {label: [] for label in one.enqueue}
    for _ in range(count):
        for label, (enqueue, _) in one.enqueue.items():
            begin = time.perf_counter_ns()
            enqueue()
            found[label].append(round((time.perf_counter_ns() - begin) / 1e3, 2))
            cudart.cudaDeviceSynchronize()
    return found


def gain(cudart, name: str, engine, out: Path, seconds: float) -> dict:
    """Per batch size: milliseconds of a run until it is done, ratios with their intervals, CPU time of the enqueue."""
    found = {}
    for batch in BATCHES[name]:
        before = torch.cuda.mem_get_info()[0]
        one = contest(cudart, engine, batch)
        taken = (before - torch.cuda.mem_get_info()[0]) / 1e6
        x = np.random.default_rng(batch).standard_normal(next(iter(one.plain.hosts(True).values())).shape, np.float32)
        for side in (one.plain.hosts(True), one.graphs[1].inputs):
            next(iter(side.values()))[...] = x
        whole = one.whole(cudart)
        compared = bench.compare_many(whole, rounds=300, max_seconds=2 * seconds)
        bench.save(compared, out / f"{name}_b{batch}.json")
        samples = {"no graph": next(iter(compared.values())).b} | {label: pair.a for label, pair in compared.items()}
        right, given = (next(iter(side.values())) for side in (one.plain.hosts(False), one.graphs[1].outputs))
        enqueued = enqueue_us(cudart, one)
        found[f"b{batch}"] = {
            "p50_ms": {label: taken_ms.p50 for label, taken_ms in samples.items()},
            "times": _ratio(samples["graph"], samples["no graph"]),
            "times_with_copies": _ratio(samples["graph, copies"], samples["no graph, copies"]),
            "enqueue_us": {label: float(np.median(values)) for label, values in enqueued.items()},
            "enqueue_us_samples": enqueued,
            "nodes": one.graphs[0].nodes,
            "largest_difference": float(np.abs(right - given).max()),
            "three_contexts_mb": taken,
        }
        shown = {key: value for key, value in found[f"b{batch}"].items() if key != "enqueue_us_samples"}
        print(f"{name} batch {batch}: {json.dumps(shown)}", flush=True)
        one.close()
    return found


def _ratio(a: bench.Samples, b: bench.Samples) -> list[float]:
    """[times as fast as b, low, high]: both were sampled in the same rounds."""
    return list(bench.ratio_interval(a.milliseconds, b.milliseconds, resolution=bench.RESOLUTION["cpu"]))


def profiles(cudart, narrow, wide, out: Path, seconds: float) -> dict:
    """Batch 1 of the same network in two engines, each with a graph and without one, all in turns; no copies."""
    contests = {"1-1-1": contest(cudart, narrow, 1), "1-64-256": contest(cudart, wide, 1)}
    runs = {
        f"{name}, {label}": call
        for name, one in contests.items()
        for label, call in one.whole(cudart).items()
        if "copies" not in label
    }
    compared = bench.compare_many(runs, rounds=300, max_seconds=2 * seconds)
    bench.save(compared, out / "profiles.json")
    first = next(iter(compared.values())).b
    samples = {first.label: first} | {label: pair.a for label, pair in compared.items()}
    found = {
        "p50_ms": {label: each.p50 for label, each in samples.items()},
        "narrow_over_wide": _ratio(samples["1-1-1, graph"], samples["1-64-256, graph"]),
        "nodes": {name: one.graphs[0].nodes for name, one in contests.items()},
    }
    print("profiles:", json.dumps(found), flush=True)
    for one in contests.values():
        one.close()
    return found


# ---------------------------------------------------------------- traps


def said(cudart, answer: tuple) -> str:
    """An error as "900 cudaErrorStreamCaptureUnsupported: operation not permitted …"."""
    error = answer[0]
    return f"{int(error)} {text(cudart.cudaGetErrorName(error))}: {text(cudart.cudaGetErrorString(error))}"


class Found(dict):
    """What the traps say, written at once: one of them may end the process, as it did on an H200."""

    def __init__(self, write: Callable[[], None]):
        super().__init__()
        self.write = write

    def __setitem__(self, title: str, record: object) -> None:
        super().__setitem__(title, record)
        print(title, flush=True)
        self.write()


def traps(cudart, engine, found: Found) -> None:
    """Each trap with what CUDA and TensorRT really say. The last one breaks the process's CUDA context."""
    modes = cudart.cudaStreamCaptureMode
    name = next(iter(Run(cudart, engine, 2).hosts(True)))

    def blocking():
        return cudart.cudaStreamCreate()[1]

    # Not run before: a fresh context, and one after a change of shapes.
    for title, change in (("first run in a capture", False), ("first run after a change of shapes in a capture", True)):
        run = Run(cudart, engine, 4)
        if change:
            run.enqueue(), run.wait()
            run.set_size(2)
        begun = cudart.cudaStreamBeginCapture(run.stream, modes.cudaStreamCaptureModeGlobal)
        with log.capture() as lines:
            good = run.context.execute_async_v3(int(run.stream))
        ended = cudart.cudaStreamEndCapture(run.stream)
        found[title] = {
            "begin": said(cudart, begun),
            "enqueued": bool(good),
            "end": said(cudart, ended),
            "log": [f"{line.severity}: {line.text}" for line in lines],
        }
        cudart.cudaGetLastError()

    # Allocation in a capture, in the three modes.
    for mode in modes:
        stream = blocking()
        cudart.cudaStreamBeginCapture(stream, mode)
        taken = cudart.cudaMalloc(1024)
        waited = cudart.cudaStreamSynchronize(stream)
        found[f"cudaMalloc and a wait in a capture, {mode.name}"] = {
            "cudaMalloc": said(cudart, taken),
            "cudaStreamSynchronize": said(cudart, waited),
            "end": said(cudart, cudart.cudaStreamEndCapture(stream)),
        }
        cudart.cudaGetLastError()

    # The default stream.
    begun = cudart.cudaStreamBeginCapture(0, modes.cudaStreamCaptureModeGlobal)
    device, host = cudart.cudaMalloc(64)[1], cudart.cudaMallocHost(64)[1]
    kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
    beside = {}
    for title, flags in (("blocking", 0), ("non-blocking", cudart.cudaStreamNonBlocking)):
        stream = cudart.cudaStreamCreateWithFlags(flags)[1]
        cudart.cudaStreamBeginCapture(stream, modes.cudaStreamCaptureModeGlobal)
        copied = cudart.cudaMemcpyAsync(device, host, 64, kind, 0)
        ended = cudart.cudaStreamEndCapture(stream)
        beside[title] = {"copy on stream 0": said(cudart, copied), "end": said(cudart, ended)}
        cudart.cudaGetLastError()
    run = Run(cudart, engine, 2)
    with log.capture() as lines:
        run.context.execute_async_v3(0)
        cudart.cudaDeviceSynchronize()
    found["default stream"] = {
        "begin": said(cudart, begun),
        "beside a capture": beside,
        "end without a begin": said(cudart, cudart.cudaStreamEndCapture(blocking())),
        "enqueue on stream 0, log": [f"{line.severity}: {line.text}" for line in lines],
    }

    # Other shapes, and another address: the graph does not see them.
    random = np.random.default_rng(0)
    graph = Graph(cudart, engine, 2)
    graph.inputs[name][...] = old = random.standard_normal(graph.inputs[name].shape, dtype=np.float32)
    output = next(iter(graph.outputs))
    graph.launch(), graph.wait()
    right = graph.outputs[output].copy()
    taken = graph.raw.context.set_input_shape(name, (4, *old.shape[1:]))
    other = cudart.cudaMalloc(2 * graph.raw.buffers[name].bytes)[1]
    graph.raw.context.set_tensor_address(name, int(other))
    graph.outputs[output][...] = np.nan
    graph.launch(), graph.wait()
    found["a new shape and a new address after the capture"] = {
        "set_input_shape took it": bool(taken),
        "the answer is the old buffer's": bool(np.allclose(graph.outputs[output], right, atol=1e-2)),
        "rows": len(graph.outputs[output]),
    }

    # A freed address. Nothing works in this process after an illegal access, so this is the last one.
    cudart.cudaFree(graph.raw.buffers[name].device)
    cudart.cudaFree(graph.raw.buffers[output].device)
    launched = cudart.cudaGraphLaunch(graph.executable, graph.stream)
    waited = cudart.cudaStreamSynchronize(graph.stream)
    found["a replay after its buffers were freed"] = {
        "launch": said(cudart, launched),
        "wait": said(cudart, waited),
        "the answer is still right": bool(np.allclose(graph.outputs[output], right, atol=1e-2)),
        "the next cudaMalloc": said(cudart, cudart.cudaMalloc(64)),
    }


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--work", type=Path, default=Path("/tmp/graphs"))
    arguments.add_argument("--seconds", type=float, default=1.5, help="of measuring, for each model and batch size")
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    options.work.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    cudart = cuda_here()
    if not is_real(cudart):
        raise SystemExit("This measures a GPU.")
    import tensorrt

    summary: dict[str, object] = {
        "tensorrt": tensorrt.__version__,
        "machine": bench.machine(),
        "level": 0,
        "models": {},
    }

    def write() -> None:
        summary["seconds"] = round(time.perf_counter() - begin, 1)
        atomic_write(options.out / "summary.json", json.dumps(summary, indent=1).encode())

    engines = {}
    for name, make in MAKERS.items():
        path = options.work / f"{name}.onnx"
        make(path)
        begun = time.perf_counter()
        engines[name] = raw_engine(
            cudart, path, [(1, 64, 256)], "fp16", level=0, timing_cache=options.work / "timing.cache"
        )
        summary["models"][name] = {"built_s": round(time.perf_counter() - begun, 1)}
        summary["models"][name] |= gain(cudart, name, engines[name], options.out, options.seconds)
        write()
    narrow = raw_engine(
        cudart, options.work / "resnet50.onnx", [(1, 1, 1)], "fp16", level=0, timing_cache=options.work / "timing.cache"
    )
    summary["profiles"] = profiles(cudart, narrow, engines["resnet50"], options.out, options.seconds)
    write()
    summary["traps"] = Found(write)
    try:
        traps(cudart, engines["mlp"], summary["traps"])
    except ServingError as error:
        summary["traps_ended"] = str(error)
        raise
    finally:
        write()
    print(json.dumps(summary["traps"], indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
