"""What the tools share that measure how much faster than PyTorch eager ONNX Runtime is on this CPU."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from course import bench, engine  # noqa: E402
from course.bench.clocks import CpuTime, one_torch_thread  # noqa: E402
from course.files import atomic_write  # noqa: E402


@dataclass(frozen=True)
class Case:
    """A network and the inputs to time it on, smallest first; `labels` goes into the record of each."""

    onnx: Path
    model: torch.nn.Module
    inputs: list[np.ndarray]
    labels: list[dict] = field(default_factory=list)


def parser(description: str, *files: str) -> argparse.ArgumentParser:
    """Arguments of a tool: its ONNX files, the file to write, --runs and --seconds."""
    made = argparse.ArgumentParser(description=description)
    for name in (*files, "out"):
        made.add_argument(name, type=Path)
    made.add_argument("--runs", type=int, default=5)
    made.add_argument("--seconds", type=float, default=40.0, help="at most, per run and input")
    return made


def measure(args: argparse.Namespace, tool: str, files: Iterable[str], cases: Callable[[int], Iterable[Case]]) -> None:
    """Time all cases `args.runs` times, each with a fresh engine, both programs in turns, CPU time on one thread
    each, as the grader does it; write all samples to `args.out`. `cases(run)` makes them."""
    runs = [record for run in range(args.runs) for case in cases(run) for record in _one(case, run, args.seconds)]
    names = [getattr(args, name).name for name in files]
    record = {
        "command": [
            "python",
            "-m",
            f"tools.thresholds.{tool}",
            *names,
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


def _one(case: Case, run: int, seconds: float) -> Iterator[dict]:
    name = next(iter(engine.network_layers(case.onnx, "onnxruntime"))).inputs[0].name
    shapes = [x.shape for x in case.inputs]
    low, high = (tuple(edge(sizes) for sizes in zip(*shapes)) for edge in (min, max))
    config = engine.BuildConfig(profiles=(engine.Profile({name: (low, high, high)}),), runtime="onnxruntime", threads=1)
    with one_torch_thread(), engine.build(case.onnx, config) as built:
        for x, labels in zip(case.inputs, case.labels):
            tensor = torch.from_numpy(x)

            def eager() -> torch.Tensor:
                with torch.inference_mode():
                    return case.model(tensor)

            before = os.getloadavg()[0]
            found = bench.compare(
                lambda: built.run({name: x}),
                eager,
                labels=("ONNX Runtime", "PyTorch eager"),
                items=(len(x), len(x)),
                rounds=12,
                max_seconds=seconds,
                clock=CpuTime(),
            )
            print(f"run {run + 1}, load {before:.1f}: {labels}: {found}", flush=True)
            yield {
                "run": run,
                **labels,
                "load_before": before,
                "time": time.time(),
                "ratio": found.ratio,
                "low": found.low,
                "high": found.high if found.high < 1e9 else None,
                "engine_ms": found.a.milliseconds.tolist(),
                "eager_ms": found.b.milliseconds.tolist(),
            }
