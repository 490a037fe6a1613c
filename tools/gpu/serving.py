"""Triton beside a raw engine loop on one machine: what serving costs, what batches and CUDA graphs gain.

    python -m tools.gpu.serving --out docs/results/<card>/serving
    python -m tools.gpu.serving --out /tmp/serving --lane cpu --seconds 0.5     # a rehearsal, where there is no GPU

Triton's environment must see TensorRT and PyTorch: `course serve setup --see-system-packages` or `tools.gpu.triton_here`. In
--out: raw.json, a loop over the engine in this process, copies included, per batch size; loads.json, every request of every
load; summary.json.

Images travel as float32 [3, 32, 32], and the network enlarges and normalises them itself, so that a request is 12 kB. FP16
engines of builder level 0 on a GPU, ONNX Runtime with one thread on a CPU. Answers under load are compared with ONNX Runtime's.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from course import bench
from course.engine import available_runtimes
from course.export import export
from course.files import atomic_write
from course.models import resnet50
from course.serving import Batching, Load, Model, Server, closed_loop, save, write
from course.serving.repository import IMAGENET_MEAN, IMAGENET_STD

LARGEST = 32
BATCHES = (1, 8, LARGEST)
CLIENTS = {"gpu": (128, 32, 16, 8, 1), "cpu": (4, 1)}
IN_A_REQUEST = {"gpu": (8, 1), "cpu": (1,)}
LIMIT_MS = {"gpu": 12.0, "cpu": 1000.0}
"""The p99 at which rates are compared."""
WAYS = ("graph", "batched", "two", "two_gpus")
"""One instance without batches; with dynamic batching; two such instances; two on each of two GPUs behind one queue."""
TURNS = 8
"""Of one client, with a graph and without: on an H200 turns of 0.7 s scattered by a tenth."""
WRONG = 0.05
"""Of logits, relative to their largest: FP16 stays far below."""


class Pixels(torch.nn.Module):
    """float32 [n, 3, 32, 32], 0 to 255 -> the network's answer."""

    def __init__(self, network: torch.nn.Module, side: int):
        super().__init__()
        self.network, self.side = network, side
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        size = (self.side, self.side)
        large = torch.nn.functional.interpolate(image, size, mode="bilinear", align_corners=False)
        return self.network((large - self.mean) / self.std)


def small() -> torch.nn.Module:
    """Twenty small convolutions: hardly any work, a launch for each."""
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = [torch.nn.Conv2d(3, 32, 3, 2, 1), torch.nn.ReLU()]
    for _ in range(19):
        layers += [torch.nn.Conv2d(32, 32, 3, 1, 1), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(32, 10))


NETWORKS: dict[str, tuple[Callable[[], torch.nn.Module], int]] = {"small": (small, 64), "resnet50": (resnet50, 224)}
"""Name -> what makes it, and its side in pixels."""


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (count, 3, 32, 32)).astype(np.float32)


