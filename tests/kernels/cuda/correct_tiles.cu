// Correct kernels: tiles in shared memory, several kernels, streams, constants.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

constexpr int T = 16;
__global__ void gemm(const float* __restrict__ A, const float* __restrict__ B, float* __restrict__ C, int M, int N,
                     int K)
{
    __shared__ float a[T][T], b[T][T + 1];
    int const tx = threadIdx.x, ty = threadIdx.y, row = blockIdx.y * T + ty, col = blockIdx.x * T + tx;
    float sum = 0.f;
    for (int k0 = 0; k0 < K; k0 += T)
    {
        a[ty][tx] = row < M && k0 + tx < K ? A[row * K + k0 + tx] : 0.f;
        b[ty][tx] = k0 + ty < K && col < N ? B[(k0 + ty) * N + col] : 0.f;
        __syncthreads();
        for (int k = 0; k < T; ++k) sum += a[ty][k] * b[k][tx];
        __syncthreads();
    }
    if (row < M && col < N) C[row * N + col] = sum;
}
// Two tiles in turn: one barrier an iteration is enough.
__global__ void gemmHalf(const __half* A, const __half* B, __half* C, int M, int N, int K)
{
    __shared__ __half a[2][T][T]; __shared__ __half b[2][T][T];
    int const tx = threadIdx.x, ty = threadIdx.y, row = blockIdx.y * T + ty, col = blockIdx.x * T + tx;
    float sum = 0.f;
    int turn = 0;
    for (int k0 = 0; k0 < K; k0 += T, turn ^= 1)
    {
        a[turn][ty][tx] = row < M && k0 + tx < K ? A[row * K + k0 + tx] : __float2half(0.f);
        b[turn][ty][tx] = k0 + ty < K && col < N ? B[(k0 + ty) * N + col] : __float2half(0.f);
        __syncthreads();
        for (int k = 0; k < T; ++k) sum = fmaf(__half2float(a[turn][ty][k]), __half2float(b[turn][k][tx]), sum);
    }
    if (row < M && col < N) C[row * N + col] = __float2half(sum);
}

__global__ void transpose(const float* x, float* y, int rows, int cols)
{
    __shared__ float tile[32][33];
    int c = blockIdx.x * 32 + threadIdx.x, r0 = blockIdx.y * 32;
    for (int j = threadIdx.y; j < 32; j += blockDim.y)
        if (r0 + j < rows && c < cols) tile[j][threadIdx.x] = x[(r0 + j) * cols + c];
    __syncthreads();
    int r = r0 + threadIdx.x, c0 = blockIdx.x * 32;
    for (int j = threadIdx.y; j < 32; j += blockDim.y)
        if (c0 + j < cols && r < rows) y[(c0 + j) * rows + r] = tile[threadIdx.x][j];
}

__constant__ float weights[5];
__global__ void stencil(const float* x, float* y, int n)
{
    __shared__ float s[128 + 4];
    int const i = blockIdx.x * 128 + threadIdx.x;
    s[threadIdx.x + 2] = i < n ? x[i] : 0.f;
    if (threadIdx.x < 2)
    {
        s[threadIdx.x] = i >= 2 ? x[i - 2] : 0.f;
        s[threadIdx.x + 130] = i + 128 < n ? x[i + 128] : 0.f;
    }
    __syncthreads();
    if (i >= n) return;
    float sum = 0.f;
    for (int k = 0; k < 5; ++k) sum += weights[k] * s[threadIdx.x + k];
    y[i] = sum;
}

