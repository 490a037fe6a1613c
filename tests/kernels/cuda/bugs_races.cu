// Planted bugs: accesses that nothing orders. The comment `bug: name` marks one of the two lines.
#include <cuda_runtime.h>

constexpr int T = 16;
template <bool AFTER_LOAD, bool AFTER_USE>
__global__ void gemm(const float* A, const float* B, float* C, int N)
{
    __shared__ float a[T][T], b[T][T];
    int const tx = threadIdx.x, ty = threadIdx.y, row = blockIdx.y * T + ty, col = blockIdx.x * T + tx;
    float sum = 0.f;
    for (int k0 = 0; k0 < N; k0 += T)
    {
        a[ty][tx] = A[row * N + k0 + tx];
        b[ty][tx] = B[(k0 + ty) * N + col];
        if (AFTER_LOAD) __syncthreads();
        for (int k = 0; k < T; ++k) sum += a[ty][k] * b[k][tx];                 // bug: gemmLoad gemmUse
        if (AFTER_USE) __syncthreads();
    }
    C[row * N + col] = sum;
}
__global__ void tree(const float* x, float* y)
{
    __shared__ float s[128];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    for (int o = 64; o > 0; o >>= 1) if (threadIdx.x < o) s[threadIdx.x] += s[threadIdx.x + o];     // bug: tree
    if (threadIdx.x == 0) *y = s[0];
}
__global__ void warpSynchronous(const float* x, float* y)                       // as before Volta: the warp in lockstep
{
    __shared__ float s[64];
    volatile float* v = s;
    v[threadIdx.x] = x[threadIdx.x]; v[threadIdx.x + 32] = x[threadIdx.x + 32];
    __syncwarp();
    for (int o = 32; o; o >>= 1) if (threadIdx.x < o) v[threadIdx.x] += v[threadIdx.x + o];  // bug: warpSynchronous
    if (threadIdx.x == 0) *y = v[0];
}
__device__ float blockSum(float v, float* red)
{
    for (int o = 16; o; o >>= 1) v += __shfl_down_sync(~0u, v, o);
    if (threadIdx.x % 32 == 0) red[threadIdx.x / 32] = v;                       // bug: reusedBuffer
    __syncthreads();
    float s = 0;
    for (int w = 0; w < blockDim.x / 32; ++w) s += red[w];
    return s;
}
__global__ void reusedBuffer(const float* x, float* y)
{
    __shared__ float red[32];
    float const mean = blockSum(x[threadIdx.x], red) / blockDim.x, d = x[threadIdx.x] - mean;
    y[threadIdx.x] = blockSum(d * d, red);
}
__global__ void histogram(const int* x, int* h, int n)
{
    if (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n) h[x[i]] += 1;  // bug: histogram
}
__global__ void histogramShared(const int* x, int* h, int n)
{
    __shared__ int local[16];
    if (threadIdx.x < 16) local[threadIdx.x] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) local[x[i]]++;            // bug: histogramShared
    __syncthreads();
    if (threadIdx.x < 16) h[threadIdx.x] = local[threadIdx.x];
}
__global__ void clearedLate(const int* x, int* h, int n)
{
    __shared__ int local[16];
    if (threadIdx.x < 16) local[threadIdx.x] = 0;                               // bug: clearedLate
    for (int i = threadIdx.x; i < n; i += blockDim.x) atomicAdd(&local[x[i]], 1);
    __syncthreads();
    if (threadIdx.x < 16) h[threadIdx.x] = local[threadIdx.x];
}
__global__ void readBesideAtomic(const int* x, int* h, int n)
{
    __shared__ int local[16];
    if (threadIdx.x < 16) local[threadIdx.x] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) atomicAdd(&local[x[i]], 1);
    if (threadIdx.x < 16) h[threadIdx.x] = local[threadIdx.x];                  // bug: readBesideAtomic
}
__global__ void overlap(const float* x, float* y, int n)  // blocks write one element of their neighbour
{
    int const i = blockIdx.x * 63 + threadIdx.x;
    if (i < n) y[i] = x[i] + blockIdx.x;                                        // bug: overlap
}
__global__ void scanInPlace(const int* x, int* y)
{
    __shared__ int s[128];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    for (int o = 1; o < 128; o *= 2)
    {
        if (threadIdx.x >= o) s[threadIdx.x] += s[threadIdx.x - o];             // bug: scanInPlace
        __syncthreads();
    }
    y[threadIdx.x] = s[threadIdx.x];
}
__global__ void stencilInPlace(float* x, int n)
{
    int const i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i > 0 && i < n - 1) x[i] = (x[i - 1] + x[i] + x[i + 1]) / 3;            // bug: stencilInPlace
}
__global__ void transpose(const float* x, float* y)
{
    __shared__ float tile[32][33];
    for (int j = threadIdx.y; j < 32; j += 8) tile[j][threadIdx.x] = x[j * 32 + threadIdx.x];
    for (int j = threadIdx.y; j < 32; j += 8) y[j * 32 + threadIdx.x] = tile[threadIdx.x][j];       // bug: transpose
}
__device__ unsigned arrived = 0;
__global__ void lastBlock(const float* x, volatile float* partial, float* y)    // without __threadfence()
{
    __shared__ bool last;
    if (threadIdx.x == 0)
    {
        partial[blockIdx.x] = x[blockIdx.x];
        last = atomicInc(&arrived, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        float s = 0;
        for (int b = 0; b < gridDim.x; ++b) s += partial[b];  // bug: lastBlock
        *y = s;
    }
}
__global__ void halvesOfAWarp(const float* x, float* y)                         // each half waits for itself only
{
    __shared__ float s[32];
    int const t = threadIdx.x;
    s[t] = x[t];
    __syncwarp(t < 16 ? 0x0000ffffu : 0xffff0000u);
    y[t] = s[31 - t];                                                           // bug: halvesOfAWarp
}
__global__ void shuffleIsNoBarrier(const float* x, float* y)
{
    __shared__ float s[32];
    s[threadIdx.x] = x[threadIdx.x];
    float const v = __shfl_xor_sync(~0u, x[threadIdx.x], 1);
    y[threadIdx.x] = s[31 - threadIdx.x] + v;                                   // bug: shuffleIsNoBarrier
}
__global__ void neighbouringBytes(const unsigned char* x,
                                  unsigned char* y) // each thread writes two bytes, one too many
{
    __shared__ unsigned char s[65];
    s[threadIdx.x] = x[threadIdx.x];
    s[threadIdx.x + 1] = x[threadIdx.x] + 1;                                    // bug: neighbouringBytes
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x];
}
__global__ void flag(const float* x, float* y, int* ready)                      // the reader never looks at the flag
{
    if (blockIdx.x == 0) { y[0] = x[0]; __threadfence(); atomicExch(ready, 1); }
    else y[1] = y[0];                                                           // bug: flag
}
__global__ void lastReaderWrites(const float* x, float* y)      // the one that reads last, in forward order
{
    __shared__ float first;
    if (threadIdx.x == 0) first = x[0];
    __syncthreads();
    y[threadIdx.x] = first;
    if (threadIdx.x == blockDim.x - 1) first = 0;                               // bug: lastReaderWrites
}
__global__ void softmaxMax(const float* x, float* y, int n)
{
    __shared__ float m;
    if (threadIdx.x == 0) { m = x[0]; for (int i = 1; i < n; ++i) m = fmaxf(m, x[i]); }
    y[threadIdx.x] = expf(x[threadIdx.x] - m);                                  // bug: softmaxMax
}
__global__ void pipeline(const float* x, float* y, int tiles)                   // one buffer where two are needed
{
    __shared__ float s[64];
    float sum = 0;
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    for (int t = 0; t < tiles; ++t)
    {
        float const v = s[63 - threadIdx.x];
        if (t + 1 < tiles) s[threadIdx.x] = x[(t + 1) * 64 + threadIdx.x];      // bug: pipeline
        __syncthreads();
        sum += v;
    }
    y[threadIdx.x] = sum;
}
__global__ void fill(float* x, float v, int n) { if (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n) x[i] = v; }
__global__ void addTo(const float* x, float* y, int n)
{
    if (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n) y[i] += x[i];  // bug: twoStreams
}

