"""Engines for a model repository: `model.plan` beside each `model.onnx`, in a copy.

    with_triton(beside("repository", "artifacts/served"), measured)

An engine belongs to one GPU model and one version of TensorRT, so it is no part of a repository that is handed on: it is made
where the repository is served, from the network that lies in it. Without a GPU the repository is served as it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from course.engine import BuildConfig, Profile, available_runtimes, build, graph
from course.serving import config as configs
from course.serving.words import ServingError

ONNX, PLAN = "model.onnx", "model.plan"
LEVEL = 0
"""TensorRT's optimisation level: the first kernel that works. So a ResNet-50 takes 17 s on an H200 (docs/results/h200/graphs), and
at level 2 a minute on an H100 (docs/results/h100/m1_measure.log)."""
LARGEST = 128
"""The most images that an engine is built for: a context's memory grows with them."""


def plan(onnx: bytes | Path, largest: int, level: int = LEVEL) -> bytes:
    """An FP16 engine for batches of 1 to `largest`, by TensorRT on this machine's GPU.

    From TensorRT 11 on, where networks are strongly typed, the network's own numbers are turned into FP16 before.

    Raises:
        CourseError: it cannot be built, or more than the first dimension of an input is open.
    """
    open_batch = any(shape[:1] == (-1,) for shape in graph.inputs(graph.read(onnx).proto).values())
    profiles = (Profile.batch(onnx, 1, largest, largest),) if open_batch else ()
    options = BuildConfig("fp16", profiles, optimization_level=level, runtime="tensorrt")
    with build(onnx, options) as engine:
        return bytes(engine.plan)


def beside(repository: str | Path, to: str | Path, make: Callable[[bytes, int], bytes] | None = None) -> Path:
    """Copy the repository to `to`, with `model.plan` in each version's folder that holds `model.onnx`.

    Args:
        make: (ONNX file, largest batch) -> plan; `plan` if left out, and then only where TensorRT runs on a GPU: else the
            repository is returned as it is.

    Returns: the folder to serve.

    Raises:
        ServingError: the repository is wrong, or a batch is too large for an engine.
        CourseError: an engine cannot be built.
    """
    repository, to = Path(repository), Path(to)
    if make is None:
        if available_runtimes()["tensorrt"]:
            return repository
        make = plan
    models = configs.check_repository(repository)
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(repository, to, copy_function=shutil.copyfile)
    for name, config in models.items():
        for onnx in sorted((to / name).glob(f"*/{ONNX}")):
            largest = max(1, config.max_batch_size)
            if largest > LARGEST:
                raise ServingError(
                    f"{name}/config.pbtxt: max_batch_size is {largest}.",
                    f"An engine for batches of up to {LARGEST} is built on a GPU.",
                    "Take less: beyond some tens of images a batch gains nothing.",
                )
            onnx.with_name(PLAN).write_bytes(make(onnx.read_bytes(), largest))
    return to
