"""The kernels of stage 3's lessons on one GPU, each beside a device copy of as many bytes.

    python -m benchmarks.kernels_gpu --out docs/results/h100/kernels        # on a GPU machine
    python -m benchmarks.kernels_gpu --out build/kernels --compile-only     # anywhere: nvcc, registers, widths of loads

Kernels and copy take turns in one process, plain and replayed from a CUDA graph; an answer is compared with NumPy before
its kernel is timed. Each group and size gives a file with raw samples (`course.bench.save`); summary.json holds the
shares of the copy's speed. At 2^16 elements everything fits into the L2 cache and launches count; 2^26 is memory.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from pathlib import Path

import numpy as np

from course import bench, kernels
from course.exercises import solved
from course.files import atomic_write
from course.kernels import nvcc, on_gpu

BETA = 1.625
SIZES = (1 << 16, 1 << 20, 1 << 26)
ODD = 5003
"""A size with a tail, for the comparison with NumPy."""
BLOCKS = 1024
"""Of the grid-stride loop, 64 threads each."""

# group -> (dtype, numbers behind beta and n, label -> (exercise, launcher))
GROUPS = {
    "fp16": (
        np.float16,
        (),
        {
            "one half a thread": ("kernel-wide", "launchOneEach"),
            "16 bytes a thread": ("kernel-wide", "launchEightEach"),
        },
    ),
    "fp32": (np.float32, (), {"one float a thread": ("kernel-first", "launchSwish")}),
    "fp32_grid_stride": (np.float32, (BLOCKS,), {"grid-stride loop": ("kernel-stride", "launchSwish")}),
}


def sources(folder: Path) -> dict[str, Path]:
    """The course's answer to each exercise, as a .cu file."""
    found = {}
    for exercise in sorted({exercise for _, _, steps in GROUPS.values() for exercise, _ in steps.values()}):
        with contextlib.redirect_stdout(io.StringIO()):
            text = solved(exercise)
        found[exercise] = atomic_write(folder / f"{exercise}.cu", text.encode())
    return found


def swish(x: np.ndarray) -> np.ndarray:
    """In float64."""
    x = x.astype(np.float64)
    return x / (1 + np.exp(-BETA * x))


def group(name: str, files: dict[str, Path], size: int, out: Path, rounds: int) -> dict[str, dict]:
    """Compare with NumPy, time, save; label -> share of the copy's speed and GB/s."""
    dtype, numbers, steps = GROUPS[name]
    placed = {label: (files[exercise], launcher) for label, (exercise, launcher) in steps.items()}
    for label, step in placed.items():
        x = np.random.default_rng(ODD).standard_normal(ODD).astype(dtype)
        (y,) = on_gpu.outputs(step, x, kernels.out(ODD, dtype), BETA, ODD, *numbers, None)
        tolerance = 2e-3 if dtype is np.float16 else 1e-5
        np.testing.assert_allclose(y.astype(np.float64), swish(x), rtol=tolerance, atol=1e-6, err_msg=label)
    x = np.random.default_rng(size).standard_normal(size, np.float32).astype(dtype)
    found = on_gpu.against_copy(
        placed, x, kernels.out(size, dtype), BETA, size, *numbers, None, graph=True, rounds=rounds
    )
    bench.save(found, out / f"{name}_{size}.json")
    moved = 2 * size * np.dtype(dtype).itemsize
    copy = next(iter(found.values())).b
    print(f"{name}, {size} elements: copy {moved / copy.p50 / 1e6:.0f} GB/s")
    summary = {"copy": {"gb_per_s": moved / copy.p50 / 1e6, "p50_ms": copy.p50}}
    for label, one in found.items():
        print(f"    {label}: {one.ratio:.3f} ({one.low:.3f} to {one.high:.3f}) of the copy's speed")
        summary[label] = {"share": one.ratio, "low": one.low, "high": one.high, "p50_ms": one.a.p50}
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--architecture", default="sm_90", help="for the machine code")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--compile-only", action="store_true")
    asked = parser.parse_args()
    files = sources(asked.out / "sources")
    code = {}
    for exercise, path in files.items():
        for kernel in nvcc.inspect(path, architecture=asked.architecture):
            print(kernel)
            code[f"{exercise}: {kernel.name}"] = {
                "registers": kernel.registers,
                "spills": kernel.spills,
                "widest_load": kernel.widest(),
                "widest_store": kernel.widest(write=True),
            }
        nvcc.build(path, "shared", architecture=asked.architecture, flags=("-O3",))
    summary = {"machine": bench.machine(), "architecture": asked.architecture, "code": code, "results": {}}
    if not asked.compile_only:
        for name in GROUPS:
            summary["results"][name] = {str(size): group(name, files, size, asked.out, asked.rounds) for size in SIZES}
    atomic_write(asked.out / "summary.json", json.dumps(summary, indent=1, default=str).encode())


if __name__ == "__main__":
    main()
