// Two outputs: the positive part, and 1 where it is positive (int32).
#include <cuda_fp16.h>
#include <cuda_runtime.h>

template <class T> __global__ void signs(const T* x, T* part, int* positive, size_t count, float scale)
{
    size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float v = float(x[i]);
    part[i] = T(v > 0.0f ? scale * v : 0.0f);
    positive[i] = v > 0.0f;
}
extern "C" int launchSigns(const void* x, void* part, void* positive, size_t count, float scale, bool half,
                           cudaStream_t stream)
{
    unsigned grid = unsigned((count + 127) / 128);
    if (half)
        signs<<<grid, 128, 0, stream>>>(static_cast<const __half*>(x), static_cast<__half*>(part),
                                        static_cast<int*>(positive), count, scale);
    else
        signs<<<grid, 128, 0, stream>>>(static_cast<const float*>(x), static_cast<float*>(part),
                                        static_cast<int*>(positive), count, scale);
    return cudaGetLastError();
}
