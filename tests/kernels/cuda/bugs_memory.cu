// Planted bugs: addresses, alignment, values that nobody wrote. The comment `bug: name` marks the line to report.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

__global__ void readTail(const float* x, float* y, int n)
{
    int const i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i + 1] - x[i];                                          // bug: readTail
}
__global__ void writeTail(const float* x, float* y, int n)
{
    int const i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= n) y[i] = x[min(i, n - 1)];                                        // bug: writeTail
}
__global__ void readFront(const float* x, float* y, int n)
{
    int const i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = 0.5f * (x[i] + x[i - 1]);                                 // bug: readFront
}
__global__ void vectorTail(const float4* x, float4* y, int n)
{
    int const i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < (n + 3) / 4) y[i] = x[i];                                           // bug: vectorTail
}
__global__ void sharedIndex(const float* x, float* y)
{
    __shared__ float s[63];
    s[threadIdx.x] = x[threadIdx.x];                                            // bug: sharedIndex
    __syncthreads();
    y[threadIdx.x] = s[62 - threadIdx.x % 63];
}
__device__ void store(float* where, int i, float v) { where[i] = v; }           // bug: sharedPointer
__global__ void sharedPointer(const float* x, float* y)
{
    __shared__ float s[64];
    __shared__ float other[64];                                                 // on the GPU right behind s
    if (threadIdx.x == 0) s[0] = 0;
    other[threadIdx.x] = 0;
    __syncthreads();
    store(s, threadIdx.x + 1, x[threadIdx.x]);
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x] + other[threadIdx.x];
}
__global__ void dynamicTooSmall(const float* x, float* y)
{
    extern __shared__ float s[];
    s[threadIdx.x] = x[threadIdx.x];                                            // bug: dynamicTooSmall
    __syncthreads();
    y[threadIdx.x] = s[63 - threadIdx.x];
}
__global__ void dynamicForgotten(const float* x, float* y)
{
    extern __shared__ float s[];
    s[threadIdx.x] = x[threadIdx.x];                                            // bug: dynamicForgotten
    __syncthreads();
    y[threadIdx.x] = s[63 - threadIdx.x];
}
__global__ void misaligned4(const float* x, float* y)
{
    reinterpret_cast<float4*>(y)[threadIdx.x] =  // bug: misaligned4
        *reinterpret_cast<const float4*>(x + 1 + 4 * threadIdx.x);
}
__global__ void misalignedHalf2(const __half* x, __half2* y)
{
    y[threadIdx.x] = *reinterpret_cast<const __half2*>(x + 3 * threadIdx.x);    // bug: misalignedHalf2
}
__global__ void inputWritten(const float* x, float* y)
{
    const_cast<float*>(x)[threadIdx.x] = 0.f;                                   // bug: inputWritten
    y[threadIdx.x] = 1.f;
}
__global__ void nullPointer(const float* x, const float* bias, float* y)
{ y[threadIdx.x] = x[threadIdx.x] + bias[threadIdx.x]; } // bug: nullPointer
struct Table { float value[4]; };
__global__ void hostPointer(const Table* table, float* y)
{ y[threadIdx.x] = table->value[threadIdx.x % 4]; } // bug: hostPointer
__global__ void copy(const float* x, float* y, int n)
{
    if (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n) y[i] = x[i];  // bug: useAfterFree
}
__constant__ float filter[3] = {1, 2, 1};
__global__ void constantIndex(const float* x, float* y)
{
    float s = 0;
    for (int k = 0; k <= 3; ++k) s += filter[k] * x[threadIdx.x];               // bug: constantIndex
    y[threadIdx.x] = s;
}
__device__ int counters[8];
__global__ void deviceIndex(const int* x, int* y)
{
    int* c = counters;
    atomicAdd(c + x[threadIdx.x], 1);                                           // bug: deviceIndex
    y[threadIdx.x] = 0;
}
__global__ void localIndex(const float* x, float* y)
{
    float part[4] = {};
    for (int k = 0; k < 5; ++k) part[k] += x[threadIdx.x + k];                  // bug: localIndex
    y[threadIdx.x] = part[0] + part[1] + part[2] + part[3];
}
__global__ void int32Overflow(const float* x, float* y, int rows, int cols)
{
    int const i = (blockIdx.x * 46341 + threadIdx.x) * 46341;  // larger than 2^31 from the second block on
    y[blockIdx.x * blockDim.x + threadIdx.x] = x[i % rows];                     // bug: int32Overflow
}
__global__ void rowStride(const float* x, float* y, int rows, int cols)
{
    for (int c = threadIdx.x; c < cols; c += blockDim.x)
        y[blockIdx.x * cols + c] = x[blockIdx.x * (cols + 1) + c]; // bug: rowStride
}
__global__ void swappedSides(const float* x, float* y, int rows, int cols)
{
    int const c = blockIdx.x * blockDim.x + threadIdx.x, r = blockIdx.y * blockDim.y + threadIdx.y;
    if (r < cols && c < rows) y[r * cols + c] = x[r * cols + c];                // bug: swappedSides
}

