// The histogram of activations that an INT8 calibrator collects: per block in shared memory, then added up.
#include <cuda_runtime.h>

constexpr int kBins = 256;

__global__ void histogram(const float* x, int* counts, int n, float low, float high) {
    __shared__ int bins[kBins];
    for (int b = threadIdx.x; b < kBins; b += blockDim.x) {
        bins[b] = 0;
    }
    __syncthreads();
    const float per_unit = kBins / (high - low);
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        const float v = x[i];
        if (v < low || v > high) {
            continue;  // outside the range that is being looked at
        }
        const int bin = static_cast<int>((v - low) * per_unit);
        atomicAdd(&bins[bin], 1);
    }
    __syncthreads();
    for (int b = threadIdx.x; b < kBins; b += blockDim.x) {
        if (bins[b] > 0) {
            atomicAdd(&counts[b], bins[b]);
        }
    }
}

extern "C" cudaError_t launch_histogram(const float* x, int* counts, int n, float low, float high,
                                        cudaStream_t stream) {
    cudaMemsetAsync(counts, 0, kBins * sizeof(int), stream);
    histogram<<<4, 128, 0, stream>>>(x, counts, n, low, high);
    return cudaGetLastError();
}