extern "C" {
int launchGemmLoad(const float* a, const float* b, float* c, int n)
{
    gemm<false, true><<<dim3(n / T, n / T), dim3(T, T)>>>(a, b, c, n);
    return cudaGetLastError();
}
int launchGemmUse(const float* a, const float* b, float* c, int n)
{
    gemm<true, false><<<dim3(n / T, n / T), dim3(T, T)>>>(a, b, c, n);
    return cudaGetLastError();
}
int launchTree(const float* x, float* y) { tree<<<1, 128>>>(x, y); return cudaGetLastError(); }
int launchWarpSynchronous(const float* x, float* y) { warpSynchronous<<<1, 32>>>(x, y); return cudaGetLastError(); }
int launchReusedBuffer(const float* x, float* y) { reusedBuffer<<<1, 128>>>(x, y); return cudaGetLastError(); }
int launchHistogram(const int* x, int* h, int n)
{
    cudaMemset(h, 0, 64);
    histogram<<<(n + 63) / 64, 64>>>(x, h, n);
    return cudaGetLastError();
}
int launchHistogramShared(const int* x, int* h, int n)
{
    histogramShared<<<1, 64>>>(x, h, n);
    return cudaGetLastError();
}
int launchClearedLate(const int* x, int* h, int n) { clearedLate<<<1, 64>>>(x, h, n); return cudaGetLastError(); }
int launchReadBesideAtomic(const int* x, int* h, int n)
{
    readBesideAtomic<<<1, 64>>>(x, h, n);
    return cudaGetLastError();
}
int launchOverlap(const float* x, float* y, int n)
{
    overlap<<<(n + 62) / 63, 64>>>(x, y, n);
    return cudaGetLastError();
}
int launchScanInPlace(const int* x, int* y) { scanInPlace<<<1, 128>>>(x, y); return cudaGetLastError(); }
int launchStencilInPlace(float* x, int n) { stencilInPlace<<<(n + 63) / 64, 64>>>(x, n); return cudaGetLastError(); }
int launchTranspose(const float* x, float* y) { transpose<<<1, dim3(32, 8)>>>(x, y); return cudaGetLastError(); }
int launchLastBlock(const float* x, float* y)
{
    float* partial;
    cudaMalloc(&partial, 5 * sizeof(float));
    lastBlock<<<5, 32>>>(x, partial, y);
    cudaFree(partial);
    return cudaGetLastError();
}
int launchHalvesOfAWarp(const float* x, float* y) { halvesOfAWarp<<<1, 32>>>(x, y); return cudaGetLastError(); }
int launchShuffleIsNoBarrier(const float* x, float* y)
{
    shuffleIsNoBarrier<<<1, 32>>>(x, y);
    return cudaGetLastError();
}
int launchNeighbouringBytes(const unsigned char* x, unsigned char* y)
{
    neighbouringBytes<<<1, 64>>>(x, y);
    return cudaGetLastError();
}
int launchFlag(const float* x, float* y)
{
    int* ready;
    cudaMalloc(&ready, 4);
    cudaMemset(ready, 0, 4);
    flag<<<2, 1>>>(x, y, ready);
    cudaFree(ready);
    return cudaGetLastError();
}
int launchLastReaderWrites(const float* x, float* y) { lastReaderWrites<<<1, 96>>>(x, y); return cudaGetLastError(); }
int launchSoftmaxMax(const float* x, float* y, int n) { softmaxMax<<<1, n>>>(x, y, n); return cudaGetLastError(); }
int launchPipeline(const float* x, float* y, int tiles) { pipeline<<<1, 64>>>(x, y, tiles); return cudaGetLastError(); }
int launchTwoStreams(const float* x, float* y, int n)
{
    cudaStream_t a, b;
    cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking);
    fill<<<(n + 63) / 64, 64, 0, a>>>(y, 2.f, n);
    addTo<<<(n + 63) / 64, 64, 0, b>>>(x, y, n);
    cudaDeviceSynchronize();
    cudaStreamDestroy(a); cudaStreamDestroy(b);
    return cudaGetLastError();
}
}
