// Keeps the boxes above a threshold, in any order: one atomic per warp, as before non-maximum suppression.
#include <cuda_runtime.h>

__global__ void select_boxes(const float* scores, const float4* boxes, int* count, int* kept, float4* kept_boxes,
                             int n, int capacity, float threshold) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    const int lane = threadIdx.x % warpSize;
    // No thread has left: those past the end vote no.
    const bool keep = i < n && scores[i] > threshold;
    const unsigned votes = __ballot_sync(0xffffffffu, keep);
    if (votes == 0u) {
        return;
    }
    const int leader = __ffs(votes) - 1;
    int base = 0;
    if (lane == leader) {
        base = atomicAdd(count, __popc(votes));
    }
    base = __shfl_sync(0xffffffffu, base, leader);
    if (keep) {
        const int slot = base + __popc(votes & ((1u << lane) - 1u));
        if (slot < capacity) {
            kept[slot] = i;
            kept_boxes[slot] = boxes[i];
        }
    }
}

extern "C" cudaError_t launch_select_boxes(const float* scores, const float* boxes, int* count, int* kept,
                                           float* kept_boxes, int n, int capacity, float threshold,
                                           cudaStream_t stream) {
    cudaMemsetAsync(count, 0, sizeof(int), stream);
    cudaMemsetAsync(kept, 0xff, capacity * sizeof(int), stream);  // -1 in every place
    cudaMemsetAsync(kept_boxes, 0, capacity * sizeof(float4), stream);
    const int threads = 96;
    select_boxes<<<(n + threads - 1) / threads, threads, 0, stream>>>(
        scores, reinterpret_cast<const float4*>(boxes), count, kept, reinterpret_cast<float4*>(kept_boxes), n,
        capacity, threshold);
    return cudaGetLastError();
}
