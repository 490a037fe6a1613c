// Running sums of each row, divided by the row's total: the distribution that top-p sampling looks values up in.
#include <cuda_runtime.h>

constexpr int kThreads = 128;

__global__ void cdf_rows(const float* weights, float* cdf, int cols) {
    __shared__ float buffer[kThreads];
    __shared__ float carry;
    const int t = threadIdx.x;
    const float* in = weights + static_cast<size_t>(blockIdx.x) * cols;
    float* out = cdf + static_cast<size_t>(blockIdx.x) * cols;
    if (t == 0) {
        carry = 0.0f;
    }
    __syncthreads();
    for (int i = t; i < cols; i += kThreads) {
        buffer[t] = in[i];
        __syncthreads();
        for (int offset = 1; offset < kThreads; offset *= 2) {
            const float left = t >= offset ? buffer[t - offset] : 0.0f;
            __syncthreads();
            buffer[t] += left;
            __syncthreads();
        }
        out[i] = carry + buffer[t];
        __syncthreads();
        if (t == kThreads - 1) {
            carry += buffer[t];
        }
        __syncthreads();
    }
    __syncthreads();
    for (int i = t; i < cols; i += kThreads) {
        out[i] /= carry;
    }
}

extern "C" void launch_cdf_rows(const float* weights, float* cdf, int rows, int cols, cudaStream_t stream) {
    cdf_rows<<<rows, kThreads, 0, stream>>>(weights, cdf, cols);
}
