// Batch norm while NCHW becomes NHWC: the parameters are folded on one stream, the data transposed on another.
#include <cuda_runtime.h>

namespace {

constexpr int kTile = 32;
constexpr int kRows = 8;

__global__ void fold(const float* gamma, const float* beta, const float* mean, const float* var, float2* folded,
                     int channels, float eps) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c < channels) {
        const float scale = gamma[c] * rsqrtf(var[c] + eps);
        folded[c] = make_float2(scale, beta[c] - mean[c] * scale);
    }
}

// A few blocks walk over all tiles.
__global__ void to_nhwc(const float* x, float* y, int batch, int channels, int pixels) {
    __shared__ float tile[kTile][kTile + 1];
    const int across = (pixels + kTile - 1) / kTile;
    const int down = (channels + kTile - 1) / kTile;
    const int tiles = batch * across * down;
    for (int t = blockIdx.x; t < tiles; t += gridDim.x) {
        const int n = t / (across * down);
        const int c0 = t / across % down * kTile;
        const int p0 = t % across * kTile;
        for (int j = threadIdx.y; j < kTile; j += kRows) {
            const int c = c0 + j;
            const int p = p0 + threadIdx.x;
            if (c < channels && p < pixels) {
                tile[j][threadIdx.x] = x[(n * channels + c) * pixels + p];
            }
        }
        __syncthreads();
        for (int j = threadIdx.y; j < kTile; j += kRows) {
            const int p = p0 + j;
            const int c = c0 + threadIdx.x;
            if (c < channels && p < pixels) {
                y[(n * pixels + p) * channels + c] = tile[threadIdx.x][j];
            }
        }
        __syncthreads();
    }
}

__global__ void scale_shift(const float* x, const float2* folded, float* y, int count, int channels) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
        const float2 f = folded[i % channels];
        y[i] = x[i] * f.x + f.y;
    }
}

}  // namespace

extern "C" cudaError_t launch_batchnorm_to_nhwc(const float* x, const float* gamma, const float* beta,
                                                const float* mean, const float* var, float* workspace, float* y,
                                                int batch, int channels, int pixels, float eps, cudaStream_t stream) {
    const int count = batch * channels * pixels;
    // The workspace: two floats per channel first, so that the float2 lie right, then the transposed tensor.
    float2* folded = reinterpret_cast<float2*>(workspace);
    float* transposed = workspace + 2 * channels;

    cudaStream_t side;
    cudaEvent_t fork;
    cudaEvent_t join;
    cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&fork, cudaEventDisableTiming);
    cudaEventCreateWithFlags(&join, cudaEventDisableTiming);

    cudaEventRecord(fork, stream);
    cudaStreamWaitEvent(side, fork, 0);
    to_nhwc<<<3, dim3(kTile, kRows), 0, side>>>(x, transposed, batch, channels, pixels);
    cudaEventRecord(join, side);

    fold<<<(channels + 31) / 32, 32, 0, stream>>>(gamma, beta, mean, var, folded, channels, eps);
    cudaStreamWaitEvent(stream, join, 0);
    scale_shift<<<4, 128, 0, stream>>>(transposed, folded, y, count, channels);

    cudaEventDestroy(fork);
    cudaEventDestroy(join);
    cudaStreamDestroy(side);
    return cudaGetLastError();
}
