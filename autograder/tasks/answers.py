"""The reference's answers, computed in the grader's process on the CPU; never in a box with what was handed in."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import io
import math
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

MOST_REMEMBERED = 1_000_000_000
"""Bytes of answers."""
_answers: dict[tuple[str, bytes], tuple[np.ndarray, ...]] = {}


def load_reference(where: str, **options):
    """The PyTorch module that "module:function" makes, in eval mode."""
    module, function = where.split(":")
    return getattr(importlib.import_module(module), function)(**options).eval()


def reference_answers(reference: str, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """The reference's outputs for images, float32; remembered per input."""
    import torch

    digest = (reference, hashlib.sha256(np.ascontiguousarray(x)).digest())
    if digest not in _answers:
        parts = in_parallel(_reference(reference), np.array_split(x, math.ceil(len(x) / 8)))
        several = [part if isinstance(part, tuple) else (part,) for part in parts]
        answer = tuple(torch.cat(part).float().numpy() for part in zip(*several))
        if len(_answers) > 256 or sum(part.nbytes for known in _answers.values() for part in known) > MOST_REMEMBERED:
            _answers.clear()
        _answers[digest] = answer
    return _answers[digest]


def in_parallel(model: Callable, parts: list[np.ndarray]) -> list:
    """The module's answers to each part, every part on one thread of its own.

    Threads that share the work of one small convolution wait for each other: on two busy cores (load 5) 64 scenes of
    320 px took PyTorch 17 and 28 s in that way, and 5 and 7 s in this one.
    """
    import torch

    threads = torch.get_num_threads()

    def one(part: np.ndarray):
        torch.set_num_threads(1)  # a setting of the thread, in part
        with torch.inference_mode():
            return model(torch.from_numpy(part))

    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(one, parts))
    finally:
        torch.set_num_threads(threads)


def weights(reference: str) -> int:
    """How many numbers the reference has learned."""
    return sum(value.numel() for value in _reference(reference).parameters())


def multiplications(reference: str, x: np.ndarray) -> int:
    """How many multiplications the reference's convolutions and linear layers do for one image; x is [N, ...]."""
    import torch

    total, hooks = 0, []

    def count(module, taken, result) -> None:
        nonlocal total
        if isinstance(module, torch.nn.Linear):
            total += result[0].numel() * module.in_features
        elif isinstance(module, torch.nn.ConvTranspose2d):
            total += taken[0][0].numel() * module.weight[0].numel()
        else:
            total += result[0].numel() * module.weight[0].numel()

    kinds = (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear)
    model = _reference(reference)
    try:
        hooks = [one.register_forward_hook(count) for one in model.modules() if isinstance(one, kinds)]
        with torch.inference_mode():
            model(torch.from_numpy(x[:1]))
    finally:
        for hook in hooks:
            hook.remove()
    return total


def reference_onnx(reference: str, x: np.ndarray) -> bytes:
    """The reference as an ONNX file with an open batch and float32 weights: what is built where it is timed as an
    engine. x: an input, [N, ...].
    """
    import torch

    target = io.BytesIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _reference(reference),
            (torch.from_numpy(x[:2].copy()),),
            target,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )
    return target.getvalue()


@functools.lru_cache(maxsize=2)
def _reference(reference: str):
    return load_reference(reference)
