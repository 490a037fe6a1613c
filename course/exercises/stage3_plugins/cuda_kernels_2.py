"""Lesson 3.03, CUDA kernels II: softmax and LayerNorm of the learner on the CPU checker; bank conflicts counted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from course import kernels
from course.exercises import Wrong, exercise, reference
from course.exercises.stage3_plugins import _cuda

SHAPES = ((3, 128), (1, 1), (2, 33), (3, 1000))
EPS = 1e-5


@exercise(
    "kernel-softmax",
    points=4,
    hints=(
        "When may a thread read what another one wrote? And when may it write again to a place that others still read?",
        "Largest value of the row first: each thread of its own elements, then halves of the block against each other in "
        "`part`, a __syncthreads() after every step and outside of the if. Then the same for the sum of exp(x - largest). "
        "Between the two uses of `part` everybody must have read part[0].",
        "for (int half = 64; half > 0; half /= 2) { if (t < half) part[t] = fmaxf(part[t], part[t + half]); "
        "__syncthreads(); } float top = part[0]; __syncthreads(); and so on with the sum.",
    ),
)
def softmax(softmax: str):
    module = _cuda.compiled(softmax, "softmax", "launchSoftmax")
    for rows, width in SHAPES:
        x = (3 * np.random.default_rng(width).standard_normal((rows, width))).astype(np.float32)
        x += 100  # the exponential of such a number is no float
        case = f"{rows} x {width}"
        (y,) = _cuda.outputs(
            module,
            "launchSoftmax",
            x,
            kernels.out(x.shape),
            rows,
            width,
            None,
            case=case,
            causes={
                "race": "Threads of a block run in any order. Nothing but a barrier says that the other one is done, with "
                "writing or with reading.",
                "divergent-barrier": "A barrier inside the if is reached by some threads only.",
                "uninitialized-read": "A place of `part` is read that no thread has filled.",
                "out-of-bounds": "A thread has no element where the row is shorter than the block.",
            },
        )
        exact = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
        exact /= exact.sum(1, keepdims=True)
        if not np.isfinite(y).all():
            raise Wrong(
                f"{case}: {int((~np.isfinite(y)).sum())} results are no finite numbers.",
                "exp(100) is larger than any float. Softmax stays the same if the row's largest value is subtracted first.",
                "Reduce the maximum before the sum.",
            )
        _close(y, exact, case, "Each row must sum to 1, over all of its elements: also those behind the first 128.")
    return f"Right for {len(SHAPES)} shapes in four thread orders, without a race, and for logits above 100."


@reference("kernel-softmax")
def _softmax():
    return """
#include <cuda_runtime.h>
__global__ void softmaxRow(const float* x, float* y, int width)
{
    __shared__ float part[128];
    int t = threadIdx.x;
    x += blockIdx.x * width;
    y += blockIdx.x * width;
    float top = -INFINITY, sum = 0.0f;
    for (int i = t; i < width; i += 128) top = fmaxf(top, x[i]);
    part[t] = top;
    __syncthreads();
    for (int half = 64; half > 0; half /= 2) {
        if (t < half) part[t] = fmaxf(part[t], part[t + half]);
        __syncthreads();
    }
    top = part[0];
    __syncthreads();
    for (int i = t; i < width; i += 128) sum += __expf(x[i] - top);
    part[t] = sum;
    __syncthreads();
    for (int half = 64; half > 0; half /= 2) {
        if (t < half) part[t] += part[t + half];
        __syncthreads();
    }
    sum = part[0];
    for (int i = t; i < width; i += 128) y[i] = __expf(x[i] - top) / sum;
}
extern "C" int launchSoftmax(const float* x, float* y, int rows, int width, cudaStream_t stream)
{
    softmaxRow<<<rows, 128, 0, stream>>>(x, y, width);
    return cudaGetLastError();
}
"""


def racy_softmax() -> str:
    """The course's softmax without the barrier between the two uses of `part`."""
    return _softmax().replace("top = part[0];\n    __syncthreads();", "top = part[0];")


