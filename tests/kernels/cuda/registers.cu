// Kernels for nvcc alone: what its machine code shows.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

template <class T> __global__ void copy(const T* __restrict__ x, T* __restrict__ y, int n)
{
    int const i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i];
}
template __global__ void copy<__half>(const __half*, __half*, int);
template __global__ void copy<float>(const float*, float*, int);
template __global__ void copy<float2>(const float2*, float2*, int);
template __global__ void copy<float4>(const float4*, float4*, int);

__global__ void __launch_bounds__(1024, 2) spills(const float* x, float* y)
{
    float a[64];
    for (int i = 0; i < 64; ++i) a[i] = x[threadIdx.x + 1024 * i];
    __syncthreads();
    for (int i = 0; i < 64; ++i) y[threadIdx.x + 1024 * i] = a[i] * a[63 - i];
}

__global__ void shared(const float* x, float* y)
{
    __shared__ float s[128];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = s[127 - threadIdx.x];
}
