# %% kernel-first | more threads than elements are left
first = r"""
#include <cuda_runtime.h>
__device__ float swish(float x, float beta) { return x / (1.0f + __expf(-beta * x)); }
__global__ void oneEach(const float* x, float* y, float beta, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[i] = swish(x[i], beta);
}
extern "C" int launchSwish(const float* x, float* y, float beta, int n, cudaStream_t stream)
{
    int threads = 64, blocks = (n + threads - 1) / threads;
    oneEach<<<blocks, threads, 0, stream>>>(x, y, beta, n);
    return cudaGetLastError();
}
"""

# %% kernel-first | n / threads, cuts the rest off
from course.exercises.stage3_plugins.cuda_kernels_1 import _first
first = _first().replace("(n + 63) / 64", "n < 64 ? 1 : n / 64")

# %% kernel-first | All blocks work on the same elements
from course.exercises.stage3_plugins.cuda_kernels_1 import _first
first = _first().replace("blockIdx.x * blockDim.x + threadIdx.x", "threadIdx.x")

# %% kernel-first | the attribute is not used
from course.exercises.stage3_plugins.cuda_kernels_1 import _first
first = _first().replace("swish(x[i], beta)", "swish(x[i], 1.0f)")

# %% kernel-first | does not compile
from course.exercises.stage3_plugins.cuda_kernels_1 import _first
first = _first().replace("beta);\n}", "beta)\n}", 1)

# %% kernel-sectors | its last byte may lie in the next one
def sectors(offsets, size):
    return len(set(offsets // 32))

# %% kernel-sectors | Those that nobody touches do not travel
def sectors(offsets, size):
    return (offsets.max() + size - 1) // 32 - offsets.min() // 32 + 1

# %% kernel-sectors | what the bytes need at least
def sectors(offsets, size):
    return -(-len(offsets) * size // 32)

# %% kernel-stride | each must go on until n
from course.exercises.stage3_plugins.cuda_kernels_1 import _first
stride = _first().replace("int n, cudaStream_t", "int n, int blocks, cudaStream_t").replace("(n + 63) / 64", "blocks")

# %% kernel-stride | Several threads compute the same elements
from course.exercises.stage3_plugins.cuda_kernels_1 import _stride
stride = _stride().replace("i += gridDim.x * blockDim.x", "i += blockDim.x")

# %% kernel-stride | Each thread takes consecutive elements
stride = r"""
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

# %% kernel-stride | The loop must end before n
from course.exercises.stage3_plugins.cuda_kernels_1 import _stride
stride = _stride().replace("i < n;", "i <= n;")

# %% kernel-wide | The last n % 8 elements
from course.exercises.stage3_plugins.cuda_kernels_1 import _wide
wide = _wide().replace("i = n / 8 * 8 + first; i < n;", "i = n; i < n;")

# %% kernel-wide | A load of eight reaches past the end
from course.exercises.stage3_plugins.cuda_kernels_1 import _wide
wide = _wide().replace("i < n / 8;", "i < (n + 7) / 8;").replace("i = n / 8 * 8 + first; i < n;", "i = n; i < n;")

# %% kernel-wide | copied member by member
from course.exercises.stage3_plugins.cuda_kernels_1 import _wide
wide = _wide().replace("__global__ void eightEach", "struct alignas(16) Pack { __half2 pair[4]; };\n__global__ void eightEach")
wide = wide.replace("uint4 bits", "Pack bits").replace("uint4*", "Pack*")

# %% kernel-wide | as wide as the type that its pointer points to
from course.exercises.stage3_plugins.cuda_kernels_1 import _wide
wide = _wide().replace("launchEightEach", "launchOther").replace("launchOneEach", "launchEightEach")
wide = wide.replace("launchOther", "launchOneEach")

# %% kernel-wide | is computed in FP16
from course.exercises.stage3_plugins.cuda_kernels_1 import _wide
wide = _wide().replace("float2 v = __half22float2(pair[k]);", "__half2 one = __float2half2_rn(1.0f);")
wide = wide.replace("pair[k] = __floats2half2_rn(swish(v.x, beta), swish(v.y, beta));",
                    "pair[k] = pair[k] / (one + h2exp(__hneg2(pair[k]) * __float2half2_rn(beta)));")