// ---- values that nobody wrote
__global__ void sharedHalo(const float* x, float* y, int n)
{
    __shared__ float s[66];
    int const i = blockIdx.x * 64 + threadIdx.x;
    s[threadIdx.x + 1] = x[i];
    if (threadIdx.x == 0 && i > 0) s[0] = x[i - 1];
    if (threadIdx.x == 63 && i + 1 < n) s[65] = x[i + 1];
    __syncthreads();
    y[i] = s[threadIdx.x] + s[threadIdx.x + 1] + s[threadIdx.x + 2];            // bug: sharedHalo
}
__global__ void sharedTail(const float* x, float* y, int n)
{
    __shared__ float s[64];
    int const i = blockIdx.x * 64 + threadIdx.x;
    if (i < n) s[threadIdx.x] = x[i];
    __syncthreads();
    for (int o = 32; o; o >>= 1) {
        if (threadIdx.x < o) s[threadIdx.x] += s[threadIdx.x + o];  // bug: sharedTail
        __syncthreads();
    }
    if (threadIdx.x == 0) y[blockIdx.x] = s[0];
}
__global__ void accumulates(const float* x, float* y) { y[threadIdx.x] += x[threadIdx.x]; }  // bug: accumulates
__global__ void atomicOnNothing(const float* x, float* y) { atomicAdd(y, x[threadIdx.x]); }  // bug: atomicOnNothing
__global__ void firstHalf(float* workspace, const float* x)
{
    if (threadIdx.x < 32) workspace[threadIdx.x] = x[threadIdx.x];
}
__global__ void wholeOf(const float* workspace, float* y) { y[threadIdx.x] = workspace[threadIdx.x]; } // bug: workspace
__global__ void noTail(const float4* x, float4* y, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n / 4) y[i] = x[i];
}
__global__ void gridTooSmall(const float* x, float* y, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i];
}
__global__ void localAccumulator(const float* x, float* y, int n)
{
    float sum;                                                                  // bug: localAccumulator
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[i];
    y[threadIdx.x] = sum;
}

