"""Lesson 3.02, CUDA kernels I: the learner's kernels run on the CPU checker at awkward sizes, and their accesses are counted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from course import kernels
from course.exercises import Wrong, exercise, reference
from course.exercises.stage3_plugins import _cuda

BETA = 1.625
SIZES = (1, 63, 64, 65, 1000)
HEADER = """
#include <cuda_fp16.h>
#include <cuda_runtime.h>
__device__ float swish(float x, float beta) { return x / (1.0f + __expf(-beta * x)); }
"""


@exercise(
    "kernel-first",
    points=3,
    hints=(
        "Every block counts its threads from 0. What tells block 3's thread 0 from block 0's? And what do the threads do "
        "that are left over in the last block?",
        "The index is blockIdx.x * blockDim.x + threadIdx.x. Let nobody go on whose index is n or more. The number of "
        "blocks is n / threads, rounded up.",
        "int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) y[i] = swish(x[i], beta); and in the launcher blocks = "
        "(n + threads - 1) / threads;",
    ),
)
def first_kernel(first: str):
    module = _cuda.compiled(first, "first", "launchSwish")
    for n in SIZES:
        x = _numbers(n, np.float32)
        arguments = (x, kernels.out(n), BETA, n, None)
        (y,) = _cuda.outputs(
            module,
            "launchSwish",
            *arguments,
            case=f"n = {n}",
            causes={
                "out-of-bounds": "The last block has more threads than elements are left, and these go on as well.",
                "unwritten-output": lambda arguments=arguments: _why_unwritten(module, arguments),
                "race": "Two threads have the same element: the index must be unique in the whole grid.",
            },
        )
        _right(y, x, n, BETA)
    return f"Right at n = {', '.join(map(str, SIZES))}, in four thread orders, and no access beside the arrays."


def _why_unwritten(module: kernels.Module, arguments: tuple) -> str:
    """Whether the threads are too few, or do one another's work."""
    trace = module.record("launchSwish", *arguments)
    written = trace.offset[trace.of("y")]
    if not len(written):
        return "No thread writes to y at all."
    if len(np.unique(written)) < len(written):
        return "All blocks work on the same elements: an index without blockIdx.x starts at 0 in each block."
    return "Some elements have no thread: there are too few blocks. A division of whole numbers, n / threads, cuts the rest off."


@reference("kernel-first")
def _first():
    return (
        HEADER
        + """
__global__ void oneEach(const float* x, float* y, float beta, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = swish(x[i], beta);
}
extern "C" int launchSwish(const float* x, float* y, float beta, int n, cudaStream_t stream)
{
    oneEach<<<(n + 63) / 64, 64, 0, stream>>>(x, y, beta, n);
    return cudaGetLastError();
}
"""
    )


