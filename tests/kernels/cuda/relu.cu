#include <cuda_runtime.h>

__global__ void relu(const float* __restrict__ x, float* __restrict__ y, int n)
{
    int const i = blockIdx.x * blockDim.x + threadIdx.x;
#ifndef BUG
    if (i < n)
#endif
        y[i] = x[i] > 0.f ? x[i] : 0.f;
}

extern "C" cudaError_t launchRelu(const float* x, float* y, int n, cudaStream_t stream)
{
    relu<<<(n + 255) / 256, 256, 0, stream>>>(x, y, n);
    return cudaGetLastError();
}
