// Each element of the last side `times` times, and the second input behind it.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

template <class T> __global__ void repeat(const T* a, const T* b, T* y, int rows, int left, int right, int times)
{
    int width = left * times + right, i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= rows * width) return;
    int row = i / width, column = i % width;
    y[i] = column < left * times ? a[row * left + column / times] : b[row * right + column - left * times];
}
extern "C" int launchRepeat(const void* a, const void* b, void* y, int rows, int left, int right, int times, bool half,
                            cudaStream_t stream)
{
    int grid = (rows * (left * times + right) + 127) / 128;
    if (half)
        repeat<<<grid, 128, 0, stream>>>(static_cast<const __half*>(a), static_cast<const __half*>(b),
                                         static_cast<__half*>(y), rows, left, right, times);
    else
        repeat<<<grid, 128, 0, stream>>>(static_cast<const float*>(a), static_cast<const float*>(b),
                                         static_cast<float*>(y), rows, left, right, times);
    return cudaGetLastError();
}
