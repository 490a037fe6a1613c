# %% [markdown]
# # CUDA kernels II: threads that work together
#
# An activation needs nothing from its neighbours. Softmax and LayerNorm do: every result of a row depends on the whole
# row. Threads must exchange values, and whoever exchanges values must wait.
#
# **Afterwards you can** reduce a row in shared memory with the barriers it needs and no more, count bank conflicts,
# reduce inside a warp with shuffles, and say how far a kernel is from what its bytes allow.
#
# **Time:** 40 minutes. The cells together took 8 s on two CPU cores; the first time, nvcc comes from PyPI (110 MB).
#
# | | on a CPU | a GPU adds |
# | --- | --- | --- |
# | kernels, races, barriers | all of it: every access is checked, in four thread orders | nothing |
# | bank conflicts | counted from the accesses of a kernel | nothing |
# | bytes that a kernel asks for | counted | nothing |
# | speed | open | share of copy bandwidth, measured |

# %%
from pathlib import Path

import numpy as np

from course import kernels
from course.exercises import check, choice, hint, solved
from course.exercises.stage3_plugins.cuda_kernels_2 import racy_softmax
from course.kernels import on_gpu
from course.plot import kernels as plot

Path("artifacts").mkdir(exist_ok=True)


def load(name, source):
    """The source as artifacts/NAME.cu, compiled for the CPU."""
    path = Path("artifacts", f"{name}.cu")
    path.write_text(source)
    return kernels.load(path)

# %% [markdown]
# ## 1. A row, a block, and barriers
#
# Softmax of a row: exp(x − m) divided by the sum of all exp(x − m). The maximum m changes nothing in exact arithmetic,
# but without it exp overflows. Here one block of 128 threads works on a row. Each thread first reduces its own elements:
# every 128th of the row. Then the threads' 128 values meet in **shared memory**, a small memory that all threads of one
# block see: the upper half is added to the lower half, again and again.
#
# The threads of a block do not run in step. `__syncthreads()` is a **barrier**: nobody passes until all threads of the
# block have come, and what was written before it can be read behind it.
#
# **Exercise 1.** Write softmax, for rows of any width.

# %% nbgrader={"grade_id": "kernel-softmax", "solution": true}
softmax = r"""
#include <cuda_runtime.h>
__global__ void softmaxRow(const float* x, float* y, int width)
{
    __shared__ float part[128];
    int t = threadIdx.x;
    x += blockIdx.x * width;
    y += blockIdx.x * width;
    // BEGIN SOLUTION
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
    // END SOLUTION
}
extern "C" int launchSoftmax(const float* x, float* y, int rows, int width, cudaStream_t stream)
{
    softmaxRow<<<rows, 128, 0, stream>>>(x, y, width);
    return cudaGetLastError();
}
"""

# %% nbgrader={"grade_id": "kernel-softmax-test", "grade": true, "points": 4}
check("kernel-softmax")

# %% [markdown]
# `part` is used twice, and between the two uses stands a barrier that no value passes through. Below it is taken out of
# the course's answer. The checker runs the kernel in four thread orders and compares nothing: it looks whether anything
# orders the accesses.
#
# **Predict:** in how many of the four orders are the results wrong? `"all"`, `"some"` or `"none"`.

# %%
guess = None   # "all", "some" or "none"

# %%
x = np.random.default_rng(0).standard_normal((1, 128)).astype(np.float32)
exact = np.exp(x - x.max()) / np.exp(x - x.max()).sum()
module = load("racy", racy_softmax())
off = [float(np.abs(module.launch("launchSoftmax", x, kernels.out(x.shape), 1, 128, None,
                                  order=order).outputs[0] - exact).max()) for order in kernels.ORDERS]
print(module.check("launchSoftmax", x, kernels.out(x.shape), 1, 128, None))
print("largest error in each order:", ", ".join(f"{value:.1e}" for value in off))
wrong = sum(value > 1e-4 for value in off)
choice(guess, "none" if wrong == 0 else "all" if wrong == len(off) else "some",
       "Whether a race does harm depends on who runs first. A test that compares results sees it "
       "only in the orders that it happens to meet; so races are looked for, not waited for.")

