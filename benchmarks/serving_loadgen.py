"""Our load generator beside MLPerf LoadGen: the same Triton, the same model, the same Poisson rate, in turns.

    pip install --no-deps --target build/loadgen mlcommons-loadgen==6.0.17
    PYTHONPATH=build/loadgen:. python benchmarks/serving_loadgen.py --out docs/results/cpu/serving/loadgen.json

LoadGen (Server scenario, performance only) decides when a query is due and takes its latency from there. It calls back
in a thread of its own; threads with a kept connection each answer it, with the client of `course.serving`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import queue
import re
import tempfile
import threading
import time
from pathlib import Path

import mlperf_loadgen as loadgen
import numpy as np

from course.serving import Server, open_loop, overhead, save
from course.serving.result import histogram

PROGRAM = """
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        time.sleep({seconds} * len(requests))
        given = [pb_utils.get_input_tensor_by_name(each, "x").as_numpy() for each in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", array)]) for array in given]
"""
CONFIG = """
backend: "python"
input [ {{ name: "x" data_type: TYPE_FP32 dims: [ {width} ] }} ]
output [ {{ name: "y" data_type: TYPE_FP32 dims: [ {width} ] }} ]
"""
WIDTH = 784


def sleeper(folder: Path, milliseconds: float) -> Path:
    """A repository with one model that takes the same time for every request and no processor: what is measured is the
    queue before it and the generator, not what other programs on this machine do."""
    (folder / "sleeper" / "1").mkdir(parents=True)
    (folder / "sleeper" / "1" / "model.py").write_text(PROGRAM.format(seconds=milliseconds / 1e3))
    (folder / "sleeper" / "config.pbtxt").write_text(CONFIG.format(width=WIDTH))
    return folder


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
        logs.enable_trace = True  # it holds every query's latency
        loadgen.StartTestWithLogSettings(sut, qsl, settings, logs)
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text()
        detail = (Path(folder) / "mlperf_log_detail.txt").read_text()
        trace = (Path(folder) / "mlperf_log_trace.json").read_text()
    loadgen.DestroyQSL(qsl)
    loadgen.DestroySUT(sut)
    for _ in workers:
        work.put(None)
    for worker in workers:
        worker.join()
    # From the time when a query was due: the delay until it was issued, and from there to its answer.
    traced = re.findall(r'"Latency".*"issue_delay":(-?\d+),"issue_to_done":(\d+)', trace)
    latencies = [int(delay) + int(taken) for delay, taken in traced]
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
        "latency_ms": [round(taken / 1e6, 4) for taken in latencies],
        "summary": summary,
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--rate", type=float, default=62.5, help="queries/s")
    arguments.add_argument("--service-ms", type=float, default=8.0, help="that the model takes for each")
    arguments.add_argument("--seconds", type=float, default=15.0, help="of each run")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--threads", type=int, default=16, help="that answer LoadGen")
    given = arguments.parse_args()
    feeds = [{"x": row} for row in np.random.default_rng(0).standard_normal((64, WIDTH)).astype(np.float32)]
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        with Server(sleeper(Path(folder), given.service_ms)) as server:
            open_loop(server.address, "sleeper", feeds, given.rate, 2.0)
            for number in range(given.rounds):
                ours.append(
                    open_loop(server.address, "sleeper", feeds, given.rate, given.seconds, warmup=0, seed=number)
                )
                print(ours[-1], flush=True)
                theirs.append(by_loadgen(server, "sleeper", feeds, given.rate, given.seconds, given.threads))
                print(
                    {key: value for key, value in theirs[-1].items() if key not in ("summary", "latency_ms")},
                    flush=True,
                )
        nothing = overhead(feeds, rate=given.rate, seconds=given.seconds)
    everything = {
        "ours": np.concatenate([(load.records["done"] - load.records["due"]) * 1e3 for load in ours]),
        "mlperf_loadgen": np.concatenate([each["latency_ms"] for each in theirs]),
    }
    pooled = {
        name: {f"p{p}_ms": histogram(values).get_value_at_percentile(p) / 1e3 for p in (50, 90, 99)}
        for name, values in everything.items()
    }
    ratio = pooled["ours"]["p99_ms"] / pooled["mlperf_loadgen"]["p99_ms"]
    print(pooled)
    print(f"p99 of all {given.rounds} runs together, ours / LoadGen's: {ratio:.3f}", flush=True)
    save(
        [*ours, nothing],
        given.out,
        service_ms=given.service_ms,
        rate=given.rate,
        mlperf_loadgen=theirs,
        pooled=pooled,
        p99_ratio=ratio,
        loadgen_version=importlib.metadata.version("mlcommons-loadgen"),
    )


if __name__ == "__main__":
    main()
