"""Fifteen kernels, written without having seen the checker: seven correct, eight with one mistake each.

What counts, said before the first run:

- A faulty kernel is *found* when a finding of the report describes its bug and points to one of the lines in `where`
  (for outputs that nobody writes: it names the output). A finding of another kind or elsewhere is not enough.
- A correct kernel with any finding is a *false report*; a kernel that the checker does not run is *refused*.
- The output is compared with numpy apart from the findings.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class In:
    """An array that is read only."""

    array: np.ndarray


@dataclass(frozen=True)
class Out:
    """An array that the launcher fills. `right` is None for a workspace, whose contents are nobody's business."""

    name: str
    shape: tuple[int, ...]
    dtype: Any
    right: np.ndarray | None


@dataclass(frozen=True)
class InOut:
    """An array that is read and written."""

    name: str
    array: np.ndarray
    right: np.ndarray


@dataclass(frozen=True)
class Case:
    file: str
    launcher: str
    make: Callable[[], list[Any]]
    """The launcher's arguments: `In`, `Out`, `InOut`, numbers, and None for the stream."""
    about: str
    """Correct: what a naive checker may take for a bug. Faulty: the bug."""
    kind: str | None = None
    """The kind of bug; None for a correct kernel."""
    where: dict[int, str] = field(default_factory=dict)
    """Lines to which a report may point, with a piece of each."""
    tolerance: float = 1e-5
    canonical: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] = lambda outputs: outputs
    """Brings outputs whose order is free into one order."""

    @property
    def correct(self) -> bool:
        return self.kind is None


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


# Correct ones


def _gelu() -> list[Any]:
    begin, n = 3, 1002
    buffer = _normal(_rng(1), 1010).astype(np.float16)
    x = buffer[begin : begin + n].astype(np.float64)
    right = buffer.copy()
    right[begin : begin + n] = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return [InOut("buffer", buffer, right), begin, n, None]


def _cross_entropy() -> list[Any]:
    rows, cols = 10, 78
    rng = _rng(2)
    logits = 3 * _normal(rng, rows, cols)
    labels = rng.integers(0, cols, rows).astype(np.int32)
    e = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    probs = e / e.sum(1, keepdims=True)
    loss = -np.log(probs[np.arange(rows), labels])
    return [
        In(logits),
        In(labels),
        Out("probs", (rows, cols), np.float16, probs),
        Out("loss", (rows,), np.float32, loss),
        rows,
        cols,
        None,
    ]


def _layernorm() -> list[Any]:
    rows, hidden, eps = 7, 200, 1e-5
    rng = _rng(3)
    x, residual = _normal(rng, rows, hidden), _normal(rng, rows, hidden)
    gamma, beta = _normal(rng, hidden), _normal(rng, hidden)
    z = x.astype(np.float64) + residual
    right = (z - z.mean(1, keepdims=True)) / np.sqrt(z.var(1, keepdims=True) + eps) * gamma + beta
    y = Out("y", (rows, hidden), np.float32, right)
    return [In(x), In(residual), In(gamma), In(beta), y, rows, hidden, 1, eps, None]


def _batchnorm() -> list[Any]:
    batch, channels, pixels, eps = 2, 20, 63, 1e-3
    rng = _rng(4)
    x = _normal(rng, batch, channels, pixels)
    gamma, beta, mean = (_normal(rng, channels) for _ in range(3))
    var = rng.uniform(0.5, 2, channels).astype(np.float32)
    by_channel = [a.astype(np.float64)[:, None] for a in (gamma, beta, mean, var)]
    right = (x - by_channel[2]) / np.sqrt(by_channel[3] + eps) * by_channel[0] + by_channel[1]
    return [
        In(x),
        In(gamma),
        In(beta),
        In(mean),
        In(var),
        Out("workspace", (2 * channels + x.size,), np.float32, None),
        Out("y", (batch, pixels, channels), np.float32, right.transpose(0, 2, 1)),
        batch,
        channels,
        pixels,
        eps,
        None,
    ]


def _l2norm() -> list[Any]:
    n, blocks = 5003, 5
    x = _normal(_rng(5), n)
    zero = np.zeros(1, np.uint32)
    return [
        In(x),
        Out("partials", (blocks,), np.float32, None),
        InOut("counter", zero, zero),
        Out("norm", (1,), np.float32, np.array([np.linalg.norm(x.astype(np.float64))])),
        n,
        blocks,
        None,
    ]


