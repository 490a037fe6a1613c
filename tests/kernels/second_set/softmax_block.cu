// Softmax with one block per row; maximum and sum use the same block-wide reduction.
#include <cuda_runtime.h>
#include <math_constants.h>

struct Max {
    static constexpr float identity = -3.402823466e38f;
    __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

struct Sum {
    static constexpr float identity = 0.0f;
    __device__ float operator()(float a, float b) const { return a + b; }
};

template <typename Op>
__device__ float block_reduce(float value, float* shared, Op op) {
    const int lane = threadIdx.x % 32;
    const int warp = threadIdx.x / 32;
    const int warps = blockDim.x / 32;
    for (int offset = 16; offset > 0; offset >>= 1) {
        value = op(value, __shfl_xor_sync(0xffffffffu, value, offset));
    }
    if (lane == 0) {
        shared[warp] = value;
    }
    __syncthreads();
    value = lane < warps ? shared[lane] : Op::identity;
    for (int offset = 16; offset > 0; offset >>= 1) {
        value = op(value, __shfl_xor_sync(0xffffffffu, value, offset));
    }
    return value;  // the same in every thread
}

__global__ void softmax(const float* x, float* y, int cols) {
    __shared__ float shared[32];
    const float* in = x + blockIdx.x * cols;
    float* out = y + blockIdx.x * cols;
    float top = Max::identity;
    for (int c = threadIdx.x; c < cols; c += blockDim.x) {
        top = fmaxf(top, in[c]);
    }
    top = block_reduce(top, shared, Max());
    float sum = 0.0f;
    for (int c = threadIdx.x; c < cols; c += blockDim.x) {
        const float e = expf(in[c] - top);
        out[c] = e;
        sum += e;
    }
    sum = block_reduce(sum, shared, Sum());
    for (int c = threadIdx.x; c < cols; c += blockDim.x) {
        out[c] /= sum;
    }
}

extern "C" cudaError_t launch_softmax(const float* x, float* y, int rows, int cols, cudaStream_t stream) {
    softmax<<<rows, 256, 0, stream>>>(x, y, cols);
    return cudaGetLastError();
}
