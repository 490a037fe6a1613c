# %% [markdown]
# # CUDA kernels I: an activation at the speed of a copy
#
# Where TensorRT has no layer for an operator, a plugin brings its own kernel. An activation does little arithmetic; its
# speed is how it moves bytes. Here you write one, see which thread touches what, and make its loads eight times as wide.
#
# **Afterwards you can** write a CUDA kernel that is right for every size, read from recorded accesses whether it is
# coalesced, load 16 bytes a thread with a correct tail, and check in the machine code what nvcc made of it.
#
# **Time:** 40 minutes. The cells together took 10 s on two CPU cores; the first time, nvcc comes from PyPI (110 MB).
#
# | | on a CPU | a GPU adds |
# | --- | --- | --- |
# | writing and checking kernels | all of it: your `.cu` runs on the CPU, every access is checked | nothing |
# | coalescing | counted from the accesses of your own kernel | nothing |
# | registers, width of loads | all of it: nvcc needs no GPU | nothing |
# | speed | open | share of copy bandwidth, measured |

# %%
from pathlib import Path

import numpy as np

from course import kernels
from course.exercises import check, choice, hint, solved
from course.kernels import nvcc, on_gpu
from course.plot import kernels as plot

Path("artifacts").mkdir(exist_ok=True)


def load(name, source):
    """The source as artifacts/NAME.cu, compiled for the CPU."""
    path = Path("artifacts", f"{name}.cu")
    path.write_text(source)
    return kernels.load(path)

# %% [markdown]
# ## 1. One thread, one element
#
# A kernel is a function that thousands of threads execute at once. Threads come in *blocks* of up to 1 024, blocks form
# a *grid*. Each thread finds its place from `threadIdx.x`, `blockIdx.x` and `blockDim.x` (threads in a block). Memory on
# a GPU is one long array; nothing stops a thread from going past its end.
#
# The activation is **Swish**: y = x · sigmoid(beta · x), with beta as its attribute. With beta = 1 it is SiLU, which
# YOLO uses.
#
# **Exercise 1.** Write the body of the kernel, one element a thread, and the number of blocks, for any n from 1. The
# C++ stands in a Python string; it is the text of a `.cu` file. `check` compiles it for the CPU and runs it in four
# thread orders, at sizes that you do not see.

# %% nbgrader={"grade_id": "kernel-first", "solution": true}
first = r"""
#include <cuda_runtime.h>

__device__ float swish(float x, float beta) { return x / (1.0f + __expf(-beta * x)); }

__global__ void oneEach(const float* x, float* y, float beta, int n)
{
    // BEGIN SOLUTION
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = swish(x[i], beta);
    // END SOLUTION
}

extern "C" int launchSwish(const float* x, float* y, float beta, int n, cudaStream_t stream)
{
    int threads = 64, blocks = 1;
    // BEGIN SOLUTION
    blocks = (n + threads - 1) / threads;
    // END SOLUTION
    oneEach<<<blocks, threads, 0, stream>>>(x, y, beta, n);
    return cudaGetLastError();
}
"""

# %% nbgrader={"grade_id": "kernel-first-test", "grade": true, "points": 3}
check("kernel-first")

# %% [markdown]
# The checker can write down each access, so this picture is drawn from your own kernel. It was given 200 numbers: in
# the last block some threads have no work.

# %%
first = solved("kernel-first", first)
x = np.random.default_rng(0).standard_normal(200).astype(np.float32)
trace = load("first", first).record("launchSwish", x, kernels.out(x.shape), 1.0, x.size, None)
plot.owners({"Who reads which element of x": trace}, "x", x.size)

# %% [markdown]
# ## 2. What a warp asks for
#
# The hardware does not run threads one by one. 32 neighbours, a *warp*, execute one instruction together, and their 32
# loads become one *request*. Memory answers in **sectors** of 32 bytes, at addresses that are multiples of 32. If any
# lane needs one byte of a sector, the whole sector travels. Few sectors for the bytes used: the access is *coalesced*.
#
# **Exercise 2.** Count the sectors of one request.

