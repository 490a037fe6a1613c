// A planted bug that nvcc's assembler refuses, too: more than 48 kB of __shared__ variables.
#include <cuda_runtime.h>

__global__ void bigStatic(float* y)
{
    __shared__ float a[8192];
    __shared__ float b[8192];
    a[threadIdx.x] = b[threadIdx.x] = 1;
    y[threadIdx.x] = a[threadIdx.x] + b[threadIdx.x];
}

extern "C" int launchBigStatic(float* y) { bigStatic<<<1, 32>>>(y); return cudaGetLastError(); }  // bug: bigStatic
