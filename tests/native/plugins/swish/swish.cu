#include "swish.cuh"
#include <cuda_fp16.h>
#include <cuda_runtime.h>

template <class T> __global__ void swish(const T* x, T* y, size_t count, float beta)
{
    size_t stride = size_t(gridDim.x) * blockDim.x;
    for (size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
        float v = float(x[i]);
        y[i] = T(v / (1.0f + __expf(-beta * v)));
    }
}

extern "C" int launchSwish(const void* x, void* y, size_t count, float beta, bool half, cudaStream_t stream)
{
    if (count == 0) return 0;
    const unsigned block = 256, most = 4096;
    size_t blocks = (count + block - 1) / block;
    unsigned grid = unsigned(blocks < most ? blocks : most);
    if (half)
        swish<__half><<<grid, block, 0, stream>>>(static_cast<const __half*>(x), static_cast<__half*>(y), count, beta);
    else
        swish<float><<<grid, block, 0, stream>>>(static_cast<const float*>(x), static_cast<float*>(y), count, beta);
    return cudaGetLastError();
}
