// TensorRT's own plugins: their registration, by its name.
#pragma once
#include "NvInfer.h"
extern "C" TENSORRTAPI bool initLibNvInferPlugins(void* logger, char const* libNamespace);
