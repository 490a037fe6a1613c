"""Launchers on a real GPU, beside a copy; without one, that it stays open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from course import kernels
from course.kernels import on_gpu

RELU = Path(__file__).parent / "cuda" / "relu.cu"
HERE = torch.cuda.is_available()


@pytest.mark.skipif(HERE, reason="there is a GPU")
def test_without_a_gpu_it_is_said_and_nothing_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    x = np.zeros(8, np.float32)
    assert on_gpu.shares({"relu": (RELU, "launchRelu")}, x, kernels.out(8), 8, None) is None
    assert capsys.readouterr().out.startswith("Open: speed needs a GPU.")


@pytest.mark.gpu
def test_the_answers_are_those_of_the_cpu() -> None:
    x = np.random.default_rng(0).standard_normal(1003).astype(np.float32)
    (y,) = on_gpu.outputs((RELU, "launchRelu"), x, kernels.out(x.shape), x.size, None)
    assert np.array_equal(y, np.maximum(x, 0))


@pytest.mark.gpu
@pytest.mark.serial
def test_a_kernel_is_compared_with_a_copy_plain_and_as_a_graph() -> None:
    x = np.zeros(1 << 24, np.float32)
    found = on_gpu.against_copy(
        {"relu": (RELU, "launchRelu")}, x, kernels.out(x.shape), x.size, None, graph=True, rounds=50
    )
    assert set(found) == {"relu", "relu, graph"} and all(0.1 < one.ratio < 1.3 for one in found.values())
