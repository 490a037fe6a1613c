// GELU (tanh form), in place, on a stretch of a half buffer that may begin at an odd element.
#include <cstdint>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace {

__device__ __forceinline__ float gelu(float x) {
    const float inner = 0.7978845608f * (x + 0.044715f * x * x * x);
    return 0.5f * x * (1.0f + tanhf(inner));
}

__global__ void gelu_kernel(__half* x, int n) {
    const int tid = blockIdx.x * blockDim.x + threadIdx.x;
    const int stride = gridDim.x * blockDim.x;
    // half2 wants 4-byte addresses: one element is peeled off in front where the stretch begins between two.
    const int head = reinterpret_cast<std::uintptr_t>(x) % sizeof(__half2) == 0 ? 0 : 1;
    const int pairs = (n - head) / 2;
    __half2* body = reinterpret_cast<__half2*>(x + head);
    for (int i = tid; i < pairs; i += stride) {
        const float2 v = __half22float2(body[i]);
        body[i] = __floats2half2_rn(gelu(v.x), gelu(v.y));
    }
    if (tid == 0 && head == 1) {
        x[0] = __float2half(gelu(__half2float(x[0])));
    }
    const int done = head + 2 * pairs;
    if (tid == 1 && done < n) {
        x[done] = __float2half(gelu(__half2float(x[done])));
    }
}

}  // namespace

extern "C" cudaError_t launch_gelu(__half* buffer, int begin, int n, cudaStream_t stream) {
    const int threads = 128;
    const int blocks = min((n / 2 + threads - 1) / threads, 2);
    gelu_kernel<<<blocks, threads, 0, stream>>>(buffer + begin, n);
    return cudaGetLastError();
}
