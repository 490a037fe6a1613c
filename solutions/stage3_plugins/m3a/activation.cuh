// The launcher of the kernels, as activation.cu and activation_plugin.cpp see it. Leave it as it is.
#pragma once
#include <cstddef>
#include <cuda_runtime_api.h>

// y = x * tanh(softplus(beta * x)), softplus(z) = log(1 + exp(z)), for `count` elements; beta > 0.
// half: the elements of x and y are __half, else float. x and y are addresses on the device, multiples of 256.
// Returns a cudaError_t: 0 if all launches were accepted.
extern "C" int launchMish(const void* x, void* y, size_t count, float beta, bool half, cudaStream_t stream);
