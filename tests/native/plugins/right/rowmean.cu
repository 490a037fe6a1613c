// y = x - mean of its row + shift, in two kernels: the means lie in the workspace.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

template <class T> __global__ void means(const T* x, float* mean, int rows, int columns)
{
    int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    float sum = 0.0f;
    for (int c = 0; c < columns; ++c) sum += float(x[size_t(row) * columns + c]);
    mean[row] = sum / columns;
}
template <class T> __global__ void shifted(const T* x, const float* mean, T* y, int rows, int columns, float shift)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < rows * columns) y[i] = T(float(x[i]) - mean[i / columns] + shift);
}
template <class T> int launch(const void* x, void* y, void* workspace, int rows, int columns, float shift, cudaStream_t stream)
{
    float* mean = static_cast<float*>(workspace);
    means<T><<<(rows + 63) / 64, 64, 0, stream>>>(static_cast<const T*>(x), mean, rows, columns);
    shifted<T><<<(rows * columns + 127) / 128, 128, 0, stream>>>(static_cast<const T*>(x), mean, static_cast<T*>(y), rows,
                                                                columns, shift);
    return cudaGetLastError();
}
extern "C" int launchRowMean(const void* x, void* y, void* workspace, int rows, int columns, float shift, bool half,
                             cudaStream_t stream)
{
    return half ? launch<__half>(x, y, workspace, rows, columns, shift, stream)
                : launch<float>(x, y, workspace, rows, columns, shift, stream);
}
