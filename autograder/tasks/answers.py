"""The reference's answers, computed in the grader's process on the CPU; never in a box with what was handed in."""

from __future__ import annotations

import functools
import hashlib
import importlib
import math
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


@functools.lru_cache(maxsize=2)
def _reference(reference: str):
    return load_reference(reference)
