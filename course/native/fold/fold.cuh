// The launcher, as both sides see it.
#pragma once
#include <cuda_runtime_api.h>

// Patches x [planes * kernel * kernel, h, w] are added up to y [planes, height, width] with height = (h - 1) * stride + kernel
// - 2 * padding, and width in the same way. planes: batch times channels. half: the elements are __half and not float.
// Returns a cudaError_t.
extern "C" int launchFold(const void* x, void* y, int planes, int h, int w, int kernel, int stride, int padding, bool half,
                          cudaStream_t stream);