# %% [markdown]
# ## 2. Banks
#
# Shared memory has 32 **banks**, each 4 bytes wide: word w lies in bank w mod 32. In one pass each bank gives one word,
# to as many lanes as want it. If lanes of a warp want *different* words of one bank, the request takes several passes: a
# bank conflict.
#
# **Exercise 2.** Count the passes of one request.

# %% nbgrader={"grade_id": "kernel-banks", "solution": true}
def passes(offsets):
    """Passes that one request to shared memory takes; offsets: int array [lanes], bytes, each lane wants 4 bytes."""
    ### BEGIN SOLUTION
    words = np.unique(offsets // 4)
    return int(np.bincount(words % 32).max())
    ### END SOLUTION

# %% nbgrader={"grade_id": "kernel-banks-test", "grade": true, "points": 2}
check("kernel-banks")

# %% [markdown]
# A tree can also be built the other way round: first neighbours, then every second, every fourth. Textbooks draw it so.
# Both trees add the same number of times.
#
# **Predict:** which one has bank conflicts? `"halves"`, `"neighbours"` or `"neither"`.

# %%
guess = None   # "halves", "neighbours" or "neither"

# %%
trees = r"""
#include <cuda_runtime.h>
__global__ void halves(const float* x, float* y)
{
    __shared__ float part[256];
    int t = threadIdx.x;
    part[t] = x[t];
    __syncthreads();
    for (int half = 128; half > 0; half /= 2) {
        if (t < half) part[t] += part[t + half];
        __syncthreads();
    }
    if (t == 0) *y = part[0];
}
__global__ void neighbours(const float* x, float* y)
{
    __shared__ float part[256];
    int t = threadIdx.x;
    part[t] = x[t];
    __syncthreads();
    for (int step = 1; step < 256; step *= 2) {
        if (2 * step * t + step < 256) part[2 * step * t] += part[2 * step * t + step];
        __syncthreads();
    }
    if (t == 0) *y = part[0];
}
extern "C" int launchHalves(const float* x, float* y) { halves<<<1, 256>>>(x, y); return cudaGetLastError(); }
extern "C" int launchNeighbours(const float* x, float* y)
{
    neighbours<<<1, 256>>>(x, y);
    return cudaGetLastError();
}
"""
passes, module, worst = solved("kernel-banks", passes), load("trees", trees), {}
for launcher in ("launchHalves", "launchNeighbours"):
    trace = module.record(launcher, np.ones(256, np.float32), kernels.out(1))
    shared = [pattern for pattern in kernels.patterns(trace) if pattern.shared]
    worst[launcher] = sum(pattern.requests * pattern.units for pattern in shared)
    print(f"{launcher}: {sum(p.requests for p in shared)} requests, {worst[launcher]:.0f} passes")
steps = {f"step {step}: part[{2 * step} * t]": 4 * 2 * step * np.arange(min(32, 128 // step)) for step in (1, 2, 4)}
print({title: passes(offsets) for title, offsets in steps.items()})
choice(guess, "neighbours" if worst["launchNeighbours"] > worst["launchHalves"] else "neither",
       "With a distance of 2, 4, 8 words the lanes meet in every second, fourth, eighth bank.")
plot.banks(steps)

# %% [markdown]
# ## 3. Without memory: shuffles
#
# The 32 lanes of a warp can read one another's registers. `__shfl_xor_sync(mask, v, far)` gives the v of the lane whose
# number differs in the bit `far`. Five of them, with 16, 8, 4, 2 and 1, and *every* lane has the sum: no shared memory,
# no barrier. All lanes that the mask names must come; 0xffffffff names all 32.
#
# LayerNorm of a row: (x − mean) / √(variance + eps) · gamma + beta. A warp works on a row here.
#
# **Exercise 3.** Write `warpSum` and LayerNorm. The check has rows whose values lie around 3000.

# %% nbgrader={"grade_id": "kernel-layernorm", "solution": true}
layernorm = r"""
#include <cuda_runtime.h>
__device__ float warpSum(float v)
{
    // BEGIN SOLUTION
    for (int far = 16; far > 0; far /= 2) v += __shfl_xor_sync(0xffffffff, v, far);
    // END SOLUTION
    return v;
}
__global__ void layerNorm(const float* x, const float* gamma, const float* beta, float* y,
                          int rows, int width, float eps)
{
    int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    x += row * width;
    y += row * width;
    // BEGIN SOLUTION
    float sum = 0.0f, squares = 0.0f;
    for (int i = lane; i < width; i += 32) sum += x[i];
    float mean = warpSum(sum) / width;
    for (int i = lane; i < width; i += 32) squares += (x[i] - mean) * (x[i] - mean);
    float scale = rsqrtf(warpSum(squares) / width + eps);
    for (int i = lane; i < width; i += 32) y[i] = (x[i] - mean) * scale * gamma[i] + beta[i];
    // END SOLUTION
}
extern "C" int launchLayerNorm(const float* x, const float* gamma, const float* beta, float* y, int rows, int width,
                               float eps, cudaStream_t stream)
{
    layerNorm<<<(rows + 3) / 4, 128, 0, stream>>>(x, gamma, beta, y, rows, width, eps);
    return cudaGetLastError();
}
"""

# %% nbgrader={"grade_id": "kernel-layernorm-test", "grade": true, "points": 4}
check("kernel-layernorm")

# %% [markdown]
# ## 4. How far from attainable?
#
# LayerNorm does some ten operations on each number. A GPU has time for many more while it fetches one, so memory
# decides: no kernel can be faster than its bytes. But which bytes? The least are the input once, the output once. What
# your kernel *asks for* is in the record:

# %%
layernorm = solved("kernel-layernorm", layernorm)
rows, width = 64, 384
x = np.random.default_rng(1).standard_normal((rows, width)).astype(np.float32)
arguments = (x, x[0], x[1], kernels.out(x.shape), rows, width, 1e-5, None)
trace = load("layernorm", layernorm).record("launchLayerNorm", *arguments)
asked = {name: int(trace.size[trace.of(name)].sum()) for name in ("x", "gamma", "beta", "y")}
least = {"x": x.nbytes, "gamma": 4 * width, "beta": 4 * width, "y": x.nbytes}
for name, count in asked.items():
    print(f"{name}: asks for {count} bytes, {count / least[name]:.0f} times the least")

# %% [markdown]
# A kernel that goes over its row once for the mean, once for the variance and once for the result asks for x three times,
# and every row asks for gamma and beta again. A row of 1.5 kB that was just read is probably still in a cache, so not
# all of this reaches memory. That is why the share of the copy's speed is measured, not derived.

# %%
rows = 1 << 16 if on_gpu.why_not() is None else 1
many = np.ones((rows, width), np.float32)
measured = on_gpu.shares({"a warp a row": ("artifacts/layernorm.cu", "launchLayerNorm")}, many, many[0], many[0],
                         kernels.out(many.shape), rows, width, 1e-5, None, graph=True)

# %% [markdown]
# This share is "% of attainable" for a kernel that memory limits. The full roofline has a second limit, operations a
# second, which matters from about the point where the arithmetic takes longer than the bytes; it needs both
# measured on a GPU, and stays open on a CPU.
#
# ## 5. Decide
#
# | | a block a row, shared memory | a warp a row, shuffles |
# | --- | --- | --- |
# | waits | barriers of the whole block | none between warps |
# | short rows (up to about 1 000) | most threads idle in the tree | fits |
# | long rows | 128 threads or more load at once | 32 lanes take many rounds |
# | needs | shared memory, free of conflicts | all 32 lanes at every shuffle |
#
# A hidden size of 384 or 768 and a few thousand rows: take a warp a row. A softmax over 50 000 words and a handful of rows:
# take a block a row, and reduce inside its warps with shuffles first.
#
# ## Summary
#
# - A barrier stands between a write and another thread's read, and between that read and the next write. All threads of
#   the block pass it.
# - A race may give right results in every test. Look for what orders the accesses.
# - The busiest bank decides: different words of one bank come one after the other.
# - Shuffles reduce inside a warp without memory. With `xor` all lanes have the result.
# - Squares of differences, not the difference of squares.
#
# **Next:** the plugin, the class that carries such a kernel into TensorRT.
