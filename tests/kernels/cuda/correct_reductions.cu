// Correct kernels: reductions, norms, softmax, histograms, scans.
#include <cuda_runtime.h>

__device__ float warpSum(float v)
{
    for (int o = 16; o > 0; o >>= 1) v += __shfl_down_sync(0xffffffffu, v, o);
    return v;
}
__device__ __forceinline__ float warpMax(float v)
{
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, o));
    return v;
}
// Sum over the block for every thread; red holds 32 floats and may be used again.
__device__ float blockSum(float v, float* red)
{
    int const lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    v = warpSum(v);
    __syncthreads();
    if (lane == 0) red[warp] = v;
    __syncthreads();
    float s = 0.f;
    for (int w = 0; w < (blockDim.x + 31) / 32; ++w) s += red[w];
    return s;
}

template <int BLOCK> __global__ void layerNorm(const float* __restrict__ x, const float* __restrict__ g,
                                               const float* __restrict__ b, float* __restrict__ y, int cols, float eps)
{
    __shared__ float red[32];
    extern __shared__ float row[];
    const float* xr = x + size_t(blockIdx.x) * cols;
    float s = 0.f;
    for (int i = threadIdx.x; i < cols; i += BLOCK) { float v = xr[i]; row[i] = v; s += v; }
    float const mean = blockSum(s, red) / cols;
    float q = 0.f;
    for (int i = threadIdx.x; i < cols; i += BLOCK) { float d = row[i] - mean; q += d * d; }
    float const rstd = rsqrtf(blockSum(q, red) / cols + eps);
    for (int i = threadIdx.x; i < cols; i += BLOCK)
        y[size_t(blockIdx.x) * cols + i] = (row[i] - mean) * rstd * g[i] + b[i];
}

__global__ void rmsNorm(const float* x, const float* g, float* y, int cols)
{
    int const lane = threadIdx.x, row = blockIdx.x * blockDim.y + threadIdx.y;   // a warp a row
    const float* xr = x + row * cols;
    float s = 0;
    for (int i = lane; i < cols; i += warpSize) s += xr[i] * xr[i];
    for (int o = 16; o; o /= 2) s += __shfl_xor_sync(~0u, s, o);
    float const r = rsqrtf(s / cols + 1e-6f);
    for (int i = lane; i < cols; i += warpSize) y[row * cols + i] = xr[i] * r * g[i];
}

__global__ void softmax(const float* __restrict__ x, float* __restrict__ y, int cols)
{
    __shared__ float redMax[32], redSum[32];
    int const lane = threadIdx.x % warpSize, warp = threadIdx.x / warpSize, warps = blockDim.x / warpSize;
    x += size_t(blockIdx.x) * cols; y += size_t(blockIdx.x) * cols;
    float m = -INFINITY;
    for (int i = threadIdx.x; i < cols; i += blockDim.x) m = fmaxf(m, x[i]);
    m = warpMax(m);
    if (lane == 0) redMax[warp] = m;
    __syncthreads();
    m = redMax[0];
    for (int w = 1; w < warps; ++w) m = fmaxf(m, redMax[w]);
    float s = 0.f;
    for (int i = threadIdx.x; i < cols; i += blockDim.x) s += __expf(x[i] - m);
    s = warpSum(s);
    if (lane == 0) redSum[warp] = s;
    __syncthreads();
    s = 0.f;
    for (int w = 0; w < warps; ++w) s += redSum[w];
    for (int i = threadIdx.x; i < cols; i += blockDim.x) y[i] = __expf(x[i] - m) / s;
}

__global__ void sumAtomic(const float* __restrict__ x, float* out, int n)
{
    __shared__ float part[8];
    int const t = threadIdx.y * blockDim.x + threadIdx.x, threads = blockDim.x * blockDim.y;
    float s = 0;
    for (int i = blockIdx.x * threads + t; i < n; i += gridDim.x * threads) s += x[i];
    s = warpSum(s);
    if ((t & 31) == 0) part[t / 32] = s;
    __syncthreads();
    if (t < 32)
    {
        s = warpSum(t < threads / 32 ? part[t] : 0.f);
        if (t == 0) atomicAdd(out, s);
    }
}

