#include "fold.cuh"
#include <cuda_fp16.h>
#include <cuda_runtime.h>

// A thread adds up the pixels of all patches that cover its pixel: no two threads write to one place.
template <class T> __global__ void fold(const T* x, T* y, int planes, int h, int w, int k, int s, int p)
{
    int height = (h - 1) * s + k - 2 * p, width = (w - 1) * s + k - 2 * p;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < planes * height * width; i += gridDim.x * blockDim.x) {
        int column = i % width + p, row = i / width % height + p, plane = i / width / height;
        float sum = 0.0f;
        for (int ky = row % s; ky < k && ky <= row; ky += s)
            for (int kx = column % s; kx < k && kx <= column; kx += s) {
                int a = (row - ky) / s, b = (column - kx) / s;
                if (a < h && b < w) sum += float(x[(((plane * k + ky) * k + kx) * h + a) * w + b]);
            }
        y[i] = T(sum);
    }
}

extern "C" int launchFold(const void* x, void* y, int planes, int h, int w, int kernel, int stride, int padding, bool half,
                          cudaStream_t stream)
{
    int count = planes * ((h - 1) * stride + kernel - 2 * padding) * ((w - 1) * stride + kernel - 2 * padding);
    if (count <= 0) return 0;
    int grid = (count + 255) / 256;
    if (half)
        fold<<<grid, 256, 0, stream>>>(static_cast<const __half*>(x), static_cast<__half*>(y), planes, h, w, kernel, stride,
                                       padding);
    else
        fold<<<grid, 256, 0, stream>>>(static_cast<const float*>(x), static_cast<float*>(y), planes, h, w, kernel, stride,
                                       padding);
    return cudaGetLastError();
}
