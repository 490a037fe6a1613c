"""Our load generator beside MLPerf LoadGen: the same Triton, the same model, the same Poisson rate, in turns.

    pip install --no-deps --target build/loadgen mlcommons-loadgen==6.0.17
    PYTHONPATH=build/loadgen python benchmarks/serving_loadgen.py --out docs/results/cpu/serving/loadgen.json

LoadGen (Server scenario, performance only) decides when a query is due and takes its latency from there. It calls back in a
thread of its own; threads with a kept connection each answer it, with the client of `course.serving`.
"""

from __future__ import annotations

import argparse
import json
import queue
import tempfile
import threading
import time
from pathlib import Path

import mlperf_loadgen as loadgen
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from course.serving import Batching, Model, Server, open_loop, overhead, save, write
from course.serving.result import histogram


def network(path: Path, width: int = 784, hidden: int = 2048) -> Path:
    """x [n, 784] -> y [n, 10] by two hidden layers of 2 048: 23 MB of weights that a batch reads once."""
    random, sizes = np.random.default_rng(0), (width, hidden, hidden, 10)
    weights, nodes, last = [], [], "x"
    for number, shape in enumerate(zip(sizes, sizes[1:])):
        values = (random.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{number}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{number}"], [f"m{number}" if number < 2 else "y"]))
        if number < 2:
            nodes.append(helper.make_node("Relu", [f"m{number}"], [last := f"r{number}"]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])
    graph = helper.make_graph(nodes, "mlp", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def by_loadgen(server: Server, model: str, feeds: list, rate: float, seconds: float, threads: int) -> dict:
    """LoadGen's summary, and the latency of each query in ms from its own log."""
    work: queue.SimpleQueue = queue.SimpleQueue()

    def answer() -> None:
        with server.client() as client:
            while (sample := work.get()) is not None:
                client.infer(model, feeds[sample.index])
                loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample.id, 0, 0)])

    workers = [threading.Thread(target=answer) for _ in range(threads)]
    for worker in workers:
        worker.start()
    settings = loadgen.TestSettings()
    settings.scenario, settings.mode = loadgen.TestScenario.Server, loadgen.TestMode.PerformanceOnly
    settings.server_target_qps = rate
    settings.server_target_latency_ns = 1_000_000_000
    settings.min_duration_ms = settings.max_duration_ms = round(1e3 * seconds)
    settings.min_query_count = 1
    settings.qsl_rng_seed, settings.sample_index_rng_seed, settings.schedule_rng_seed = 1, 2, time.time_ns() % 10**9
    sut = loadgen.ConstructSUT(lambda samples: [work.put(sample) for sample in samples], lambda: None)
    qsl = loadgen.ConstructQSL(len(feeds), len(feeds), lambda _: None, lambda _: None)
    with tempfile.TemporaryDirectory() as folder:
        logs = loadgen.LogSettings()
        logs.log_output.outdir, logs.log_output.copy_summary_to_stdout = folder, False
        logs.enable_trace = False
        loadgen.StartTestWithLogSettings(sut, qsl, settings, logs)
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text()
        detail = (Path(folder) / "mlperf_log_detail.txt").read_text()
    loadgen.DestroyQSL(qsl)
    loadgen.DestroySUT(sut)
    for _ in workers:
        work.put(None)
    for worker in workers:
        worker.join()
    found = {}
    for line in detail.splitlines():
        if line.startswith(":::MLLOG "):
            entry = json.loads(line[9:])
            found[entry["key"]] = entry["value"]
    return {
        "p50_ms": found["result_50.00_percentile_latency_ns"] / 1e6,
        "p90_ms": found["result_90.00_percentile_latency_ns"] / 1e6,
        "p99_ms": found["result_99.00_percentile_latency_ns"] / 1e6,
        "queries": found["result_query_count"],
        "scheduled_per_s": found["result_scheduled_samples_per_sec"],
        "completed_per_s": found.get("result_completed_samples_per_sec"),
        "summary": summary,
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--rate", type=float, default=200.0, help="queries/s")
    arguments.add_argument("--seconds", type=float, default=10.0, help="of each run")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--threads", type=int, default=16, help="that answer LoadGen")
    given = arguments.parse_args()
    feeds = [{"x": row[None]} for row in np.random.default_rng(0).standard_normal((64, 784)).astype(np.float32)]
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        repository = write(folder, [Model("mlp", network(Path(folder) / "mlp.onnx"), 32, Batching())])
        with Server(repository) as server:
            open_loop(server.address, "mlp", feeds, given.rate, 2.0)
            for number in range(given.rounds):
                ours.append(open_loop(server.address, "mlp", feeds, given.rate, given.seconds, warmup=0, seed=number))
                print(ours[-1], flush=True)
                theirs.append(by_loadgen(server, "mlp", feeds, given.rate, given.seconds, given.threads))
                print({key: value for key, value in theirs[-1].items() if key != "summary"}, flush=True)
        nothing = overhead(feeds, rate=given.rate, seconds=given.seconds)
    milliseconds = [(load.records["done"] - load.records["due"]) * 1e3 for load in ours]
    all_of_ours = histogram(np.concatenate(milliseconds)).get_value_at_percentile(99) / 1e3
    ratio = float(np.median([load.p99 for load in ours]) / np.median([each["p99_ms"] for each in theirs]))
    print(f"p99, ours / LoadGen's, medians of {given.rounds} runs in turns: {ratio:.3f}", flush=True)
    save(
        [*ours, nothing],
        given.out,
        mlperf_loadgen=theirs,
        p99_ratio=ratio,
        p99_of_all_ms=all_of_ours,
        loadgen_version=loadgen.__version__ if hasattr(loadgen, "__version__") else "6.0.17",
    )


if __name__ == "__main__":
    main()
