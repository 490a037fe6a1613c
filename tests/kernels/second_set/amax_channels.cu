// The largest magnitude per channel of an NCHW tensor, for per-channel scales. Several blocks share a channel.
#include <cuda_runtime.h>

constexpr int kThreads = 128;
constexpr int kChunks = 4;

__global__ void amax_channels(const float* x, float* amax, int batch, int channels, int pixels) {
    __shared__ float best[kThreads];
    const int c = blockIdx.y;
    float top = 0.0f;
    for (int n = 0; n < batch; ++n) {
        const float* plane = x + (n * channels + c) * pixels;
        for (int p = blockIdx.x * kThreads + threadIdx.x; p < pixels; p += kChunks * kThreads) {
            top = fmaxf(top, fabsf(plane[p]));
        }
    }
    best[threadIdx.x] = top;
    __syncthreads();
    for (int half = kThreads / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            best[threadIdx.x] = fmaxf(best[threadIdx.x], best[threadIdx.x + half]);
        }
        __syncthreads();
    }
    if (threadIdx.x == 0 && best[0] > amax[c]) {
        amax[c] = best[0];
    }
}

extern "C" cudaError_t launch_amax_channels(const float* x, float* amax, int batch, int channels, int pixels,
                                            cudaStream_t stream) {
    cudaMemsetAsync(amax, 0, channels * sizeof(float), stream);
    amax_channels<<<dim3(kChunks, channels), kThreads, 0, stream>>>(x, amax, batch, channels, pixels);
    return cudaGetLastError();
}
