// The launcher, as both sides see it.
#pragma once
#include <cstddef>
#include <cuda_runtime_api.h>

// y = x / (1 + exp(-beta x)); half: the elements are __half and not float. Returns a cudaError_t.
extern "C" int launchSwish(const void* x, void* y, size_t count, float beta, bool half, cudaStream_t stream);
