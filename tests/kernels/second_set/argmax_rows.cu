// Argmax of each row, one warp per row: 32 values at a time are brought down to one.
#include <cuda_runtime.h>
#include <math_constants.h>

constexpr int kWarps = 4;

__global__ void argmax_rows(const float* x, int* index, float* value, int rows, int cols) {
    const int lane = threadIdx.x % 32;
    const int row = blockIdx.x * kWarps + threadIdx.x / 32;
    if (row >= rows) {
        return;
    }
    const float* in = x + row * cols;
    float best = -CUDART_INF_F;
    int best_at = 0;
    for (int c = lane; c < cols; c += 32) {
        float v = in[c];
        int at = c;
        for (int offset = 16; offset > 0; offset /= 2) {
            const float other = __shfl_down_sync(0xffffffffu, v, offset);
            const int other_at = __shfl_down_sync(0xffffffffu, at, offset);
            if (other > v || (other == v && other_at < at)) {
                v = other;
                at = other_at;
            }
        }
        if (lane == 0 && v > best) {
            best = v;
            best_at = at;
        }
    }
    if (lane == 0) {
        index[row] = best_at;
        value[row] = best;
    }
}

extern "C" cudaError_t launch_argmax(const float* x, int* index, float* value, int rows, int cols,
                                     cudaStream_t stream) {
    argmax_rows<<<(rows + kWarps - 1) / kWarps, kWarps * 32, 0, stream>>>(x, index, value, rows, cols);
    return cudaGetLastError();
}
