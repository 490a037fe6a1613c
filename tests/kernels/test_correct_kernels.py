"""Correct kernels: the right answer and no finding, in every thread order."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from course import kernels
from course.kernels import inout, out

CUDA = Path(__file__).parent / "cuda"
F, H, I32 = np.float32, np.float16, np.int32
RNG = np.random.default_rng(7)


def normal(*shape: int, dtype: type = F) -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def layer_norm(x: np.ndarray, g: np.ndarray, b: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * g + b


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    return softmax(np.einsum("hqd,hkd->hqk", q, k) * 0.17677669) @ v


def bfloat(x: np.ndarray) -> np.ndarray:
    return (x.view(np.uint32) >> 16).astype(np.uint16)


def pooled(x: np.ndarray) -> np.ndarray:
    return x.reshape(x.shape[0] // 2, 2, -1, 2).max((1, 3))


X, ROWS, INTS = normal(1003), normal(12, 300), RNG.integers(0, 16, 3000).astype(I32)
HALF, G, B = normal(1003, dtype=H), normal(300), normal(300)
IDS, TABLE = RNG.integers(0, 50, 9), normal(50, 70)
RGBA = RNG.integers(0, 256, (500, 4)).astype(np.uint8)
BYTES, COUNTS = RNG.integers(0, 256, 128).astype(np.uint8), RNG.integers(-9, 9, 600).astype(I32)
A, W = normal(50, 37), normal(37, 45)
W8, X8 = RNG.integers(-128, 128, (10, 96)).astype(np.int8), RNG.integers(-128, 128, 96).astype(np.int8)
Q, K, V = normal(2, 45, 32), normal(2, 45, 32), normal(2, 45, 32)
SMALL = (RNG.integers(-8, 8, 400) / 4).astype(F)  # exact in bfloat16, also their sums
SHORTS, LAYERS = normal(10, 64), normal(2, 40, 50)

CASES: dict[str, tuple[str, tuple, np.ndarray, float]] = {
    "launchScale4": ("elementwise", (X, out(1003), 1.5, 1003, None), 1.5 * X, 0),
    "launchQuickGeluHalf": (
        "elementwise",
        (HALF, out(1003, H), 1003),
        HALF / (1 + np.exp(-1.702 * HALF.astype(np.float64))),
        2e-3,
    ),
    "launchSquare": ("elementwise", (HALF[:1000], out(1000, H), 1000), HALF[:1000] * HALF[:1000], 0),
    "launchBfloatAdd": (
        "elementwise",
        (bfloat(SMALL), bfloat(SMALL[::-1].copy()), out(400, np.uint16), 400),
        bfloat(SMALL + SMALL[::-1]),
        0,
    ),
    "launchGrey": (
        "elementwise",
        (RGBA, out(500, np.uint8), 500),
        (RGBA[:, :3].astype(I32) @ np.array([77, 151, 28]) >> 8).astype(np.uint8),
        0,
    ),
    "launchGather": ("elementwise", (TABLE, IDS, out((9, 70)), 9, 70), TABLE[IDS], 0),
    "launchInPlace": ("elementwise", (inout(X), 1003), X + F(1), 0),
    "launchLayerNorm": ("reductions", (ROWS, G, B, out(ROWS.shape), 12, 300, 1e-5, None), layer_norm(ROWS, G, B), 1e-5),
    "launchRmsNorm": (
        "reductions",
        (ROWS, G, out(ROWS.shape), 12, 300),
        ROWS / np.sqrt((ROWS.astype(np.float64) ** 2).mean(1, keepdims=True) + 1e-6) * G,
        1e-5,
    ),
    "launchSoftmax": ("reductions", (ROWS, out(ROWS.shape), 12, 300), softmax(ROWS), 1e-6),
    "launchSumAtomic": ("reductions", (X, out(1), 1003), X.sum(dtype=np.float64).reshape(1), 1e-3),
    "launchSumTree": ("reductions", (X[:768], out(3), 3), X[:768].reshape(3, 256).sum(1), 1e-4),
    "launchSumLastBlock": ("reductions", (X, out(1), 1003), X.sum(dtype=np.float64).reshape(1), 1e-3),
    "launchHistogramGlobal": ("reductions", (INTS, out(16, I32), 3000), np.bincount(INTS, minlength=16), 0),
    "launchHistogramShared": ("reductions", (INTS, out(16, I32), 3000, 16), np.bincount(INTS, minlength=16), 0),
    "launchScanHillisSteele": (
        "reductions",
        (COUNTS, out(600, I32), 600),
        np.concatenate([np.cumsum(part) for part in (COUNTS[:256], COUNTS[256:512], COUNTS[512:])]),
        0,
    ),
    "launchScanBlelloch": ("reductions", (COUNTS[:512], out(512, I32)), np.cumsum(COUNTS[:512]) - COUNTS[:512], 0),
    "launchScanWarp": ("reductions", (COUNTS[:64], out(64, I32)), np.cumsum(COUNTS[:64].reshape(2, 32), 1).ravel(), 0),
    "launchMaximum": ("reductions", (X, out(1), 1003), X.max().reshape(1), 0),
    "launchArgmax": ("reductions", (ROWS, out(12, I32), 12, 300), ROWS.argmax(1), 0),
    "launchCountPositive": ("reductions", (X, out(1, I32), 1003), np.array([(X > 0).sum()]), 0),
    "launchPartOfAWarp": ("reductions", (X, out(1), 21), X[:21].sum().reshape(1), 1e-5),
    "launchBestOfBlock": ("reductions", (X, out(1), 1003), X.max().reshape(1), 0),
    "launchAnyAbove": ("reductions", (X, out(1, I32), 1.0, 1003), np.array([1]), 0),
    "launchChained": ("advanced", (COUNTS, out(600, I32), 600), np.cumsum(COUNTS), 0),
    "launchConverge": ("advanced", (np.ones(64, F), out(64)), np.ones(64), 0),
    "launchWarpRows": ("advanced", (ROWS, out(12), 12, 300), ROWS.sum(1), 1e-4),
    "launchGemmTiled": ("advanced", (A, W, out((50, 45)), 50, 45, 37), A @ W, 1e-4),
    "launchWelford": ("advanced", (ROWS, out(12), out(12), 12, 300), ROWS.mean(1), 1e-5),
    "launchQuantise": (
        "advanced",
        (X[:1000], out(1000, np.int8), 0.02, 1000),
        np.clip(np.rint(X[:1000] / F(0.02)), -128, 127),
        0,
    ),
    "launchHalfSum": ("advanced", (HALF[:100], out(2, H), out(1), 50), HALF[:100].reshape(50, 2).sum(0), 2e-2),
    "launchLayout": ("advanced", (LAYERS, out((2, 50, 40)), 2, 40, 50), LAYERS.transpose(0, 2, 1), 0),
    "launchGemm": ("tiles", (A, W, out((50, 45)), 50, 45, 37), A @ W, 1e-4),
    "launchGemmHalf": (
        "tiles",
        (A.astype(H), W.astype(H), out((50, 45), H), 50, 45, 37),
        A.astype(H).astype(F) @ W.astype(H).astype(F),
        3e-2,
    ),
    "launchTranspose": ("tiles", (ROWS, out((300, 12)), 12, 300), ROWS.T, 0),
    "launchStencil": ("tiles", (X, out(1003), 1003), np.convolve(X, [1, 2, 4, 2, 1], "same"), 1e-5),
    "launchAttention": ("tiles", (Q, K, V, out(Q.shape), 2, 45), attention(Q, K, V), 1e-5),
    "launchBitonic": ("tiles", (inout(COUNTS[:256]),), np.sort(COUNTS[:256]), 0),
    "launchGemv8": ("tiles", (W8, X8, out(10, I32), 10, 96), W8.astype(I32) @ X8.astype(I32), 0),
    "launchBytes": ("tiles", (BYTES, out(128, np.uint8)), BYTES[::-1], 0),
    "launchMaxPool": ("tiles", (SHORTS, out((5, 32)), 10, 64), pooled(SHORTS), 0),
    "launchTwoStreams": ("tiles", (X, out(1003), 1003), X + F(2) + X, 1e-6),
    "launchLockedSum": ("tiles", (COUNTS[:128], out(1, I32), 4), COUNTS[:128].sum().reshape(1), 0),
}


@cache
def module(name: str, mode: str) -> kernels.Module:
    return kernels.load(CUDA / f"correct_{name}.cu", mode)


@pytest.mark.parametrize("launcher", CASES)
def test_correct_kernels_are_right_and_without_a_finding(launcher: str) -> None:
    file, arguments, wanted, tolerance = CASES[launcher]
    report = module(file, "checked").check(launcher, *arguments)
    assert report.ok, str(report)
    plain = module(file, "plain").launch(launcher, *arguments, order=3)
    for got in (report.outputs[0], plain.outputs[0]):
        assert np.allclose(got, wanted, rtol=tolerance, atol=tolerance), (got, wanted)
    assert report.result == plain.result == 0


def test_a_compaction_keeps_the_positive_values() -> None:
    report = module("reductions", "checked").check("launchCompact", X, out(1003, partial=True), out(1, I32), 1003)
    assert report.ok, str(report)
    kept, count = report.outputs
    assert count[0] == (X > 0).sum() and np.array_equal(np.sort(kept[: count[0]]), np.sort(X[X > 0]))


def test_every_launcher_of_the_files_is_tried() -> None:
    tried = {(case[0], name) for name, case in CASES.items()} | {("reductions", "launchCompact")}
    assert tried == {
        (file, name)
        for file in ("elementwise", "reductions", "tiles", "advanced")
        for name in module(file, "checked").launchers
    }
