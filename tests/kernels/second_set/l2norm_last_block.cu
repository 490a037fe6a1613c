// The L2 norm of a vector in a single launch: the block that finishes last adds up what the others left.
#include <cuda_runtime.h>

constexpr int kThreads = 128;

__device__ float block_sum(float v) {
    __shared__ float warp_sums[32];
    const int lane = threadIdx.x & 31;
    const int warp = threadIdx.x >> 5;
    const int warps = (blockDim.x + 31) / 32;
    for (int offset = 16; offset > 0; offset >>= 1) {
        v += __shfl_down_sync(0xffffffffu, v, offset);
    }
    __syncthreads();  // a call before this one may still be reading
    if (lane == 0) {
        warp_sums[warp] = v;
    }
    __syncthreads();
    if (warp == 0) {
        v = lane < warps ? warp_sums[lane] : 0.0f;
        for (int offset = 16; offset > 0; offset >>= 1) {
            v += __shfl_down_sync(0xffffffffu, v, offset);
        }
    }
    return v;  // of use in thread 0 only
}

__global__ void l2norm(const float* x, volatile float* partials, unsigned int* counter, float* norm, int n) {
    __shared__ bool last;
    const float4* x4 = reinterpret_cast<const float4*>(x);
    float sum = 0.0f;
    for (int i = blockIdx.x * kThreads + threadIdx.x; i < n / 4; i += gridDim.x * kThreads) {
        const float4 v = x4[i];
        sum += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
    }
    if (blockIdx.x == 0 && threadIdx.x < n % 4) {
        const float v = x[n - 1 - threadIdx.x];
        sum += v * v;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        partials[blockIdx.x] = sum;
        __threadfence();
        // Wraps to zero by itself, so the next launch finds the counter as this one did.
        last = atomicInc(counter, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last) {
        float all = 0.0f;
        for (int i = threadIdx.x; i < gridDim.x; i += kThreads) {
            all += partials[i];
        }
        all = block_sum(all);
        if (threadIdx.x == 0) {
            *norm = sqrtf(all);
        }
    }
}

extern "C" cudaError_t launch_l2norm(const float* x, float* partials, unsigned int* counter, float* norm, int n,
                                     int blocks, cudaStream_t stream) {
    l2norm<<<blocks, kThreads, 0, stream>>>(x, partials, counter, norm, n);
    return cudaGetLastError();
}