def _select() -> list[Any]:
    n, capacity, threshold = 500, 128, 0.8
    rng = _rng(6)
    scores = rng.uniform(0, 1, n).astype(np.float32)
    boxes = rng.uniform(0, 640, (n, 4)).astype(np.float32)
    chosen = np.flatnonzero(scores > np.float32(threshold))
    assert 32 < len(chosen) < capacity
    kept = np.full(capacity, -1, np.int32)
    kept[: len(chosen)] = chosen
    kept_boxes = np.zeros((capacity, 4), np.float32)
    kept_boxes[: len(chosen)] = boxes[chosen]
    return [
        In(scores),
        In(boxes),
        Out("count", (1,), np.int32, np.array([len(chosen)])),
        Out("kept", (capacity,), np.int32, kept),
        Out("kept_boxes", (capacity, 4), np.float32, kept_boxes),
        n,
        capacity,
        threshold,
        None,
    ]


def _in_order_of_index(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The kept boxes come in any order: sorted by index, the free places (-1) last."""
    kept = outputs["kept"]
    order = np.argsort(np.where(kept < 0, np.iinfo(np.int32).max, kept), kind="stable")
    return outputs | {"kept": kept[order], "kept_boxes": outputs["kept_boxes"][order]}


def _gemm() -> list[Any]:
    m, n, k = 45, 50, 70
    rng = _rng(7)
    a, b, bias = _normal(rng, m, k), _normal(rng, k, n), _normal(rng, n)
    right = a.astype(np.float64) @ b + bias
    return [In(a), In(b), In(bias), Out("c", (m, n), np.float32, right), m, n, k, None]


# Faulty ones


def _rmsnorm() -> list[Any]:
    rows, hidden, eps = 4, 132, 1e-6
    rng = _rng(8)
    x = _normal(rng, rows, hidden).astype(np.float16)
    gamma = _normal(rng, hidden)
    z = x.astype(np.float64)
    right = z / np.sqrt((z**2).mean(1, keepdims=True) + eps) * gamma
    return [In(x), In(gamma), Out("y", (rows, hidden), np.float16, right), rows, hidden, eps, None]


def _softmax() -> list[Any]:
    rows, cols = 3, 300
    x = 2 * _normal(_rng(9), rows, cols)
    e = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    return [In(x), Out("y", (rows, cols), np.float32, e / e.sum(1, keepdims=True)), rows, cols, None]


def _cdf() -> list[Any]:
    rows, cols = 3, 300
    weights = _rng(10).uniform(0.1, 1, (rows, cols)).astype(np.float32)
    sums = weights.astype(np.float64).cumsum(1)
    return [In(weights), Out("cdf", (rows, cols), np.float32, sums / sums[:, -1:]), rows, cols, None]


def _histogram() -> list[Any]:
    n, low, high = 3000, -4.0, 4.0
    x = (2 * _rng(11).standard_normal(n)).clip(-5, high).astype(np.float32)
    assert (x == high).any()
    right = np.histogram(x[(x >= low) & (x <= high)], bins=256, range=(low, high))[0]
    return [In(x), Out("counts", (256,), np.int32, right), n, low, high, None]


def _amax() -> list[Any]:
    batch, channels, pixels = 2, 3, 700
    x = _normal(_rng(12), batch, channels, pixels)
    right = np.abs(x).max((0, 2))
    return [In(x), Out("amax", (channels,), np.float32, right), batch, channels, pixels, None]


def _im2col() -> list[Any]:
    channels, height, width, stride, pad, padded = 3, 11, 13, 2, 1, 32
    image = _normal(_rng(13), channels, height, width)
    out_h, out_w = (height + 2 * pad - 3) // stride + 1, (width + 2 * pad - 3) // stride + 1
    framed = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))
    right = np.zeros((padded, out_h, out_w), np.float32)
    for k in range(9 * channels):
        c, r, s = k // 9, k % 9 // 3, k % 3
        right[k] = framed[c, r : r + stride * out_h : stride, s : s + stride * out_w : stride][:out_h, :out_w]
    columns = Out("columns", (padded, out_h * out_w), np.float16, right.reshape(padded, -1))
    return [In(image), columns, channels, height, width, stride, pad, padded, None]


def _instancenorm() -> list[Any]:
    rows, cols, eps = 6, 200, 1e-5
    rng = _rng(14)
    x, logits = _normal(rng, rows, cols), _normal(rng, rows)
    z = x.astype(np.float64)
    right = (z - z.mean(1, keepdims=True)) / np.sqrt(z.var(1, keepdims=True) + eps) / (1 + np.exp(-logits[:, None]))
    return [
        In(x),
        In(logits),
        Out("workspace", (3 * rows,), np.float32, None),
        Out("y", (rows, cols), np.float32, right),
        rows,
        cols,
        eps,
        None,
    ]


def _argmax() -> list[Any]:
    rows, cols = 10, 77
    x = _normal(_rng(15), rows, cols)
    index = Out("index", (rows,), np.int32, x.argmax(1))
    return [In(x), index, Out("value", (rows,), np.float32, x.max(1)), rows, cols, None]


CASES = [
    Case(
        "gelu_half2_inplace.cu",
        "launch_gelu",
        _gelu,
        "half2 on a buffer that begins at an odd element: the head and the tail are done as scalars, in place",
        tolerance=2e-3,
    ),
    Case(
        "cross_entropy_warp.cu",
        "launch_cross_entropy",
        _cross_entropy,
        "whole warps leave early; lanes exchange through shared memory with __syncwarp alone",
        tolerance=1e-3,
    ),
    Case(
        "layernorm_residual.cu",
        "launch_layernorm",
        _layernorm,
        "barriers in a branch and in a loop that are the same for the whole block; shuffles of four lanes; "
        "a buffer that is used again with just enough barriers",
    ),
    Case(
        "batchnorm_to_nhwc.cu",
        "launch_batchnorm_to_nhwc",
        _batchnorm,
        "two streams, tied together by events in the right order; a tile that is filled only as far as it is read",
    ),
    Case(
        "l2norm_last_block.cu",
        "launch_l2norm",
        _l2norm,
        "the last block reads what other blocks wrote in the same launch, after a fence and an atomic ticket; "
        "a barrier in a branch that is the same for the whole block",
    ),
    Case(
        "select_boxes.cu",
        "launch_select_boxes",
        _select,
        "the order of the outputs is free; warps without a hit leave before the last shuffle",
        canonical=_in_order_of_index,
    ),
    Case(
        "gemm_double_buffer.cu",
        "launch_gemm",
        _gemm,
        "one barrier per tile, because of two buffers",
        tolerance=1e-4,
    ),
    Case(
        "rmsnorm_half8.cu",
        "launch_rmsnorm",
        _rmsnorm,
        "16-byte loads, but rows of 132 halves: every odd row begins 8 bytes off (the guard says 4, it must say 8)",
        kind="misaligned vector access",
        where={29: "reinterpret_cast<const uint4*>(in)[p]", 48: "hidden % 4 != 0"},
    ),
    Case(
        "softmax_block.cu",
        "launch_softmax",
        _softmax,
        "the second reduction writes its partial sums while slower warps still read the first one's partial maxima",
        kind="missing barrier where shared memory is used again",
        where={24: "shared[warp] = value", 27: "shared[lane]", 49: "block_reduce(sum"},
    ),
    Case(
        "cdf_rows.cu",
        "launch_cdf_rows",
        _cdf,
        "the loop with barriers runs once more for the threads that still have a column than for the others",
        kind="barrier in divergent code",
        where={
            16: "for (int i = t; i < cols; i += kThreads)",
            18: "__syncthreads()",
            21: "__syncthreads()",
            23: "__syncthreads()",
            26: "__syncthreads()",
            30: "__syncthreads()",
            32: "__syncthreads()",
        },
    ),
    Case(
        "histogram_calibration.cu",
        "launch_histogram",
        _histogram,
        "a value that equals the upper end of the range falls into bin 256 of 256",
        kind="shared memory index out of range",
        where={18: "const int bin", 19: "atomicAdd(&bins[bin], 1)"},
    ),
    Case(
        "amax_channels.cu",
        "launch_amax_channels",
        _amax,
        "four blocks share a channel and raise its maximum by a plain read, compare and write",
        kind="missing atomic (blocks race in global memory)",
        where={25: "best[0] > amax[c]", 26: "amax[c] = best[0]"},
    ),
    Case(
        "im2col_padded.cu",
        "launch_im2col",
        _im2col,
        "the grid has as many rows as there are taps, so the padding rows, which must be zero, are never written",
        kind="unwritten outputs",
        where={
            25: "columns[k * pixels + pixel]",
            36: "const dim3 grid",
            37: "im2col<<<grid",
        },
    ),
    Case(
        "instancenorm_gated.cu",
        "launch_instancenorm",
        _instancenorm,
        "the event is recorded before the launch that it should follow, so nobody waits for the statistics",
        kind="wrong order between streams",
        where={
            27: "stats[2 * blockIdx.x] = mean",
            28: "stats[2 * blockIdx.x + 1] = rsqrtf",
            40: "stats[2 * blockIdx.x]",
            41: "stats[2 * blockIdx.x + 1]",
            62: "cudaEventRecord(stats_ready, side)",
            63: "row_stats<<<",
            66: "cudaStreamWaitEvent(stream, stats_ready",
            67: "normalise<<<",
        },
    ),
    Case(
        "argmax_rows.cu",
        "launch_argmax",
        _argmax,
        "77 columns: in the last turn of the loop 13 lanes shuffle with a mask that names all 32",
        kind="shuffle whose mask names lanes that do not take part",
        where={
            16: "for (int c = lane; c < cols; c += 32)",
            20: "__shfl_down_sync(0xffffffffu, v, offset)",
            21: "__shfl_down_sync(0xffffffffu, at, offset)",
        },
    ),
]
