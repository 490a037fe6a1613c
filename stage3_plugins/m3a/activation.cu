// Kernels of CourseMish and their launcher, which activation.cuh declares. You hand this file in.
#include "activation.cuh"
#include <cuda_fp16.h>

// YOUR CODE HERE