extern "C" {
int launchReadTail(const float* x, float* y, int n)
{
    readTail<<<(n + 63) / 64, 64>>>(x, y, n);
    return cudaGetLastError();
}
int launchWriteTail(const float* x, float* y, int n)
{
    writeTail<<<(n + 64) / 64, 64>>>(x, y, n);
    return cudaGetLastError();
}
int launchReadFront(const float* x, float* y, int n)
{
    readFront<<<(n + 63) / 64, 64>>>(x, y, n);
    return cudaGetLastError();
}
int launchVectorTail(const float* x, float* y, int n)
{
    vectorTail<<<(n + 255) / 256, 64>>>((const float4*)x, (float4*)y, n);
    return cudaGetLastError();
}
int launchSharedIndex(const float* x, float* y) { sharedIndex<<<1, 64>>>(x, y); return cudaGetLastError(); }
int launchSharedPointer(const float* x, float* y) { sharedPointer<<<1, 64>>>(x, y); return cudaGetLastError(); }
int launchDynamicTooSmall(const float* x, float* y) { dynamicTooSmall<<<1, 64, 64>>>(x, y); return cudaGetLastError(); }
int launchDynamicForgotten(const float* x, float* y) { dynamicForgotten<<<1, 64>>>(x, y); return cudaGetLastError(); }
int launchMisaligned4(const float* x, float* y) { misaligned4<<<1, 8>>>(x, y); return cudaGetLastError(); }
int launchMisalignedHalf2(const __half* x, __half* y)
{
    misalignedHalf2<<<1, 8>>>(x, (__half2*)y);
    return cudaGetLastError();
}
int launchInputWritten(const float* x, float* y) { inputWritten<<<1, 32>>>(x, y); return cudaGetLastError(); }
int launchNullPointer(const float* x, const float* bias, float* y)
{
    nullPointer<<<1, 32>>>(x, bias, y);
    return cudaGetLastError();
}
int launchHostPointer(float* y)
{
    Table table{{1, 2, 3, 4}};
    hostPointer<<<1, 32>>>(&table, y);
    return cudaGetLastError();
}
int launchUseAfterFree(const float* x, float* y, int n)
{
    float* temporary;
    cudaMalloc(&temporary, n * sizeof(float));
    cudaMemcpy(temporary, x, n * sizeof(float), cudaMemcpyDeviceToDevice);
    cudaFree(temporary);
    copy<<<1, 64>>>(temporary, y, n);
    return cudaGetLastError();
}
int launchConstantIndex(const float* x, float* y) { constantIndex<<<1, 32>>>(x, y); return cudaGetLastError(); }
int launchDeviceIndex(const int* x, int* y) { deviceIndex<<<1, 32>>>(x, y); return cudaGetLastError(); }
int launchLocalIndex(const float* x, float* y) { localIndex<<<1, 32>>>(x, y); return cudaGetLastError(); }
int launchInt32Overflow(const float* x, float* y, int rows)
{
    int32Overflow<<<2, 32>>>(x, y, rows, 1);
    return cudaGetLastError();
}
int launchRowStride(const float* x, float* y, int rows, int cols)
{
    rowStride<<<rows, 32>>>(x, y, rows, cols);
    return cudaGetLastError();
}
int launchSwappedSides(const float* x, float* y, int rows, int cols)
{
    swappedSides<<<dim3(4, 4), dim3(16, 16)>>>(x, y, rows, cols);
    return cudaGetLastError();
}
int launchCopyTooLong(const float* x, float* y, int n)
{ return cudaMemcpyAsync(y, x, (n + 1) * sizeof(float), cudaMemcpyDeviceToDevice); }
int launchHostReads(const float* x, float* y)
{
    float const first = x[0];                                                   // bug: hostReads
    cudaMemset(y, first > 0, 4);
    return 0;
}
int launchFreedTwice(float* y) { float* p; cudaMalloc(&p, 64); cudaFree(p); cudaFree(p); return cudaMemset(y, 0, 4); }
int launchLeak(float* y) { float* p; cudaMalloc(&p, 64); return cudaMemset(y, 0, 4); }
int launchDirection(const float* x, float* y)
{
    float host[4] = {};
    (void)x;
    return cudaMemcpy(y, host, sizeof host, cudaMemcpyDeviceToHost);
}
int launchSharedHalo(const float* x, float* y, int n)
{
    sharedHalo<<<n / 64, 64>>>(x, y, n);
    return cudaGetLastError();
}
int launchSharedTail(const float* x, float* y, int n)
{
    sharedTail<<<(n + 63) / 64, 64>>>(x, y, n);
    return cudaGetLastError();
}
int launchAccumulates(const float* x, float* y) { accumulates<<<1, 64>>>(x, y); return cudaGetLastError(); }
int launchAtomicOnNothing(const float* x, float* y) { atomicOnNothing<<<1, 64>>>(x, y); return cudaGetLastError(); }
int launchWorkspace(const float* x, float* y)
{
    float* workspace;
    cudaMalloc(&workspace, 64 * sizeof(float));
    firstHalf<<<1, 64>>>(workspace, x);
    wholeOf<<<1, 64>>>(workspace, y);
    cudaFree(workspace);
    return cudaGetLastError();
}
int launchNoTail(const float* x, float* y, int n)
{
    noTail<<<(n / 4 + 63) / 64, 64>>>((const float4*)x, (float4*)y, n);
    return cudaGetLastError();
}
int launchGridTooSmall(const float* x, float* y, int n)
{
    gridTooSmall<<<n / 64, 64>>>(x, y, n);
    return cudaGetLastError();
}
int launchLocalAccumulator(const float* x, float* y, int n)
{
    localAccumulator<<<1, 32>>>(x, y, n);
    return cudaGetLastError();
}
}