@exercise(
    "kernel-banks",
    points=2,
    hints=(
        "Which bank holds the word at byte 4w? And what if two lanes want the same word?",
        "Word w lies in bank w % 32. A bank gives one word in a pass, to as many lanes as want it.",
        "words = np.unique(offsets // 4); return int(np.bincount(words % 32).max())",
    ),
)
def banks(passes: Callable):
    lanes = np.arange(32)
    cases = {
        "neighbours": 4 * lanes,
        "every second word": 8 * lanes,
        "all lanes the same word": 0 * lanes + 12,
        "a column of a 32 x 32 tile": 128 * lanes,
        "a column of a 32 x 33 tile": 132 * lanes,
        "pairs of lanes on one word, 64 words apart": 256 * (lanes // 2),
    }
    for name, offsets in cases.items():
        found = passes(offsets.copy())
        words = sorted({int(offset) // 4 for offset in offsets})
        wanted = max(sum(word % 32 == bank for word in words) for bank in range(32))
        if found == wanted:
            continue
        if found == np.bincount(offsets // 4 % 32).max():
            cause = "Lanes that want the same word are counted each; a bank gives a word to all of them at once."
        elif found == len(np.unique(offsets // 4 % 32)):
            cause = "That is how many banks are asked. They work at the same time; the busiest one decides."
        elif found == np.bincount(np.unique(offsets) % 32).max():
            cause = "Banks are 4 bytes wide: the bank is that of the word, not of the byte."
        else:
            cause = "The busiest bank decides: how many different words must it give?"
        raise Wrong(f"{name}: {wanted} passes, you count {found}.", cause, "Write the words of each bank in a column.")
    return f"Right for {len(cases)} requests, among them columns of a tile with and without padding."


@reference("kernel-banks")
def _banks():
    def passes(offsets: np.ndarray) -> int:
        return int(np.bincount(np.unique(offsets // 4) % 32).max())

    return passes


@exercise(
    "kernel-layernorm",
    points=4,
    hints=(
        "How do 32 lanes add up without memory? And which lanes need the sum afterwards?",
        "__shfl_xor_sync(0xffffffff, v, 16), then 8, 4, 2, 1: each lane adds what its partner has, and all end with the "
        "sum. Mean first; then the mean of the squared differences from it.",
        "for (int far = 16; far > 0; far /= 2) v += __shfl_xor_sync(0xffffffff, v, far); return v; then scale = "
        "rsqrtf(warpSum(squares) / width + eps); y = (x - mean) * scale * gamma + beta.",
    ),
)
def layer_norm(layernorm: str):
    module = _cuda.compiled(layernorm, "layernorm", "launchLayerNorm")
    for rows, width, middle in ((5, 64, 0.0), (1, 20, 0.0), (6, 384, 0.0), (3, 100, 3000.0)):
        rng = np.random.default_rng(width)
        x = (middle + rng.standard_normal((rows, width))).astype(np.float32)
        gamma, beta = rng.standard_normal((2, width)).astype(np.float32)
        case = f"{rows} x {width}" + (f", values around {middle:g}" if middle else "")
        (y,) = _cuda.outputs(
            module,
            "launchLayerNorm",
            x,
            gamma,
            beta,
            kernels.out(x.shape),
            rows,
            width,
            EPS,
            None,
            case=case,
            causes={
                "undefined-shuffle": "Lanes without an element left, and the others ask them. They must stay, with a 0.",
                "invalid-mask": "The mask names lanes that do not come to this shuffle.",
                "deadlock": "Some lanes wait at a shuffle that others never reach.",
                "out-of-bounds": "A row is not always a multiple of 32 wide.",
            },
        )
        mean = x.astype(np.float64).mean(1, keepdims=True)
        variance = ((x - mean) ** 2).mean(1, keepdims=True)
        exact = (x - mean) / np.sqrt(variance + EPS) * gamma + beta
        hint = "Perhaps not every lane has the whole sum, or a lane's part is added twice."
        if middle:
            hint = (
                "Mean of squares minus square of mean: both are about 9 000 000 here, and a float has seven digits. What is "
                "left is rounding."
            )
        _close(y, exact, case, hint, 2e-3)
    return "Right for rows of 20 to 384 numbers, also around 3000; no shared memory needed, no barrier."


@reference("kernel-layernorm")
def _layernorm():
    return """
#include <cuda_runtime.h>
__device__ float warpSum(float v)
{
    for (int far = 16; far > 0; far /= 2) v += __shfl_xor_sync(0xffffffff, v, far);
    return v;
}
__global__ void layerNorm(const float* x, const float* gamma, const float* beta, float* y, int rows, int width, float eps)
{
    int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    x += row * width;
    y += row * width;
    float sum = 0.0f, squares = 0.0f;
    for (int i = lane; i < width; i += 32) sum += x[i];
    float mean = warpSum(sum) / width;
    for (int i = lane; i < width; i += 32) squares += (x[i] - mean) * (x[i] - mean);
    float scale = rsqrtf(warpSum(squares) / width + eps);
    for (int i = lane; i < width; i += 32) y[i] = (x[i] - mean) * scale * gamma[i] + beta[i];
}
extern "C" int launchLayerNorm(const float* x, const float* gamma, const float* beta, float* y, int rows, int width,
                               float eps, cudaStream_t stream)
{
    layerNorm<<<(rows + 3) / 4, 128, 0, stream>>>(x, gamma, beta, y, rows, width, eps);
    return cudaGetLastError();
}
"""


def _close(y: np.ndarray, exact: np.ndarray, case: str, cause: str, tolerance: float = 1e-5) -> None:
    bad = ~(np.abs(y - exact) <= tolerance * (1 + np.abs(exact)))
    if bad.any():
        row, column = np.argwhere(bad)[0].tolist()
        raise Wrong(
            f"{case}: row {row}, element {column} is {y[row, column]:.6g} instead of {exact[row, column]:.6g} "
            f"({int(bad.sum())} of {bad.size} are wrong).",
            cause,
            "Compute that row in NumPy step by step, and compare the sums.",
        )
