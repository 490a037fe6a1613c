// CourseMish, version "1": one input, one output of the same shape and type, the attribute beta (FLOAT32, 1 if not given).
// FP32 and FP16, plain layout (kLINEAR). You hand this file in.
#include "activation.cuh"
#include <NvInfer.h>
#include <cstring>
#include <new>
#include <string>
using namespace nvinfer1;

class Mish : public IPluginV2DynamicExt
{
    // YOUR CODE HERE
};

class MishCreator : public IPluginCreator
{
    // YOUR CODE HERE
};
REGISTER_TENSORRT_PLUGIN(MishCreator);