// One block: BR query rows of one head; 8 threads share a row.
constexpr int D = 32, BR = 16, BC = 32;
__global__ void attention(const float* __restrict__ Q, const float* __restrict__ K, const float* __restrict__ V,
                          float* __restrict__ O, int len, float scale)
{
    extern __shared__ __align__(16) float memory[];
    float (*q)[D + 4] = reinterpret_cast<float (*)[D + 4]>(memory);
    float (*k)[D + 4] = q + BR;
    float (*v)[D + 4] = k + BC;
    __shared__ float p[BR][BC + 1];
    int const t = threadIdx.x, r = t / 8, c = t % 8, q0 = blockIdx.x * BR;
    size_t const head = size_t(blockIdx.y) * len * D;
    for (int i = t; i < BR * D / 4; i += blockDim.x)
    {
        int const rr = i / (D / 4), cc = i % (D / 4) * 4;
        float4 x = make_float4(0, 0, 0, 0);
        if (q0 + rr < len) x = *reinterpret_cast<const float4*>(Q + head + (q0 + rr) * D + cc);
        *reinterpret_cast<float4*>(&q[rr][cc]) = x;
    }
    float m = -INFINITY, l = 0.f, acc[D / 8] = {};
    for (int k0 = 0; k0 < len; k0 += BC)
    {
        __syncthreads();
        for (int i = t; i < BC * D / 4; i += blockDim.x)
        {
            int const rr = i / (D / 4), cc = i % (D / 4) * 4;
            float4 kv = make_float4(0, 0, 0, 0), vv = kv;
            if (k0 + rr < len)
            {
                kv = *reinterpret_cast<const float4*>(K + head + (k0 + rr) * D + cc);
                vv = *reinterpret_cast<const float4*>(V + head + (k0 + rr) * D + cc);
            }
            *reinterpret_cast<float4*>(&k[rr][cc]) = kv;
            *reinterpret_cast<float4*>(&v[rr][cc]) = vv;
        }
        __syncthreads();
        float mt = -INFINITY;
        for (int j = c; j < BC; j += 8)
        {
            float s = -INFINITY;
            if (k0 + j < len) { s = 0.f; for (int d = 0; d < D; ++d) s += q[r][d] * k[j][d]; s *= scale; }
            p[r][j] = s;
            mt = fmaxf(mt, s);
        }
        for (int o = 4; o > 0; o >>= 1) mt = fmaxf(mt, __shfl_xor_sync(0xffffffffu, mt, o, 8));
        float const mn = fmaxf(m, mt), corr = __expf(m - mn);
        float lt = 0.f;
        for (int j = c; j < BC; j += 8) { float e = __expf(p[r][j] - mn); p[r][j] = e; lt += e; }
        for (int o = 4; o > 0; o >>= 1) lt += __shfl_xor_sync(0xffffffffu, lt, o, 8);
        __syncwarp();
        l = l * corr + lt;
        m = mn;
        for (int i = 0; i < D / 8; ++i) acc[i] *= corr;
        for (int j = 0; j < BC; ++j) for (int i = 0; i < D / 8; ++i) acc[i] += p[r][j] * v[j][c * (D / 8) + i];
        __syncwarp();
    }
    if (q0 + r < len) for (int i = 0; i < D / 8; ++i) O[head + (q0 + r) * D + c * (D / 8) + i] = acc[i] / l;
}

__global__ void bitonic(int* x)                             // 256 values, sorted in shared memory
{
    __shared__ int s[256];
    int const t = threadIdx.x;
    s[t] = x[t];
    for (int k = 2; k <= 256; k *= 2)
        for (int j = k / 2; j > 0; j /= 2)
        {
            __syncthreads();
            int const other = t ^ j;
            if (other > t && ((t & k) == 0) == (s[t] > s[other])) { int v = s[t]; s[t] = s[other]; s[other] = v; }
        }
    __syncthreads();
    x[t] = s[t];
}

__global__ void gemv8(const signed char* w, const signed char* x, int* y, int k)    // int8, 4 products an instruction
{
    int sum = 0;
    const int* row = reinterpret_cast<const int*>(w + blockIdx.x * k);
    for (int i = threadIdx.x; i < k / 4; i += 32) sum = __dp4a(row[i], reinterpret_cast<const int*>(x)[i], sum);
    sum = __reduce_add_sync(~0u, sum);
    if (threadIdx.x == 0) y[blockIdx.x] = sum;
}

__global__ void bytes(const unsigned char* x, unsigned char* y) // neighbours in one word, written by different threads
{
    __shared__ unsigned char s[128];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = s[127 - threadIdx.x];
}