def files(
    folder: Path, lane: str, names: list[str]
) -> Iterator[tuple[str, Path, Path | None, Callable[[np.ndarray], np.ndarray]]]:
    """(name, ONNX file, plan or None, what runs a batch in this process) of each network."""
    for name in names:
        make, side = NETWORKS[name]
        path = folder / f"{name}.onnx"
        export(
            Pixels(make(), side).eval(),
            (torch.rand(2, 3, 32, 32),),
            path,
            input_names=["image"],
            output_names=["y"],
            dynamic={"image": {0: "n"}},
            target="8.6",
        )
        if lane == "cpu":
            session = _session(path, threads=1)
            yield name, path, None, lambda x, session=session: session.run(None, {"image": x})[0]
        else:
            yield (name, path, *_engine(path))


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """`threads` 0: as many as there are cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _engine(path: Path) -> tuple[Path, Callable[[np.ndarray], np.ndarray]]:
    from course.serving.graphs import GraphPool
    from course.serving.here import cuda_here, raw_engine

    cudart = cuda_here(tell=False)
    engine = raw_engine(cudart, path, [(1, 8, LARGEST)], "fp16", level=0)
    plan = atomic_write(path.with_suffix(".plan"), bytes(engine.serialize()))
    pool = GraphPool(cudart, engine, BATCHES)
    return plan, lambda x: pool.run({"image": x})["y"]


def raw_loop(run: Callable[[np.ndarray], np.ndarray], seconds: float) -> dict[str, dict]:
    """Per batch size: images/s of a loop that waits for every batch, and its milliseconds."""
    found = {}
    for size in BATCHES:
        x, taken = images(size), []
        run(x)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(taken) < 3:
            begin = time.perf_counter()
            run(x)
            taken.append(1e3 * (time.perf_counter() - begin))
        found[f"b{size}"] = {
            "images_per_s": 1e3 * size * len(taken) / sum(taken),
            "p50_ms": float(np.median(taken)),
            "p99_ms": float(np.percentile(taken, 99)),
            "samples_ms": [round(value, 4) for value in taken],
        }
    return found


def models(name: str, onnx: Path, plan: Path | None) -> list[Model]:
    """One network in the ways that are compared, by `WAYS` and, for one client, without a graph."""
    plain = Model(f"{name}_plain", onnx, LARGEST, plan=plan, gpus=(0,))
    ways = {
        "graph": {},
        "batched": {"batching": Batching()},
        "two": {"batching": Batching(), "instances": 2},
        "two_gpus": {"batching": Batching(), "instances": 2, "gpus": (0, 1)},
    }
    return [plain, *(replace(plain, name=f"{name}_{way}", graphs=BATCHES, **ways[way]) for way in WAYS[: _known()])]


def _known() -> int:
    """How many of `WAYS` this machine has."""
    return len(WAYS) - (torch.cuda.device_count() < 2)


class Requests:
    """What is sent of one size, and what a network must answer to it, computed once for all loads."""

    def __init__(self, onnx: Path, rows: int):
        x = images(16 * rows)
        self.feeds = [{"image": x[start : start + rows]} for start in range(0, len(x), rows)]
        session = _session(onnx, threads=0)
        self.right = [session.run(None, feed)[0] for feed in self.feeds]

    def check(self, load: Load) -> None:
        """Raises:
        SystemExit: an answer under load is not the network's.
        """
        for feed, outputs in list(load.answers())[-64:]:
            wanted = self.right[feed]
            error = float(np.abs(outputs["y"] - wanted).max() / np.abs(wanted).max())
            if not error <= WRONG:
                raise SystemExit(f"{load.model}: an answer under load is {100 * error:.1f} % off.")


def serve(server: Server, name: str, onnx: Path, options: argparse.Namespace) -> Iterator[Load]:
    """All loads on one network: one client with a graph and without one in turns, then more and more clients."""
    sent = {rows: Requests(onnx, rows) for rows in {1, *options.images}}

    def one(way: str, clients: int, rows: int, turn: str = "") -> Load:
        load = closed_loop(
            server.address,
            f"{name}_{way}",
            sent[rows].feeds,
            clients,
            options.seconds,
            label=f"{way}, {clients} clients, {rows} in a request{turn}",
            keep_answers=True,
            timeout=20.0,
        )
        sent[rows].check(load)
        print(f"{name} {load}", flush=True)
        return load

    for turn in range(options.turns):
        for way in ("plain", "graph") if turn % 2 else ("graph", "plain"):
            yield one(way, 1, 1, f", turn {turn}")
    for rows in options.images if name == "resnet50" else ():
        for clients in options.clients:
            for way in reversed(WAYS[: _known()]):
                yield one(way, clients, rows)


def summary(name: str, raw: dict, loads: list[Load], limit_ms: float) -> dict:
    """Ratios, with what they were made of."""
    turns = {
        way: [load.p50 for load in loads if load.model == f"{name}_{way}" and ", turn" in load.label]
        for way in ("plain", "graph")
    }
    alone = {way: float(np.median(found)) if found else None for way, found in turns.items()}
    within = [load for load in loads if load.p99 <= limit_ms and not load.failed and ", turn" not in load.label]
    best = {way: max((_images(load) for load in within if load.model == f"{name}_{way}"), default=None) for way in WAYS}
    fits = [value["images_per_s"] for value in raw.values() if value["p99_ms"] <= limit_ms]
    on_one = [rate for way, rate in best.items() if rate and way != "two_gpus"]  # as the raw loop is
    top, raw_best = max(on_one, default=None), max(fits, default=None)
    return {
        "one_client_p50_ms": alone,
        "graph_times": alone["plain"] / alone["graph"] if all(alone.values()) else None,
        "limit_p99_ms": limit_ms,
        "images_per_s_within": best,
        "raw_images_per_s_within": raw_best,
        "triton_share_of_raw": top / raw_best if top and raw_best else None,
    }


def _images(load: Load) -> float:
    """Images a second: a request may hold several."""
    return load.rate * int(load.label.split(" in a request")[0].rsplit(" ", 1)[1])


def keep(out: Path, record: dict, lane: str, raw: dict, loads: dict[str, list[Load]]) -> dict[str, dict]:
    """Write what there is so far; the summary of each network."""
    every = [load for several in loads.values() for load in several]
    save(every, out / "loads.json", lane=lane)
    found = {name: summary(name, raw[name], several, LIMIT_MS[lane]) for name, several in loads.items()}
    doubts = {f"{load.model}: {load.label}": load.doubt for load in every if load.doubt}
    content = json.dumps({**record, "results": found, "doubts": doubts}, indent=1, default=str)
    atomic_write(out / "summary.json", content.encode())
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--lane", choices=("cpu", "gpu"), default="gpu")
    parser.add_argument("--seconds", type=float, default=1.5, help="of one load")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--turns", type=int, default=TURNS, help="of one client, with a graph and without")
    parser.add_argument("--images", type=int, nargs="+", help="in a request")
    parser.add_argument("--clients", type=int, nargs="+", help="in this order: the first say most, if the time ends")
    args = parser.parse_args()
    args.images = args.images or IN_A_REQUEST[args.lane]
    args.clients = args.clients or CLIENTS[args.lane]
    if args.lane == "gpu" and (reason := available_runtimes()["tensorrt"]):
        parser.error(f"TensorRT does not run here: {reason}")
    args.out.mkdir(parents=True, exist_ok=True)
    raw, described, loads = {}, [], {}
    with tempfile.TemporaryDirectory(prefix="serving-") as temporary:
        folder = Path(temporary)
        networks = {}
        for name, onnx, plan, run in files(folder, args.lane, args.networks):
            raw[name], networks[name] = raw_loop(run, args.seconds), onnx
            described += models(name, onnx, plan)
        record = {"machine": bench.machine(), "command": sys.argv, "lane": args.lane}
        atomic_write(args.out / "raw.json", json.dumps({**record, "raw": raw}, default=str).encode())
        repository, log = write(folder / "service", described), args.out / "server.log"
        config = "gpu" if args.lane == "gpu" else ""
        with Server(repository, config=config, start_seconds=120, log=log) as server:
            for name, onnx in networks.items():
                for load in serve(server, name, onnx, args):
                    loads.setdefault(name, []).append(load)
                    found = keep(args.out, record, args.lane, raw, loads)  # the machine may go back in the middle
    print(json.dumps(found, indent=1), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
