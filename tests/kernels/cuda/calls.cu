// Launchers that behave badly, and ones that show what arrives.
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

__global__ void speak(int n) { if (threadIdx.x < n) printf("thread %d\n", threadIdx.x); }
__global__ void fill(float* y, float v) { y[blockIdx.x * blockDim.x + threadIdx.x] = v; }
__global__ void far(float* y) { y[1 << 28] = 1; }
__global__ void large(float* y)
{
    volatile float local[40000];
    for (int i = 0; i < 40000; ++i) local[i] = i;
    y[threadIdx.x] = local[39999];
}
__global__ void forever(float* y) { while (y[0] == 0.f) {} }
__global__ void forEver() { for (volatile int i = 0;; ++i) {} }
__global__ void partial(const float* x, float* y, int n) { int i = threadIdx.x; if (i < n && x[i] > 0) y[i] = x[i]; }
__global__ void transposed(const float* x, float* y)
{
    __shared__ float tile[32][32];
    tile[threadIdx.y][threadIdx.x] = x[threadIdx.y * 32 + threadIdx.x];
    __syncthreads();
    y[threadIdx.y * 32 + threadIdx.x] = tile[threadIdx.x][threadIdx.y];
}
__global__ void strided(const float* x, float* y, int stride) { y[threadIdx.x] = x[threadIdx.x * stride]; }
__global__ void vector(const float4* x, float4* y) { y[threadIdx.x] = x[threadIdx.x]; }

extern "C" {
int launchSpeak(int n)
{
    std::printf("host\n");
    std::fprintf(stderr, "to stderr\n");
    speak<<<1, 32>>>(n);
    return cudaGetLastError();
}
int launchAbort() { std::fprintf(stderr, "giving up\n"); std::abort(); }
int launchExit() { std::_Exit(7); }
int launchNull() { volatile int* p = nullptr; return *p; }
int launchForever(float* y) { forever<<<1, 32>>>(y); return cudaGetLastError(); }
int launchForEver() { forEver<<<1, 1>>>(); return cudaGetLastError(); }
int launchHostForever() { for (volatile int i = 0;; i = i + 1) {} }
int launchFar(float* y) { far<<<1, 1>>>(y); return cudaGetLastError(); }
int launchLarge(float* y) { large<<<1, 32>>>(y); return cudaGetLastError(); }
int launchPartial(const float* x, float* y, int n) { partial<<<1, 32>>>(x, y, n); return cudaGetLastError(); }
int launchTransposed(const float* x, float* y) { transposed<<<1, dim3(32, 32)>>>(x, y); return cudaGetLastError(); }
int launchStrided(const float* x, float* y, int stride) { strided<<<1, 32>>>(x, y, stride); return cudaGetLastError(); }
int launchVector(const float4* x, float4* y) { vector<<<1, 32>>>(x, y); return cudaGetLastError(); }
int64_t launchTypes(int8_t a, uint8_t b, int16_t c, uint32_t d, int64_t e, uint64_t f, bool g, float h, double i,
                    cudaStream_t s, const void* p)
{
    return a + b + c + d + e + int64_t(f) + g + int64_t(h * 2) + int64_t(i * 4) + (s == nullptr) + (p == nullptr);
}
void launchNothing() {}
int launchHalf(const __half* x, int n) { return x != nullptr && n; }
int launchFill(float* y, int blocks, float v) { fill<<<blocks, 32>>>(y, v); return cudaGetLastError(); }
}
