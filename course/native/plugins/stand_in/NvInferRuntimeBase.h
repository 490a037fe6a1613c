// Types that everything else uses: data types, dimensions, error codes, the logger.
#pragma once
#include "NvInferVersion.h"
#include <cstddef>
#include <cstdint>
#include <cuda_runtime_api.h>

#define TENSORRTAPI __attribute__((visibility("default")))
#if NV_TENSORRT_MAJOR >= 10  // 8.6.1 is 8601, 10.16.1 is 101601
#define NV_TENSORRT_VERSION (NV_TENSORRT_MAJOR * 10000L + NV_TENSORRT_MINOR * 100L + NV_TENSORRT_PATCH)
#else
#define NV_TENSORRT_VERSION (NV_TENSORRT_MAJOR * 1000 + NV_TENSORRT_MINOR * 100 + NV_TENSORRT_PATCH)
#endif

extern "C" {
struct cublasContext;
struct cudnnContext;
}

namespace nvinfer1 {
using char_t = char;
using AsciiChar = char_t;

enum class DataType : int32_t {
    kFLOAT = 0, kHALF = 1, kINT8 = 2, kINT32 = 3, kBOOL = 4, kUINT8 = 5, kFP8 = 6,
#if NV_TENSORRT_MAJOR >= 10
    kBF16 = 7, kINT64 = 8, kINT4 = 9, kFP4 = 10, kE8M0 = 11,
#endif
};
enum class TensorFormat : int32_t {
    kLINEAR = 0, kCHW2 = 1, kHWC8 = 2, kCHW4 = 3, kCHW16 = 4, kCHW32 = 5, kDHWC8 = 6, kCDHW32 = 7, kHWC = 8,
    kDLA_LINEAR = 9, kDLA_HWC4 = 10, kHWC16 = 11, kDHWC = 12,
};
using PluginFormat = TensorFormat;

#if NV_TENSORRT_MAJOR >= 10
using DimsValue = int64_t;
class Dims64 {
#else
using DimsValue = int32_t;
class Dims32 {
#endif
public:
    static constexpr int32_t MAX_DIMS{8};
    int32_t nbDims;
    DimsValue d[MAX_DIMS];
};
#if NV_TENSORRT_MAJOR >= 10
using Dims = Dims64;
#else
using Dims = Dims32;
#endif

enum class ErrorCode : int32_t {
    kSUCCESS = 0, kUNSPECIFIED_ERROR = 1, kINTERNAL_ERROR = 2, kINVALID_ARGUMENT = 3, kINVALID_CONFIG = 4,
    kFAILED_ALLOCATION = 5, kFAILED_INITIALIZATION = 6, kFAILED_EXECUTION = 7, kFAILED_COMPUTATION = 8,
    kINVALID_STATE = 9, kUNSUPPORTED_STATE = 10,
};

#if NV_TENSORRT_MAJOR >= 10
enum class APILanguage : int32_t { kCPP = 0, kPYTHON = 1 };
using InterfaceKind = char const*;
class InterfaceInfo {
public:
    InterfaceKind kind;
    int32_t major;
    int32_t minor;
};
class IVersionedInterface {
public:
    virtual APILanguage getAPILanguage() const noexcept { return APILanguage::kCPP; }
    virtual InterfaceInfo getInterfaceInfo() const noexcept = 0;
    virtual ~IVersionedInterface() noexcept = default;
protected:
    IVersionedInterface() = default;
    IVersionedInterface(IVersionedInterface const&) = default;
    IVersionedInterface& operator=(IVersionedInterface const&) & = default;
};
#endif

class IGpuAllocator;
class IErrorRecorder;
class ILogger {
public:
    enum class Severity : int32_t { kINTERNAL_ERROR = 0, kERROR = 1, kWARNING = 2, kINFO = 3, kVERBOSE = 4 };
    virtual void log(Severity severity, AsciiChar const* msg) noexcept = 0;
    virtual ~ILogger() = default;
};
class ILoggerFinder {
public:
    virtual ILogger* findLogger() = 0;
protected:
    virtual ~ILoggerFinder() = default;
};
} // namespace nvinfer1