# %% nbgrader={"grade_id": "kernel-sectors", "solution": true}
def sectors(offsets, size):
    """Sectors of 32 bytes that one request touches.

    offsets: int array [lanes], the first byte that each lane reads. size: bytes that each lane reads.
    """
    ### BEGIN SOLUTION
    bytes_read = offsets[:, None] + np.arange(size)
    return len(np.unique(bytes_read // 32))
    ### END SOLUTION

# %% nbgrader={"grade_id": "kernel-sectors-test", "grade": true, "points": 2}
check("kernel-sectors")

# %%
sectors = solved("kernel-sectors", sectors)
lanes, offsets, size = plot.first_request(trace, "x")
print(f"Your kernel: {len(lanes)} lanes, {size} bytes each: {sectors(offsets, size)} sectors")
print(f"If x began 4 bytes later: {sectors(offsets + 4, size)}")
print(f"If each lane took every eighth element: {sectors(8 * offsets, size)}")

# %% [markdown]
# ## 3. A loop, and who takes which element
#
# One thread an element needs a grid that fits the data. A **grid-stride loop** works with any grid: all threads of the
# grid take their first element, then all step forward by the number of threads in the whole grid. A plugin can then
# choose the grid for the GPU, and the kernel is right for every size.
#
# **Exercise 3.** Write the kernel with a grid-stride loop. The number of blocks is a parameter here, and may be far too
# small or too large.

# %% nbgrader={"grade_id": "kernel-stride", "solution": true}
stride = r"""
#include <cuda_runtime.h>

__device__ float swish(float x, float beta) { return x / (1.0f + __expf(-beta * x)); }

__global__ void gridStride(const float* x, float* y, float beta, int n)
{
    // BEGIN SOLUTION
    int step = gridDim.x * blockDim.x;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) y[i] = swish(x[i], beta);
    // END SOLUTION
}

extern "C" int launchSwish(const float* x, float* y, float beta, int n, int blocks, cudaStream_t stream)
{
    gridStride<<<blocks, 64, 0, stream>>>(x, y, beta, n);
    return cudaGetLastError();
}
"""

# %% nbgrader={"grade_id": "kernel-stride-test", "grade": true, "points": 3}
check("kernel-stride")

# %% [markdown]
# On a CPU one divides an array into chunks: each worker gets its own consecutive part, which its cache likes. Here is
# that division as a kernel, next to yours. Both give the same answers.
#
# **Predict:** a warp's first request touches more sectors with `"chunks"`, with `"grid stride"`, or is it `"the same"`?

# %%
guess = None   # "chunks", "grid stride" or "the same"

# %%
chunks = r"""
#include <cuda_runtime.h>

__device__ float swish(float x, float beta) { return x / (1.0f + __expf(-beta * x)); }

__global__ void chunk(const float* x, float* y, float beta, int n)
{
    int each = (n + gridDim.x * blockDim.x - 1) / (gridDim.x * blockDim.x);
    int begin = (blockIdx.x * blockDim.x + threadIdx.x) * each;
    for (int i = begin; i < min(begin + each, n); ++i) y[i] = swish(x[i], beta);
}

extern "C" int launchSwish(const float* x, float* y, float beta, int n, int blocks, cudaStream_t stream)
{
    chunk<<<blocks, 64, 0, stream>>>(x, y, beta, n);
    return cudaGetLastError();
}
"""
stride = solved("kernel-stride", stride)
x = np.random.default_rng(1).standard_normal(1024).astype(np.float32)
traces = {name: load(name.replace(" ", "_"), source).record(
              "launchSwish", x, kernels.out(x.shape), 1.0, x.size, 2, None)
          for name, source in (("grid stride", stride), ("chunks", chunks))}
touched = {name: sectors(*plot.first_request(trace, "x")[1:]) for name, trace in traces.items()}
choice(guess, max(touched, key=touched.get), "The lanes of a warp run together, so it is their 32 "
       f"addresses that must be neighbours, not the addresses of one thread: {touched}.")
plot.requests(traces, "x")

# %% [markdown]
# `kernels.patterns` counts as your function does, over all warps and for every line of the source:

# %%
for name, trace in traces.items():
    print(name)
    for pattern in kernels.patterns(trace):
        print("   ", pattern)

# %% [markdown]
# A chunk's sectors are not lost: the thread's next elements lie in them, and if they are still in the L1 cache by then,
# they are not fetched again. But each request needs 32 sectors where 4 would do, so it takes longer to serve, in the
# cache as well.
#
# ## 4. Wider
#
# In FP16 a warp's request for one `__half` each is 64 bytes: perfectly coalesced, and small. One instruction can load
# up to **16 bytes a thread** (32 on Blackwell), if the address is a multiple of that size. C++ gets there through a type
# of that size: `uint4`. Its 16 bytes are eight halves, or four `__half2`, and `__half2` has conversions of its own:
# `__half22float2(pair)` and `__floats2half2_rn(a, b)`. Compute in float: the exponential in FP16 overflows from 11.1 on.
#
# If n is no multiple of 8, a **tail** of up to seven halves remains: nobody may load it 16 bytes at a time.
#
# **Exercise 4.** Write `eightEach`: 16 bytes a thread, and the tail. `oneEach`, for comparison, is given.

# %% nbgrader={"grade_id": "kernel-wide", "solution": true}
wide = r"""
#include <cuda_fp16.h>
#include <cuda_runtime.h>

__device__ float swish(float x, float beta) { return x / (1.0f + __expf(-beta * x)); }

__global__ void oneEach(const __half* x, __half* y, float beta, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = __float2half(swish(__half2float(x[i]), beta));
}

__global__ void eightEach(const __half* x, __half* y, float beta, int n)
{
    int first = blockIdx.x * blockDim.x + threadIdx.x, step = gridDim.x * blockDim.x;
    // BEGIN SOLUTION
    for (int i = first; i < n / 8; i += step) {
        uint4 bits = reinterpret_cast<const uint4*>(x)[i];   // one load of 16 bytes
        __half2* pair = reinterpret_cast<__half2*>(&bits);   // the same bytes as four pairs
        for (int k = 0; k < 4; ++k) {
            float2 v = __half22float2(pair[k]);
            pair[k] = __floats2half2_rn(swish(v.x, beta), swish(v.y, beta));
        }
        reinterpret_cast<uint4*>(y)[i] = bits;
    }
    for (int i = n / 8 * 8 + first; i < n; i += step)
        y[i] = __float2half(swish(__half2float(x[i]), beta));
    // END SOLUTION
}

extern "C" int launchOneEach(const __half* x, __half* y, float beta, int n, cudaStream_t stream)
{
    oneEach<<<(n + 255) / 256, 256, 0, stream>>>(x, y, beta, n);
    return cudaGetLastError();
}

extern "C" int launchEightEach(const __half* x, __half* y, float beta, int n, cudaStream_t stream)
{
    eightEach<<<(n / 8 + 256) / 256, 256, 0, stream>>>(x, y, beta, n);   // at least one block
    return cudaGetLastError();
}
"""

# %% nbgrader={"grade_id": "kernel-wide-test", "grade": true, "points": 4}
check("kernel-wide")

# %% [markdown]
# Section 7 measures on a GPU how far a kernel like `oneEach` stays behind a copy. Both read each byte once and write
# each byte once.
#
# **Predict:** what is too much in `oneEach`? `"bytes"`: sectors are fetched that nobody uses. Or `"requests"`: too many
# small ones, so that too few bytes are under way at a time.

# %%
guess = None   # "bytes" or "requests"

# %%
wide = solved("kernel-wide", wide)
halves = np.random.default_rng(2).standard_normal(4096).astype(np.float16)
module, narrow, fetched = load("wide", wide), {}, {}
for launcher in ("launchOneEach", "launchEightEach"):
    trace = module.record(launcher, halves, kernels.out(halves.shape, np.float16), 1.0, 4096, None)
    narrow[launcher] = trace
    reads = [pattern for pattern in kernels.patterns(trace) if pattern.buffer == "x"]
    fetched[launcher] = sum(round(p.requests * p.units) for p in reads)
    print(f"{launcher}: {sum(p.requests for p in reads)} requests, {fetched[launcher]} sectors")
choice(guess, "requests" if len(set(fetched.values())) == 1 else "bytes",
       "The sectors are the same, and none is wasted. To keep memory busy, enough bytes "
       "must be under way at any moment; each thread's request brings 2 bytes or 16.")
plot.requests(narrow, "x", rows=4)

# %% [markdown]
# ## 5. When the address does not fit
#
# TensorRT gives a plugin aligned buffers. But a kernel is soon called for a slice: from the second element on, say.
#
# **Predict:** what does `eightEach` do with `x + 1`? `"slower"`: it is right, but each request touches one sector
# more. `"fault"`: the load fails.

# %%
guess = None   # "slower" or "fault"

# %%
shifted = wide + r"""
extern "C" int launchShifted(const __half* x, __half* y, float beta, int n, cudaStream_t stream)
{
    return launchEightEach(x + 1, y + 1, beta, n - 1, stream);
}
"""
report = load("shifted", shifted).check(
    "launchShifted", halves, kernels.out(halves.shape, np.float16, partial=True), 1.0, 4096, None)
print(report)
choice(guess, "fault" if report.findings else "slower",
       "A load of 16 bytes needs an address that is a multiple of 16. On a GPU the kernel ends with "
       "cudaErrorMisalignedAddress, and every later call of this process fails, too.")

# %% [markdown]
# So a launcher for any pointer looks at the addresses and takes `oneEach` if they do not fit.
#
# ## 6. What nvcc made of it
#
# nvcc compiles without a GPU, and the machine code says what came out: `LDG` is a load from global memory, `STG` a
# store; `E` means 64-bit addresses, and the number the bits a thread moves (32 without one).

# %%
for kernel in nvcc.inspect("artifacts/wide.cu", architecture="sm_90"):
    print(kernel)

# %% [markdown]
# Look for `LDG.E.128`. A struct of four `__half2` with `alignas(16)` looks as good as `uint4`, yet is copied member by
# member: four loads of 4 bytes. Registers are no problem here: with up to 32 a thread, an A100, H100 or H200 can still
# hold as many threads as it ever can.
#
# ## 7. Against a copy
#
# A kernel that reads and writes each byte once cannot beat a copy of as many bytes. So "share of the copy's speed" says
# how much is left to gain, on any GPU.

# %%
many = np.zeros(1 << 26 if on_gpu.why_not() is None else 8, np.float16)
steps = {"one half a thread": ("artifacts/wide.cu", "launchOneEach"),
         "16 bytes a thread": ("artifacts/wide.cu", "launchEightEach")}
measured = on_gpu.shares(steps, many, kernels.out(many.shape, np.float16), 1.0, many.size, None, graph=True)

# %% [markdown]
# ## 8. Decide
#
# In your network each Swish follows a convolution, in FP16. Suppose your kernel reaches 0.9 of the copy's speed.
#
# **Predict:** what can still save the most? `"tune"`: the last tenth, by other block sizes and loads. `"fuse"`: let
# the convolution apply the activation before it writes.

# %%
guess = None   # "tune" or "fuse"

# %%
elements = 1 << 26
moved = 2 * 2 * elements   # read once, written once, 2 bytes each
print(f"Swish of its own: {moved / 1e6:.0f} MB. Tuned to the copy's speed: still {moved / 1e6:.0f} MB, "
      f"a tenth of its time saved. Fused: 0 MB, all of it saved.")
saved = {"tune": 0.1, "fuse": 1.0}   # of the time that Swish takes now
choice(guess, max(saved, key=saved.get), "The fastest byte is the one that is not moved. TensorRT fuses an activation that it knows "
       "into a convolution's kernel; it never fuses anything into a plugin.")

# %% [markdown]
# So look first whether TensorRT's own layers can say it. With beta = 1, Swish is a `Sigmoid` and a `Mul`; TensorRT
# 8.6.0 built our detector with single kernels named `…/Conv + PWN(PWN(…/Sigmoid), …/Mul)` (the repository's
# `docs/results/h200/recorded/detector_layers.log`). A kernel of your own pays where no such form exists, or where it does the work of several layers.
#
# ## Summary
#
# - Each thread computes its index; a guard or a grid-stride loop makes the kernel right for every size.
# - A warp's 32 loads are one request, answered in sectors of 32 bytes. Neighbouring lanes take neighbouring elements.
# - Coalesced is not yet fast: 16 bytes a thread keep more bytes under way. They need aligned addresses, and a tail.
# - The machine code tells what became of your loads.
# - A copy of the same bytes is the limit. Fusing moves the limit.
#
# **Next:** lesson [03](03_cuda_kernels_2.ipynb), kernels whose threads must work together.