__global__ void maxPool(const float* x, float* y, int height, int width)
{
    int const c = blockIdx.x * blockDim.x + threadIdx.x, r = blockIdx.y * blockDim.y + threadIdx.y;
    if (r >= height / 2 || c >= width / 2) return;
    float2 const a = *reinterpret_cast<const float2*>(x + 2 * r * width + 2 * c),
                 b = *reinterpret_cast<const float2*>(x + (2 * r + 1) * width + 2 * c);
    y[r * (width / 2) + c] = fmaxf(fmaxf(a.x, a.y), fmaxf(b.x, b.y));
}

__global__ void fill(float* x, float v, int n) { if (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n) x[i] = v; }
__global__ void addTo(const float* x, float* y, int n)
{
    if (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n) y[i] += x[i];
}

__global__ void lockedSum(const int* x, int* lock, int* sum)        // one thread of a block at a time
{
    while (atomicCAS(lock, 0, 1) != 0) {}
    __threadfence();
    *sum += x[blockIdx.x * blockDim.x + threadIdx.x];
    __threadfence();
    atomicExch(lock, 0);
}

extern "C" {
int launchGemm(const float* a, const float* b, float* c, int m, int n, int k)
{
    gemm<<<dim3((n + T - 1) / T, (m + T - 1) / T), dim3(T, T)>>>(a, b, c, m, n, k);
    return cudaGetLastError();
}
int launchGemmHalf(const void* a, const void* b, void* c, int m, int n, int k)
{
    dim3 const block(T, T), grid((n + T - 1) / T, (m + T - 1) / T);
    gemmHalf<<<grid, block>>>(static_cast<const __half*>(a), static_cast<const __half*>(b), static_cast<__half*>(c), m,
                              n, k);
    return cudaGetLastError();
}
int launchTranspose(const float* x, float* y, int rows, int cols)
{
    transpose<<<dim3((cols + 31) / 32, (rows + 31) / 32), dim3(32, 8)>>>(x, y, rows, cols);
    return cudaGetLastError();
}
int launchStencil(const float* x, float* y, int n)
{
    const float w[5] = {1, 2, 4, 2, 1};
    cudaMemcpyToSymbol(weights, w, sizeof w);
    stencil<<<(n + 127) / 128, 128>>>(x, y, n);
    return cudaGetLastError();
}
int launchAttention(const float* q, const float* k, const float* v, float* o, int heads, int len)
{
    size_t const bytes = (BR + 2 * BC) * (D + 4) * sizeof(float);
    attention<<<dim3((len + BR - 1) / BR, heads), BR * 8, bytes>>>(q, k, v, o, len, 0.17677669f);
    return cudaGetLastError();
}
int launchBitonic(int* x) { bitonic<<<1, 256>>>(x); return cudaGetLastError(); }
int launchGemv8(const signed char* w, const signed char* x, int* y, int n, int k)
{
    gemv8<<<n, 32>>>(w, x, y, k);
    return cudaGetLastError();
}
int launchBytes(const unsigned char* x, unsigned char* y) { bytes<<<1, 128>>>(x, y); return cudaGetLastError(); }
int launchMaxPool(const float* x, float* y, int height, int width)
{
    maxPool<<<dim3((width / 2 + 15) / 16, (height / 2 + 3) / 4), dim3(16, 4)>>>(x, y, height, width);
    return cudaGetLastError();
}
int launchTwoStreams(const float* x, float* y, int n)
{
    cudaStream_t a, b; cudaEvent_t ready;
    cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&ready, cudaEventDisableTiming);
    int const grid = (n + 63) / 64;
    fill<<<grid, 64, 0, a>>>(y, 2.f, n);
    cudaEventRecord(ready, a);
    cudaStreamWaitEvent(b, ready, 0);
    addTo<<<grid, 64, 0, b>>>(x, y, n);
    cudaStreamSynchronize(b);
    addTo<<<grid, 64, 0, a>>>(x, y, n);
    cudaDeviceSynchronize();
    cudaEventDestroy(ready); cudaStreamDestroy(a); cudaStreamDestroy(b);
    return cudaGetLastError();
}
int launchLockedSum(const int* x, int* sum, int blocks)
{
    int* lock;
    cudaMalloc(&lock, sizeof(int));
    cudaMemset(lock, 0, sizeof(int));
    cudaMemset(sum, 0, sizeof(int));
    lockedSum<<<blocks, 32>>>(x, lock, sum);
    cudaFree(lock);
    return cudaGetLastError();
}
}