// Tree in shared memory; the last warp goes on with __syncwarp.
__global__ void sumTree(const float* x, float* out)
{
    __shared__ float s[256];
    int const t = threadIdx.x;
    s[t] = x[blockIdx.x * 256 + t];
    __syncthreads();
    for (int o = 128; o > 32; o >>= 1) { if (t < o) s[t] += s[t + o]; __syncthreads(); }
    if (t < 32)
    {
        volatile float* v = s;
        v[t] += v[t + 32]; __syncwarp();
        for (int o = 16; o; o >>= 1)
        {
            float sum = t < o ? v[t] + v[t + o] : 0.f;
            __syncwarp();
            if (t < o) v[t] = sum;
            __syncwarp();
        }
        if (t == 0) out[blockIdx.x] = v[0];
    }
}

// The last block to arrive adds what all blocks wrote.
__device__ unsigned arrived = 0;
__global__ void sumLastBlock(const float* x, volatile float* partial, float* out, int n)
{
    __shared__ float red[32];
    __shared__ bool last;
    float s = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) s += x[i];
    s = blockSum(s, red);
    if (threadIdx.x == 0)
    {
        partial[blockIdx.x] = s;
        __threadfence();
        last = atomicInc(&arrived, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last) return;
    s = 0;
    for (int i = threadIdx.x; i < gridDim.x; i += blockDim.x) s += partial[i];
    s = blockSum(s, red);
    if (threadIdx.x == 0) *out = s;
}

__global__ void histogramGlobal(const int* x, int* h, int n)
{
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&h[x[i]], 1);
}
__global__ void histogramShared(const int* x, int* h, int n, int bins)
{
    extern __shared__ int local[];
    for (int b = threadIdx.x; b < bins; b += blockDim.x) local[b] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(local + x[i], 1);
    __syncthreads();
    for (int b = threadIdx.x; b < bins; b += blockDim.x) if (local[b]) atomicAdd(h + b, local[b]);
}

// Inclusive scan of a block, two buffers in turn.
__global__ void scanHillisSteele(const int* x, int* y, int n)
{
    __shared__ int s[2][256];
    int const t = threadIdx.x, i = blockIdx.x * 256 + t;
    int in = 0;
    s[in][t] = i < n ? x[i] : 0;
    __syncthreads();
    for (int o = 1; o < 256; o *= 2)
    {
        s[1 - in][t] = s[in][t] + (t >= o ? s[in][t - o] : 0);
        in = 1 - in;
        __syncthreads();
    }
    if (i < n) y[i] = s[in][t];
}
// Exclusive scan of 512 values with 256 threads, up and down a tree (Blelloch).
__global__ void scanBlelloch(const int* x, int* y)
{
    __shared__ int s[512];
    int const t = threadIdx.x;
    s[2 * t] = x[2 * t]; s[2 * t + 1] = x[2 * t + 1];
    int offset = 1;
    for (int d = 256; d > 0; d >>= 1)
    {
        __syncthreads();
        if (t < d) s[offset * (2 * t + 2) - 1] += s[offset * (2 * t + 1) - 1];
        offset *= 2;
    }
    if (t == 0) s[511] = 0;
    for (int d = 1; d < 512; d *= 2)
    {
        offset >>= 1;
        __syncthreads();
        if (t < d) { int a = offset * (2 * t + 1) - 1, b = offset * (2 * t + 2) - 1, v = s[a]; s[a] = s[b]; s[b] += v; }
    }
    __syncthreads();
    y[2 * t] = s[2 * t]; y[2 * t + 1] = s[2 * t + 1];
}

