// In front of the learner's file: CUDA C++ as C++17 for one CPU thread.
//
// NVIDIA's own host headers give float4, dim3, __half, cudaError_t ...; this adds the device language. Words that need
// more than a declaration (__global__, __shared__, <<<>>>, __syncthreads ...) are left as they are: course/kernels/
// rewrite.py turns them into C++ after the preprocessor.
//
// Of the standard library's headers only those that this needs: <algorithm>, <functional> and <string> are most of what a
// kernel's compilation would read, and a file that uses them includes them for nvcc, too.
#pragma once
#define __DEVICE_LAUNCH_PARAMETERS_H__                   // ours are constant within a thread, see below
#include <cuda_runtime.h>
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include <math_constants.h>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>
#include "where.h"

extern "C" {  // written by the scheduler at every switch, constant within a thread
extern const uint3 threadIdx, blockIdx;
extern const uint3 blockDim, gridDim;  // dim3 under nvcc; it has a constructor, which hides the constness from GCC
}
constexpr int warpSize = 32;
using std::isfinite;
using std::isinf;
using std::isnan;

#include "sync.h"
#include "atomics.h"
#include "device_math.h"
#include "device_half.h"
#include "launch.h"

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __managed__
#undef __forceinline__
#undef __noinline__
#undef __launch_bounds__
#undef __grid_constant__
#undef __maxnreg__
#undef __cluster_dims__
#undef __block_size__
#define __CUDACC__ 1
#define __NVCC__ 1
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0
#define __CUDACC_VER_BUILD__ 0
#define __CUDA_ARCH__ 800
#define __CUDA_ARCH_LIST__ 800