@exercise(
    "kernel-sectors",
    points=2,
    hints=(
        "A lane reads `size` bytes, from its offset on. Which sectors do the first and the last of them lie in?",
        "Byte b lies in sector b // 32. Count each sector once, whichever lanes need it.",
        "len(np.unique((offsets[:, None] + np.arange(size)) // 32))",
    ),
)
def count_sectors(sectors: Callable):
    lanes = np.arange(32)
    rng = np.random.default_rng(4)
    cases = {
        "32 neighbours, 4 bytes each": (4 * lanes, 4),
        "every second element, 4 bytes each": (8 * lanes, 4),
        "all lanes at the same 4 bytes": (0 * lanes + 64, 4),
        "32 neighbours that begin at byte 20, 4 bytes each": (4 * lanes + 20, 4),
        "4 lanes, 16 bytes each, from byte 24": (16 * lanes[:4] + 24, 16),
        "lane i far from lane i + 1, 16 bytes each, from byte 24": (4096 * lanes + 24, 16),
        "random elements, 2 bytes each": (2 * rng.integers(0, 4000, 32), 2),
    }
    for name, (offsets, size) in cases.items():
        found = sectors(offsets.copy(), size)
        wanted = len({byte // 32 for offset in offsets.tolist() for byte in range(offset, offset + size)})
        if not isinstance(found, (int, np.integer)):
            raise Wrong(f"sectors(...) returned a {type(found).__name__}.", "It counts.", "Return one whole number.")
        if found != wanted:
            raise Wrong(
                f"{name}: {wanted} sectors, you count {found}.", _why_sectors(found, offsets, size), "Draw the bytes."
            )
    return f"Right for {len(cases)} requests, among them scattered ones and ones that begin inside a sector."


def _why_sectors(found: int, offsets: np.ndarray, size: int) -> str:
    first, last = offsets // 32, (offsets + size - 1) // 32
    if found == len(np.unique(first)):
        return "Only the sector of each lane's first byte is counted; its last byte may lie in the next one."
    if found == last.max() - first.min() + 1:
        return "You count all sectors between the lowest and the highest byte. Those that nobody touches do not travel."
    if found == -(-len(offsets) * size // 32):
        return "That is what the bytes need at least. Bytes that are scattered, or not at a multiple of 32, need more."
    return "A sector that several lanes need travels once; one that a lane needs one byte of travels whole."


@reference("kernel-sectors")
def _sectors():
    def sectors(offsets: np.ndarray, size: int) -> int:
        return len(np.unique((offsets[:, None] + np.arange(size)) // 32))

    return sectors


@exercise(
    "kernel-stride",
    points=3,
    hints=(
        "Where does a thread begin, and which element is the next that no other thread of the grid takes?",
        "Begin at the index of exercise 1. All threads of the grid together take gridDim.x * blockDim.x elements in one "
        "round.",
        "for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) y[i] = swish(x[i], beta);",
    ),
)
def grid_stride(stride: str):
    module = _cuda.compiled(stride, "stride", "launchSwish")
    for n, blocks in ((1, 3), (1000, 1), (1000, 3), (4097, 5), (64, 40)):
        x, case = _numbers(n, np.float32), f"n = {n}, {blocks} block{'s' if blocks > 1 else ''} of 64 threads"
        arguments = (x, kernels.out(n), BETA, n, blocks, None)
        (y,) = _cuda.outputs(
            module,
            "launchSwish",
            *arguments,
            case=case,
            causes={
                "out-of-bounds": "The loop must end before n, also in the last round.",
                "unwritten-output": "The grid is smaller than the data, and no thread comes to the rest: each must go on "
                "until n.",
                "race": "Several threads come to the same element.",
                "timeout": "The loop does not end: does i grow in each round?",
            },
        )
        _right(y, x, n, BETA)
        trace = module.record("launchSwish", *arguments)
        writes = int(trace.write[trace.of("y")].sum())
        if writes > n:
            raise Wrong(
                f"{case}: the answers are right, but {writes} results are written for {n} elements.",
                "Several threads compute the same elements: the step is smaller than the number of threads in the grid.",
                "Step by all threads of the grid: gridDim.x * blockDim.x.",
                share=0.3,
            )
        if n > 500:
            _coalesced(trace, case)
    return "Right for grids from far too small to far too large; each element is computed once, and coalesced."


def _coalesced(trace: kernels.Trace, case: str) -> None:
    for pattern in kernels.patterns(trace):
        if pattern.units > 1.2 * pattern.ideal:
            raise Wrong(
                f"{case}: right, but a warp's request to {pattern.buffer} touches {pattern.units:.0f} sectors, where "
                f"{pattern.ideal:.0f} would do.",
                "Each thread takes consecutive elements, so the 32 lanes of a warp are far apart at any moment.",
                "Let neighbouring threads take neighbouring elements, and all step forward together.",
                share=0.5,
            )


@reference("kernel-stride")
def _stride():
    return (
        HEADER
        + """
__global__ void gridStride(const float* x, float* y, float beta, int n)
{
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) y[i] = swish(x[i], beta);
}
extern "C" int launchSwish(const float* x, float* y, float beta, int n, int blocks, cudaStream_t stream)
{
    gridStride<<<blocks, 64, 0, stream>>>(x, y, beta, n);
    return cudaGetLastError();
}
"""
    )


@exercise(
    "kernel-wide",
    points=4,
    hints=(
        "How many whole groups of eight are in n numbers, and which elements are left? Treat the two in two loops.",
        "reinterpret_cast<const uint4*>(x)[i] loads halves 8i to 8i + 7. Look at its bytes through a __half2*, convert each "
        "pair to float2, compute, convert back, store a uint4. The tail starts at n / 8 * 8.",
        "uint4 bits = reinterpret_cast<const uint4*>(x)[i]; __half2* pair = reinterpret_cast<__half2*>(&bits); for each k "
        "below 4: float2 v = __half22float2(pair[k]); pair[k] = __floats2half2_rn(swish(v.x, beta), swish(v.y, beta)); "
        "then reinterpret_cast<uint4*>(y)[i] = bits; the tail is oneEach's line in a loop from n / 8 * 8 + first.",
    ),
)
def wide_kernel(wide: str):
    module = _cuda.compiled(wide, "wide", "launchOneEach", "launchEightEach")
    for n in (8, 4096, 1, 7, 9, 2047, 5003):
        x = _numbers(n, np.float16)
        (y,) = _cuda.outputs(
            module,
            "launchEightEach",
            x,
            kernels.out(n, np.float16),
            BETA,
            n,
            None,
            case=f"n = {n}",
            causes={
                "out-of-bounds": "A load of eight reaches past the end: with n = 9 there is one whole group, not two.",
                "unwritten-output": "The last n % 8 elements, or the groups behind the first round, have no thread.",
                "misaligned": "A wide load must begin at a multiple of its size; the tail must go one by one.",
                "race": "The tail, or a group, is written by several threads.",
            },
        )
        _right(y, x, n, BETA)
    x = _numbers(4096, np.float16)
    trace = module.record("launchEightEach", x, kernels.out(4096, np.float16), BETA, 4096, None)
    for buffer in ("x", "y"):
        at = trace.of(buffer)
        if (size := int(trace.size[at].min())) < 16:
            raise Wrong(
                f"Right at every size, but of 4096 halves of {buffer} some travel {size} bytes at a time.",
                "What is loaded and stored has to be one value of a built-in type of 16 bytes. A struct of four __half2 is "
                "copied member by member, 4 bytes each, though it has 16."
                if size == 4
                else "A thread's access is as wide as the type that its pointer points to.",
                "Read and write through uint4*, and look at the 16 bytes through a __half2*.",
                share=0.5,
            )
    if len(trace.of("x")) > 512 or len(trace.of("y")) > 512:
        raise Wrong(
            "Right, but groups of eight are loaded or stored more than once.",
            "Several threads do the same group: the step is too small.",
            "Step by `step`, the number of threads in the grid.",
            share=0.5,
        )
    _coalesced(trace, "n = 4096")
    return "Right at every size; 4096 halves travel in 512 loads and 512 stores of 16 bytes."


@reference("kernel-wide")
def _wide():
    return (
        HEADER
        + """
__global__ void oneEach(const __half* x, __half* y, float beta, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = __float2half(swish(__half2float(x[i]), beta));
}
__global__ void eightEach(const __half* x, __half* y, float beta, int n)
{
    int first = blockIdx.x * blockDim.x + threadIdx.x, step = gridDim.x * blockDim.x;
    for (int i = first; i < n / 8; i += step) {
        uint4 bits = reinterpret_cast<const uint4*>(x)[i];
        __half2* pair = reinterpret_cast<__half2*>(&bits);
        for (int k = 0; k < 4; ++k) {
            float2 v = __half22float2(pair[k]);
            pair[k] = __floats2half2_rn(swish(v.x, beta), swish(v.y, beta));
        }
        reinterpret_cast<uint4*>(y)[i] = bits;
    }
    for (int i = n / 8 * 8 + first; i < n; i += step) y[i] = __float2half(swish(__half2float(x[i]), beta));
}
extern "C" int launchOneEach(const __half* x, __half* y, float beta, int n, cudaStream_t stream)
{
    oneEach<<<(n + 255) / 256, 256, 0, stream>>>(x, y, beta, n);
    return cudaGetLastError();
}
extern "C" int launchEightEach(const __half* x, __half* y, float beta, int n, cudaStream_t stream)
{
    eightEach<<<(n / 8 + 256) / 256, 256, 0, stream>>>(x, y, beta, n);
    return cudaGetLastError();
}
"""
    )


def _numbers(n: int, dtype: type) -> np.ndarray:
    """[n] normal numbers, the first ones large enough that an exponential in FP16 overflows."""
    x = 2 * np.random.default_rng(n).standard_normal(n)
    large = np.array([-9.5, 12.0, -12.5, 30.0, 0.0])[:n]
    x[: len(large)] = large
    return x.astype(dtype)


def _right(y: np.ndarray, x: np.ndarray, n: int, beta: float) -> None:
    """Raise what is wrong with y = swish(x)."""
    exact = x.astype(np.float64) / (1 + np.exp(-beta * x.astype(np.float64)))
    half = x.dtype == np.float16
    allowed = (2e-3 if half else 1e-5) * np.abs(exact) + (1e-6 if half else 1e-7)
    bad = ~(np.abs(y.astype(np.float64) - exact) <= allowed)
    if not bad.any():
        return
    place = int(np.argmax(bad))
    plain = x.astype(np.float64) / (1 + np.exp(-x.astype(np.float64)))
    if np.allclose(y.astype(np.float64), plain, rtol=1e-2, atol=1e-3):
        cause = "That is Swish with beta = 1: the attribute is not used."
    elif half and not np.isfinite(y).all() or half and np.abs(y.astype(np.float64) - exact).max() < 0.05:
        cause = "The exponential or the division is computed in FP16: it has three digits and ends at 65504."
    else:
        cause = "Another element's value, or another formula: x / (1 + exp(-beta * x))."
    raise Wrong(
        f"n = {n}: y[{place}] is {y[place]:.6g}, and Swish of x[{place}] = {x[place]:.6g} with beta = {beta} is "
        f"{exact[place]:.6g} ({int(bad.sum())} of {n} are wrong).",
        cause,
        f"Follow element {place} by hand: which thread has it, what does that thread read, and what does it write?",
    )
