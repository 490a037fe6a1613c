// Instance norm with a gate per row: statistics on a side stream, gates on the caller's, then both come together.
#include <cuda_runtime.h>

constexpr int kThreads = 128;

__global__ void row_stats(const float* x, float* stats, int cols, float eps) {
    __shared__ float sums[kThreads];
    __shared__ float squares[kThreads];
    const float* in = x + blockIdx.x * cols;
    float sum = 0.0f;
    float square = 0.0f;
    for (int c = threadIdx.x; c < cols; c += kThreads) {
        sum += in[c];
        square += in[c] * in[c];
    }
    sums[threadIdx.x] = sum;
    squares[threadIdx.x] = square;
    for (int half = kThreads / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) {
            sums[threadIdx.x] += sums[threadIdx.x + half];
            squares[threadIdx.x] += squares[threadIdx.x + half];
        }
    }
    if (threadIdx.x == 0) {
        const float mean = sums[0] / cols;
        stats[2 * blockIdx.x] = mean;
        stats[2 * blockIdx.x + 1] = rsqrtf(squares[0] / cols - mean * mean + eps);
    }
}

__global__ void sigmoid(const float* logits, float* gates, int rows) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < rows) {
        gates[i] = 1.0f / (1.0f + expf(-logits[i]));
    }
}

__global__ void normalise(const float* x, const float* stats, const float* gates, float* y, int cols) {
    const float mean = stats[2 * blockIdx.x];
    const float rstd = stats[2 * blockIdx.x + 1];
    const float gate = gates[blockIdx.x];
    for (int c = threadIdx.x; c < cols; c += kThreads) {
        y[blockIdx.x * cols + c] = (x[blockIdx.x * cols + c] - mean) * rstd * gate;
    }
}

extern "C" cudaError_t launch_instancenorm(const float* x, const float* logits, float* workspace, float* y, int rows,
                                           int cols, float eps, cudaStream_t stream) {
    float* stats = workspace;             // two per row
    float* gates = workspace + 2 * rows;  // one per row

    cudaStream_t side;
    cudaEvent_t inputs_ready;
    cudaEvent_t stats_ready;
    cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&inputs_ready, cudaEventDisableTiming);
    cudaEventCreateWithFlags(&stats_ready, cudaEventDisableTiming);

    cudaEventRecord(inputs_ready, stream);
    cudaStreamWaitEvent(side, inputs_ready, 0);
    cudaEventRecord(stats_ready, side);
    row_stats<<<rows, kThreads, 0, side>>>(x, stats, cols, eps);

    sigmoid<<<(rows + 31) / 32, 32, 0, stream>>>(logits, gates, rows);
    cudaStreamWaitEvent(stream, stats_ready, 0);
    normalise<<<rows, kThreads, 0, stream>>>(x, stats, gates, y, cols);

    cudaEventDestroy(inputs_ready);
    cudaEventDestroy(stats_ready);
    cudaStreamDestroy(side);
    return cudaGetLastError();
}