__global__ void scanWarp(const int* x, int* y)
{
    int v = x[threadIdx.x];
    int const lane = threadIdx.x & 31;
    for (int o = 1; o < 32; o *= 2) { int up = __shfl_up_sync(0xffffffff, v, o); if (lane >= o) v += up; }
    y[threadIdx.x] = v;
}

__global__ void compact(const float* x, float* y, int* count, int n)
{
    int const i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x & 31;
    bool const keep = i < n && x[i] > 0;
    unsigned const ballot = __ballot_sync(~0u, keep);
    int base = 0;
    if (lane == 0) base = atomicAdd(count, __popc(ballot));
    base = __shfl_sync(~0u, base, 0);
    if (keep) y[base + __popc(ballot & ((1u << lane) - 1))] = x[i];
}

__device__ float atomicMaxFloat(float* address, float value)
{
    int* bits = reinterpret_cast<int*>(address);
    int old = *reinterpret_cast<volatile int*>(bits), seen;
    do {
        seen = old;
        if (__int_as_float(seen) >= value) break;
        old = atomicCAS(bits, seen, __float_as_int(value));
    } while (old != seen);
    return __int_as_float(old);
}
__global__ void maximum(const float* x, float* out, int n)
{
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicMaxFloat(out, x[i]);
}

__global__ void argmax(const float* x, int* y, int cols)        // a warp a row
{
    float best = -INFINITY; int at = 0;
    for (int i = threadIdx.x; i < cols; i += 32)
        if (x[blockIdx.x * cols + i] > best) {
            best = x[blockIdx.x * cols + i];
            at = i;
        }
    for (int o = 16; o; o >>= 1)
    {
        float const v = __shfl_down_sync(~0u, best, o); int const a = __shfl_down_sync(~0u, at, o);
        if (v > best || (v == best && a < at)) { best = v; at = a; }
    }
    if (threadIdx.x == 0) y[blockIdx.x] = at;
}

// The lanes that happen to be together send one of them (as in NVIDIA's text on warp-aggregated atomics).
__global__ void countPositive(const float* x, int* count, int n)
{
    int const i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n && x[i] > 0)
    {
        unsigned const active = __activemask();
        if ((threadIdx.x & 31) == __ffs(active) - 1) atomicAdd(count, __popc(active));
    }
}
// Only n lanes take part; what comes from the others is thrown away.
__global__ void partOfAWarp(const float* x, float* y, int n)
{
    unsigned const mask = __ballot_sync(~0u, threadIdx.x < n);
    if (threadIdx.x >= n) return;
    float v = x[threadIdx.x];
    for (int o = 16; o; o >>= 1) {
        float const other = __shfl_down_sync(mask, v, o);
        if (threadIdx.x + o < n) v += other;
    }
    if (threadIdx.x == 0) *y = v;
}
struct Best { float value; char valid; };
__global__ void bestOfBlock(const float* x, float* y, int n)
{
    __shared__ Best best[64];                                // three bytes of each are never written
    int at;
    float value;                                             // have a value from the first turn on
    for (int i = threadIdx.x; i < n; i += 64) if (i == threadIdx.x || x[i] > value) { value = x[i]; at = i; }
    best[threadIdx.x].value = value;
    best[threadIdx.x].valid = at >= 0;
    __syncthreads();
    for (int o = 32; o; o >>= 1)
    {
        if (threadIdx.x < o) {
            Best const other = best[threadIdx.x + o];
            if (other.valid && other.value > best[threadIdx.x].value) best[threadIdx.x] = other;
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) *y = best[0].value;
}
__global__ void anyAbove(const float* x, int* found, float limit, int n)     // all that write, write the same
{
    int const i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n && x[i] > limit) *found = 1;
}

