// Here all names that a plugin needs stand in NvInferRuntime.h.
#pragma once
#include "NvInferRuntime.h"
