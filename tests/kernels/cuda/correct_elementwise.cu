// Correct kernels: one thread, one or a few elements.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <cstdint>

__global__ void scale4(const float* __restrict__ x, float* __restrict__ y, float a, int n)
{
    int const t = blockIdx.x * blockDim.x + threadIdx.x, stride = gridDim.x * blockDim.x;
    for (int i = t; i < n / 4; i += stride)
    {
        float4 v = reinterpret_cast<const float4*>(x)[i];
        reinterpret_cast<float4*>(y)[i] = make_float4(a * v.x, a * v.y, a * v.z, a * v.w);
    }
    for (int i = n / 4 * 4 + t; i < n; i += stride) y[i] = a * x[i];
}

__device__ __forceinline__ float quickGelu(float v) { return v / (1.0f + __expf(-1.702f * v)); }
__global__ void quickGeluHalf(const __half2* __restrict__ x, __half2* __restrict__ y, int n)
{
    int const i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n / 2)
    {
        float2 f = __half22float2(x[i]);
        y[i] = __floats2half2_rn(quickGelu(f.x), quickGelu(f.y));
    }
    if (i == 0 && (n & 1))
        reinterpret_cast<__half*>(y)[n - 1] =
            __float2half(quickGelu(__half2float(reinterpret_cast<const __half*>(x)[n - 1])));
}

template <typename T, int N> struct alignas(sizeof(T) * N) Pack { T value[N]; };
template <typename T, int N, class F> __global__ void __launch_bounds__(128) mapPack(const T* x, T* y, int n, F f)
{
    int const i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n / N) return;                                  // no barrier below: leaving early is right
    auto p = reinterpret_cast<const Pack<T, N>*>(x)[i];
    for (int k = 0; k < N; ++k) p.value[k] = f(p.value[k]);
    reinterpret_cast<Pack<T, N>*>(y)[i] = p;
}
struct Square { template <class T> __host__ __device__ T operator()(T v) const { return v * v; } };

__global__ void bfloatAdd(const __nv_bfloat16* a, const __nv_bfloat16* b, __nv_bfloat16* y, int n)
{
    if (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n) y[i] = a[i] + b[i];
}

__global__ void grey(const uchar4* rgba, unsigned char* y, int n)
{
    int const i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) { uchar4 p = rgba[i]; y[i] = (unsigned char)((p.x * 77 + p.y * 151 + p.z * 28) >> 8); }
}

__global__ void gather(const float* table, const int64_t* ids, float* y, int width)
{
    const float* row = table + ids[blockIdx.x] * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) y[size_t(blockIdx.x) * width + i] = __ldg(row + i);
}

__global__ void inPlace(float* x, int n) { if (int i = blockIdx.x * 64 + threadIdx.x; i < n) x[i] += 1.f; }

#define CEIL(a, b) (((a) + (b) - 1) / (b))
#define LAUNCH(kernel, n, ...) kernel<<<CEIL(n, 128), 128>>>(__VA_ARGS__)

extern "C" {
int launchScale4(const float* x, float* y, float a, int n, cudaStream_t s)
{
    scale4<<<4, 64, 0, s>>>(x, y, a, n);
    return cudaGetLastError();
}
int launchQuickGeluHalf(const void* x, void* y, int n)
{
    LAUNCH(quickGeluHalf, n / 2 + 1, static_cast<const __half2*>(x), static_cast<__half2*>(y), n);
    return cudaGetLastError();
}
int launchSquare(const __half* x, __half* y, int n)
{
    mapPack<__half, 8><<<CEIL(n / 8, 128), 128>>>(x, y, n, Square{}); // <<< and >>> in a comment, and "<<<" in a string
    return cudaGetLastError();
}
int launchBfloatAdd(const __nv_bfloat16* a, const __nv_bfloat16* b, __nv_bfloat16* y, int n)
{
    LAUNCH(bfloatAdd, n, a, b, y, n);
    return cudaGetLastError();
}
int launchGrey(const uchar4* rgba, unsigned char* y, int n) { LAUNCH(grey, n, rgba, y, n); return cudaGetLastError(); }
int launchGather(const float* table, const int64_t* ids, float* y, int rows, int width)
{
    gather<<<rows, 96>>>(table, ids, y, width);
    return cudaGetLastError();
}
int launchInPlace(float* x, int n) { inPlace<<<(n + 63) / 64, 64>>>(x, n); return cudaGetLastError(); }
}
