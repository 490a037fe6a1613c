// LayerNorm with an optional residual: rows are kept in shared memory, a block takes several rows.
#include <cuda_runtime.h>

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

__device__ float block_sum(float v) {
    __shared__ float partial[kWarps];
    __shared__ float total;
    const int lane = threadIdx.x % 32;
    for (int offset = 16; offset > 0; offset >>= 1) {
        v += __shfl_down_sync(0xffffffffu, v, offset);
    }
    if (lane == 0) {
        partial[threadIdx.x / 32] = v;
    }
    __syncthreads();
    if (threadIdx.x < kWarps) {
        float w = partial[threadIdx.x];
        w += __shfl_xor_sync(0x0000000fu, w, 2);
        w += __shfl_xor_sync(0x0000000fu, w, 1);
        if (threadIdx.x == 0) {
            total = w;
        }
    }
    __syncthreads();
    return total;
}

__global__ void __launch_bounds__(kThreads)
    layernorm(const float* __restrict__ x, const float* __restrict__ residual, const float2* __restrict__ gamma,
              const float2* __restrict__ beta, float* __restrict__ y, int rows, int hidden, int has_residual,
              float eps) {
    extern __shared__ float4 storage[];
    float* cache = reinterpret_cast<float*>(storage);
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        const float* in = x + static_cast<size_t>(row) * hidden;
        for (int i = threadIdx.x; i < hidden; i += kThreads) {
            cache[i] = in[i];
        }
        if (has_residual != 0) {
            __syncthreads();
            // From the back: the element is not the one that this thread has loaded.
            const float* add = residual + static_cast<size_t>(row) * hidden;
            for (int i = threadIdx.x; i < hidden; i += kThreads) {
                cache[hidden - 1 - i] += add[hidden - 1 - i];
            }
            __syncthreads();
        }
        float sum = 0.0f;
        for (int i = threadIdx.x; i < hidden; i += kThreads) {
            sum += cache[i];
        }
        const float mean = block_sum(sum) / hidden;
        float squares = 0.0f;
        for (int i = threadIdx.x; i < hidden; i += kThreads) {
            const float d = cache[i] - mean;
            squares += d * d;
        }
        const float rstd = rsqrtf(block_sum(squares) / hidden + eps);

        float2* out = reinterpret_cast<float2*>(y + static_cast<size_t>(row) * hidden);
        const float2* pairs = reinterpret_cast<const float2*>(cache);
        for (int p = threadIdx.x; p < hidden / 2; p += kThreads) {
            const float2 v = pairs[p];
            const float2 g = gamma[p];
            const float2 b = beta[p];
            out[p] = make_float2((v.x - mean) * rstd * g.x + b.x, (v.y - mean) * rstd * g.y + b.y);
        }
        __syncthreads();  // the next row overwrites the cache
    }
}

extern "C" cudaError_t launch_layernorm(const float* x, const float* residual, const float* gamma, const float* beta,
                                        float* y, int rows, int hidden, int has_residual, float eps,
                                        cudaStream_t stream) {
    if (hidden % 2 != 0) {
        return cudaErrorInvalidValue;
    }
    const int blocks = rows < 3 ? rows : 3;
    layernorm<<<blocks, kThreads, hidden * sizeof(float), stream>>>(
        x, residual, reinterpret_cast<const float2*>(gamma), reinterpret_cast<const float2*>(beta), y, rows, hidden,
        has_residual, eps);
    return cudaGetLastError();
}
