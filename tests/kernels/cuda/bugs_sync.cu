// Planted bugs: barriers, masks, launches, endless loops. The comment `bug: name` marks the line that must be reported.
#include <cuda_runtime.h>
#include <cassert>

__global__ void barrierInIf(const float* x, float* y)
{
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    if (threadIdx.x < 40)
    {
        __syncthreads();                                                        // bug: barrierInIf
        y[threadIdx.x] = s[39 - threadIdx.x];
    }
    else y[threadIdx.x] = 0;
}
__global__ void barrierInBoth(float* y)
{
    if (threadIdx.x % 2) { y[threadIdx.x] = 1; __syncthreads(); }               // bug: barrierInBoth
    else { y[threadIdx.x] = 2; __syncthreads(); }
}
__global__ void earlyReturn(const float* x, float* y, int n)
{
    __shared__ float s[64];
    int const i = blockIdx.x * 64 + threadIdx.x;
    if (i >= n) return;
    s[threadIdx.x] = x[i];
    __syncthreads();                                                            // bug: earlyReturn
    y[i] = s[threadIdx.x ^ 1];
}
__global__ void tripCounts(const float* x, float* y, int n)
{
    __shared__ float s[64];
    float sum = 0;
    for (int i = threadIdx.x; i < n; i += 64)
    {
        s[threadIdx.x] = x[i];
        __syncthreads();                                                        // bug: tripCounts
        sum += s[0];
        __syncthreads();
    }
    y[threadIdx.x] = sum;
}
__global__ void shuffleInIf(const float* x, float* y)
{
    float v = x[threadIdx.x];
    if (threadIdx.x < 16) v += __shfl_down_sync(0xffffffffu, v, 1);             // bug: shuffleInIf
    __syncwarp();
    y[threadIdx.x] = v;
}
__global__ void partialWarp(const float* x, float* y, int n)
{
    if (threadIdx.x >= n) return;
    float v = x[threadIdx.x];
    for (int o = 16; o; o >>= 1) v += __shfl_down_sync(0xffffffffu, v, o);      // bug: partialWarp
    if (threadIdx.x == 0) *y = v;
}
__global__ void smallBlock(const float* x, float* y)  // 20 threads, but shuffles as if there were 32
{
    float v = x[threadIdx.x];
    for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);       // bug: smallBlock
    if (threadIdx.x == 0) *y = v;
}
__global__ void wrongMask(const float* x, float* y)
{
    y[threadIdx.x] = __shfl_sync(0x0000ffffu, x[threadIdx.x], 0);               // bug: wrongMask
}
__global__ void laneOutsideMask(const float* x, float* y)
{
    if (threadIdx.x < 16) y[threadIdx.x] = __shfl_sync(0x0000ffffu, x[threadIdx.x], 20);  // bug: laneOutsideMask
}
__global__ void twoSites(const float* x, float* y)                              // the halves meet at different calls
{
    float v = x[threadIdx.x];
    if (threadIdx.x < 16) v = __shfl_xor_sync(~0u, v, 1);                       // bug: twoSites
    else v = __shfl_xor_sync(~0u, v, 2);
    y[threadIdx.x] = v;
}
__global__ void fill(float* y) { y[blockIdx.x * blockDim.x + threadIdx.x] = 1; }
__global__ void useDynamic(float* y)
{
    extern __shared__ float s[];
    s[threadIdx.x] = 1;
    y[threadIdx.x] = s[threadIdx.x];
}
__global__ void __launch_bounds__(128) bounded(float* y) { y[threadIdx.x] = 1; }
__global__ void endless(float* y, int step)
{
    float v = 0;
    for (int i = 0; i != 100; i += step) v += y[0];  // bug: endless
    y[threadIdx.x] = v;
}
__global__ void asserts(const float* x, float* y)
{
    assert(x[threadIdx.x] >= 0.f);  // bug: asserts
    y[threadIdx.x] = sqrtf(x[threadIdx.x]);
}
__global__ void divides(const int* x, int* y, int d) { y[threadIdx.x] = x[threadIdx.x] / d; }  // bug: divides
__global__ void gridBarrier(volatile int* counter, float* y)  // waits for blocks that may never run beside it
{
    atomicAdd(const_cast<int*>(counter), 1);
    while (*counter < gridDim.x) {}                                             // bug: gridBarrier
    y[blockIdx.x] = 1;
}

extern "C" {
int launchBarrierInIf(const float* x, float* y) { barrierInIf<<<1, 64>>>(x, y); return cudaGetLastError(); }
int launchBarrierInBoth(float* y) { barrierInBoth<<<1, 64>>>(y); return cudaGetLastError(); }
int launchEarlyReturn(const float* x, float* y, int n)
{
    earlyReturn<<<(n + 63) / 64, 64>>>(x, y, n);
    return cudaGetLastError();
}
int launchTripCounts(const float* x, float* y, int n) { tripCounts<<<1, 64>>>(x, y, n); return cudaGetLastError(); }
int launchShuffleInIf(const float* x, float* y) { shuffleInIf<<<1, 32>>>(x, y); return cudaGetLastError(); }
int launchPartialWarp(const float* x, float* y, int n) { partialWarp<<<1, 32>>>(x, y, n); return cudaGetLastError(); }
int launchSmallBlock(const float* x, float* y) { smallBlock<<<1, 20>>>(x, y); return cudaGetLastError(); }
int launchWrongMask(const float* x, float* y) { wrongMask<<<1, 32>>>(x, y); return cudaGetLastError(); }
int launchLaneOutsideMask(const float* x, float* y) { laneOutsideMask<<<1, 32>>>(x, y); return cudaGetLastError(); }
int launchTwoSites(const float* x, float* y) { twoSites<<<1, 32>>>(x, y); return cudaGetLastError(); }
int launchTooManyThreads(float* y) { fill<<<1, 2048>>>(y); return cudaGetLastError(); }  // bug: tooManyThreads
int launchEmptyGrid(float* y, int n) { fill<<<n / 64, 64>>>(y); return cudaGetLastError(); }  // bug: emptyGrid
int launchGridY(float* y) { fill<<<dim3(1, 70000), 1>>>(y); return cudaGetLastError(); }                // bug: gridY
int launchNoAttribute(float* y) { useDynamic<<<1, 32, 60000>>>(y); return cudaGetLastError(); }  // bug: noAttribute
int launchMoreThanTheGpuHas(float* y)
{
    cudaFuncSetAttribute(useDynamic, cudaFuncAttributeMaxDynamicSharedMemorySize, 200 << 10);
    useDynamic<<<1, 32, 200 << 10>>>(y);  // bug: moreThanTheGpuHas
    return cudaGetLastError();
}
int launchBounded(float* y) { bounded<<<1, 256>>>(y); return cudaGetLastError(); }                      // bug: bounded
int launchEndless(float* y, int step) { endless<<<1, 32>>>(y, step); return cudaGetLastError(); }
int launchAsserts(const float* x, float* y) { asserts<<<1, 32>>>(x, y); return cudaGetLastError(); }
int launchDivides(const int* x, int* y, int d) { divides<<<1, 32>>>(x, y, d); return cudaGetLastError(); }
int launchGridBarrier(float* y)
{
    int* counter;
    cudaMalloc(&counter, 4); cudaMemset(counter, 0, 4);
    gridBarrier<<<4, 1>>>(counter, y);
    cudaFree(counter);
    return cudaGetLastError();
}
}