extern "C" cudaError_t launchLayerNorm(const float* x, const float* gamma, const float* beta, float* y, int rows,
                                       int cols, float eps, cudaStream_t stream)
{
    layerNorm<128><<<rows, 128, cols * sizeof(float), stream>>>(x, gamma, beta, y, cols, eps);
    return cudaGetLastError();
}
extern "C" int launchRmsNorm(const float* x, const float* g, float* y, int rows, int cols)
{
    rmsNorm<<<rows / 4, dim3(32, 4)>>>(x, g, y, cols);
    return cudaGetLastError();
}
extern "C" int launchSoftmax(const float* x, float* y, int rows, int cols)
{
    softmax<<<rows, 128>>>(x, y, cols);
    return cudaGetLastError();
}
extern "C" int launchSumAtomic(const float* x, float* y, int n)
{
    cudaMemsetAsync(y, 0, sizeof(float), 0);
    sumAtomic<<<4, dim3(16, 16)>>>(x, y, n);
    return cudaGetLastError();
}
extern "C" int launchSumTree(const float* x, float* y, int blocks)
{
    sumTree<<<blocks, 256>>>(x, y);
    return cudaGetLastError();
}
extern "C" int launchSumLastBlock(const float* x, float* y, int n)
{
    float* partial = nullptr;
    if (cudaError_t e = cudaMalloc(&partial, 7 * sizeof(float))) return e;
    sumLastBlock<<<7, 64>>>(x, partial, y, n);
    cudaFree(partial);
    return cudaGetLastError();
}
extern "C" int launchHistogramGlobal(const int* x, int* h, int n)
{
    cudaMemset(h, 0, 16 * sizeof(int));
    histogramGlobal<<<4, 128>>>(x, h, n);
    return cudaGetLastError();
}
extern "C" int launchHistogramShared(const int* x, int* h, int n, int bins)
{
    cudaMemset(h, 0, bins * sizeof(int));
    histogramShared<<<3, 128, bins * sizeof(int)>>>(x, h, n, bins);
    return cudaGetLastError();
}
extern "C" int launchScanHillisSteele(const int* x, int* y, int n)
{
    scanHillisSteele<<<(n + 255) / 256, 256>>>(x, y, n);
    return cudaGetLastError();
}
extern "C" int launchScanBlelloch(const int* x, int* y) { scanBlelloch<<<1, 256>>>(x, y); return cudaGetLastError(); }
extern "C" int launchScanWarp(const int* x, int* y) { scanWarp<<<1, 64>>>(x, y); return cudaGetLastError(); }
extern "C" int launchCompact(const float* x, float* y, int* count, int n)
{
    cudaMemset(count, 0, 4);
    compact<<<(n + 127) / 128, 128>>>(x, y, count, n);
    return cudaGetLastError();
}
extern "C" int launchMaximum(const float* x, float* y, int n)
{
    float const low = -INFINITY;
    cudaMemcpy(y, &low, sizeof low, cudaMemcpyHostToDevice);
    maximum<<<2, 64>>>(x, y, n);
    return cudaGetLastError();
}
extern "C" int launchArgmax(const float* x, int* y, int rows, int cols)
{
    argmax<<<rows, 32>>>(x, y, cols);
    return cudaGetLastError();
}
extern "C" int launchCountPositive(const float* x, int* count, int n)
{
    cudaMemset(count, 0, 4);
    countPositive<<<(n + 63) / 64, 64>>>(x, count, n);
    return cudaGetLastError();
}
extern "C" int launchPartOfAWarp(const float* x, float* y, int n)
{
    partOfAWarp<<<1, 32>>>(x, y, n);
    return cudaGetLastError();
}
extern "C" int launchBestOfBlock(const float* x, float* y, int n)
{
    bestOfBlock<<<1, 64>>>(x, y, n);
    return cudaGetLastError();
}
extern "C" int launchAnyAbove(const float* x, int* found, float limit, int n)
{
    cudaMemset(found, 0, 4);
    anyAbove<<<(n + 63) / 64, 64>>>(x, found, limit, n);
    return cudaGetLastError();
}
