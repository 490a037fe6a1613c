"""Lessons 01 and 04: solutions other than ours get all points. (Wrong ones: tests/lessons/wrong.)"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course.exercises.stage1_converter import export, precision


class Permuted(nn.Module):
    def forward(self, patches):
        return patches.reshape(-1, 3, 4, 4, 4, 4).permute(0, 1, 4, 2, 5, 3).reshape(-1, 3, 16, 16)


class Transposed(nn.Module):
    """A transposed convolution whose weights put each number at its place."""

    def __init__(self):
        super().__init__()
        self.place = nn.ConvTranspose2d(48, 3, 4, 4, bias=False)
        self.place.weight.data = torch.eye(48).reshape(48, 3, 4, 4)

    def forward(self, patches):
        return self.place(patches.reshape(-1, 48, 4, 4))


class Shape(nn.Module):
    def forward(self, image):
        rows = image.reshape(image.shape[0], -1)
        return rows / rows.norm(dim=1, keepdim=True)


class Sized(nn.Module):
    def forward(self, image):
        return F.normalize(image.view(-1, 48))


class Factor(nn.Module):
    def forward(self, image):
        return image * (1 + (image.mean() < 0.25).float())


@pytest.mark.parametrize(
    "judge, answer",
    [
        (export.export_operator, Permuted),
        (export.export_operator, Transposed),
        (export.export_flatten, Shape),
        (export.export_flatten, Sized),
        (export.export_branch, Factor),
        (export.export_branch, Factor()),
    ],
)
def test_other_ways_to_repair_a_module(judge, answer) -> None:
    assert judge(answer)


def ties_to_even(x):
    bits = x.view(np.uint32).astype(np.uint64)
    return ((bits + 0xFFF + (bits >> 13 & 1)) & ~np.uint64(0x1FFF)).astype(np.uint32).view(np.float32)


def by_arithmetic(x):
    part, power = np.frexp(x.astype(np.float64))
    return np.ldexp(np.round(part * 2048) / 2048, power).astype(np.float32)


def through_torch(x):
    return torch.from_numpy(x).bfloat16().float().numpy()


@pytest.mark.parametrize("to_tf32", [ties_to_even, by_arithmetic])
def test_other_ways_to_round(to_tf32) -> None:
    assert precision.rounding(to_tf32, through_torch)


def test_limits_by_their_powers_of_two() -> None:
    def limits(to):
        step = largest = tiny = 1.0
        while to(1 + step / 2) != 1:
            step /= 2
        while to(2 * largest) != math.inf:
            largest *= 2
        while to(tiny / 2):
            tiny /= 2
        return largest * (2 - step), tiny / step, tiny

    assert precision.limits(limits)


def test_other_ways_to_count_and_to_measure() -> None:
    def count(weights):
        size = np.abs(weights)
        return int(((size < 2**-14) & (size > 2**-25)).sum()), int(((size <= 2**-25) & (size > 0)).sum())

    assert precision.subnormal(count)
    assert precision.error(lambda found, exact: np.sqrt(((found - exact) ** 2).mean() / (exact**2).mean()))


def test_other_ways_to_add() -> None:
    products = lambda a, b: a.astype(np.float32) * b.astype(np.float32)  # noqa: E731
    assert precision.accumulate(lambda a, b, kind: np.add.accumulate(products(a, b), dtype=kind)[-1])
    assert precision.accumulate(lambda a, b, kind: np.add.accumulate(products(a, b).astype(kind))[-1])


@pytest.mark.parametrize(
    "scores",
    [
        lambda q, k: (q / np.float16(128**0.25)) @ (k / np.float16(128**0.25)).T,
        lambda q, k: (q.astype(np.float32) @ k.T.astype(np.float32) / np.sqrt(128)).astype(np.float16),
        lambda q, k: (torch.from_numpy(q) / 128**0.5 @ torch.from_numpy(k).T).numpy(),
    ],
    ids=["both scaled", "through FP32", "torch"],
)
def test_other_ways_to_scale(scores) -> None:
    assert precision.overflow(scores)
