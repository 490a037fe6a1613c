// Softmax and cross entropy: one warp per row, each warp with its own slice of dynamic shared memory.
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <math_constants.h>

constexpr int kWarps = 4;
constexpr unsigned kFull = 0xffffffffu;

__device__ float warp_max(float v) {
    for (int offset = 16; offset > 0; offset >>= 1) {
        v = fmaxf(v, __shfl_xor_sync(kFull, v, offset));
    }
    return v;
}

__device__ float warp_sum(float v) {
    for (int offset = 16; offset > 0; offset >>= 1) {
        v += __shfl_xor_sync(kFull, v, offset);
    }
    return v;
}

__global__ void cross_entropy(const float* __restrict__ logits, const int* __restrict__ labels,
                              __half* __restrict__ probs, float* __restrict__ loss, int rows, int cols) {
    extern __shared__ float slices[];
    const int lane = threadIdx.x;
    const int row = blockIdx.x * kWarps + threadIdx.y;
    if (row >= rows) {
        return;  // the whole warp leaves; nothing below waits for the block
    }
    float* slice = slices + threadIdx.y * cols;
    const float* in = logits + row * cols;

    float top = -CUDART_INF_F;
    for (int c = lane; c < cols; c += 32) {
        const float v = __ldg(in + c);
        slice[c] = v;
        top = fmaxf(top, v);
    }
    top = warp_max(top);
    float sum = 0.0f;
    for (int c = lane; c < cols; c += 32) {
        sum += expf(slice[c] - top);
    }
    sum = warp_sum(sum);
    __syncwarp();
    if (lane == 0) {
        loss[row] = logf(sum) + top - slice[labels[row]];
    }
    __syncwarp();
    for (int c = lane; c < cols; c += 32) {
        slice[c] = expf(slice[c] - top) / sum;
    }
    __syncwarp();
    // Two neighbours per store. The launcher has made sure that cols is even.
    __half2* out = reinterpret_cast<__half2*>(probs + row * cols);
    for (int p = lane; p < cols / 2; p += 32) {
        out[p] = __floats2half2_rn(slice[2 * p], slice[2 * p + 1]);
    }
}

extern "C" cudaError_t launch_cross_entropy(const float* logits, const int* labels, __half* probs, float* loss,
                                            int rows, int cols, cudaStream_t stream) {
    if (cols % 2 != 0) {
        return cudaErrorInvalidValue;
    }
    const dim3 block(32, kWarps);
    const size_t shared = kWarps * cols * sizeof(float);
    cross_entropy<<<(rows + kWarps - 1) / kWarps, block, shared, stream>>>(logits, labels, probs, loss, rows, cols);
    return cudaGetLastError();
}
