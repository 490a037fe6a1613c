// The part of the CUDA runtime API that a launcher needs. What is not here fails when the file is linked, by name.
#include "state.h"
#include <algorithm>
#include <cstdlib>
#include <cstring>

using namespace cucpu;
namespace cucpu {
static std::map<const void*, size_t> dynamicLimits;
static size_t anyLimit = kDefaultShared;                // for launches whose kernel has no address (deduced templates)
size_t dynamicLimit(const void* function)
{
    if (!function) return anyLimit;
    auto found = dynamicLimits.find(function);
    return found == dynamicLimits.end() ? kDefaultShared : found->second;
}
static cudaError_t failed(cudaError_t error) { R.error = error; return error; }
static int allocations = 0;
} // namespace cucpu

#pragma GCC visibility push(default)                    // a plugin's class calls them, too
extern "C" {
cudaError_t cudaGetLastError() { cudaError_t error = R.error; R.error = R.sticky; return error; }
cudaError_t cudaPeekAtLastError() { return R.error; }
const char* cudaGetErrorName(cudaError_t error)
{
    switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
    case cudaErrorMisalignedAddress: return "cudaErrorMisalignedAddress";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    case cudaErrorAssert: return "cudaErrorAssert";
    case cudaErrorNotSupported: return "cudaErrorNotSupported";
    default: return "cudaErrorUnknown";
    }
}
const char* cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    case cudaErrorMisalignedAddress: return "misaligned address";
    case cudaErrorLaunchFailure: return "unspecified launch failure";
    case cudaErrorAssert: return "device-side assert triggered";
    case cudaErrorNotSupported: return "operation not supported";
    default: return "unknown error";
    }
}

cudaError_t cudaMalloc(void** pointer, size_t bytes)
{
    note("cudaMalloc");
    if (bytes > (size_t(2) << 30)) return failed(cudaErrorMemoryAllocation);
    Region* region = allocate(("cudaMalloc number " + std::to_string(++allocations)).c_str(), bytes);
    if (!region) return failed(cudaErrorMemoryAllocation);
    resetCells(*region);
    *pointer = reinterpret_cast<void*>(region->base);
    return R.sticky;
}
cudaError_t cudaFree(void* pointer)
{
    note("cudaFree");
    if (!pointer) return R.sticky;
    Region* region = uptr(pointer) - arena < kArenaBytes ? findGlobal(uptr(pointer)) : nullptr;
    if (!region || region->base != uptr(pointer) || region->freed) {
        if (firstTime("free"))
            add(Json()
                    .str("kind", "invalid-free")
                    .str("buffer", region ? region->name : "")
                    .num("freed", region && region->freed)
                    .end());
        return failed(cudaErrorInvalidValue);
    }
    region->freed = true;                               // its addresses are never given out again
    return R.sticky;
}
cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t) { return cudaMalloc(pointer, bytes); }
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t) { return cudaFree(pointer); }
cudaError_t cudaMallocHost(void** pointer, size_t bytes) { note("cudaMallocHost"); *pointer = std::malloc(bytes); return R.sticky; }
cudaError_t cudaFreeHost(void* pointer) { std::free(pointer); return R.sticky; }

static cudaError_t set(void* pointer, int value, size_t bytes)
{
    if (!hostRange(pointer, bytes, "cudaMemset", true)) return failed(cudaErrorInvalidValue);
    std::memset(pointer, value, bytes);
    hostWrote(uptr(pointer), bytes);
    return R.sticky;
}
cudaError_t cudaMemset(void* pointer, int value, size_t bytes)
{ note("cudaMemset"); return set(pointer, value, bytes); }
cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t stream)
{ note("cudaMemsetAsync", stream); return set(pointer, value, bytes); }
static cudaError_t copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind)
{
    bool toDevice = isDevice(uptr(to)), fromDevice = isDevice(uptr(from));
    bool wrong = kind != cudaMemcpyDefault
                 && (toDevice != (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice)
                     || fromDevice != (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice));
    if (wrong && firstTime("direction"))
        add(Json().str("kind", "copy-direction").num("to_device", toDevice).num("from_device", fromDevice).end());
    if (wrong || !hostRange(to, bytes, "cudaMemcpy", true) || !hostRange(from, bytes, "cudaMemcpy", false))
        return failed(cudaErrorInvalidValue);
    std::memmove(to, from, bytes);
    if (toDevice) hostWrote(uptr(to), bytes);
    return R.sticky;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind)
{ note("cudaMemcpy"); return copy(to, from, bytes, kind); }
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{ note("cudaMemcpyAsync", stream); return copy(to, from, bytes, kind); }
cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* from, size_t bytes, size_t offset, cudaMemcpyKind kind)
{
    note("cudaMemcpyToSymbol");
    return copy(const_cast<char*>(static_cast<const char*>(symbol)) + offset, from, bytes, kind);
}
cudaError_t cudaMemcpyToSymbolAsync(const void* symbol, const void* from, size_t bytes, size_t offset,
                                    cudaMemcpyKind kind, cudaStream_t stream)
{
    note("cudaMemcpyToSymbolAsync", stream);
    return copy(const_cast<char*>(static_cast<const char*>(symbol)) + offset, from, bytes, kind);
}
cudaError_t cudaMemcpyFromSymbol(void* to, const void* symbol, size_t bytes, size_t offset, cudaMemcpyKind kind)
{
    note("cudaMemcpyFromSymbol");
    return copy(to, static_cast<const char*>(symbol) + offset, bytes, kind);
}
cudaError_t cudaGetSymbolAddress(void** pointer, const void* symbol)
{
    *pointer = const_cast<void*>(symbol);
    return R.sticky;
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value)
{
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return R.sticky;
    if (value < 0 || size_t(value) > R.sharedLimit) return failed(cudaErrorInvalidValue);
    dynamicLimits[function] = size_t(value);
    anyLimit = std::max(anyLimit, size_t(value));
    return R.sticky;
}
cudaError_t cudaFuncSetCacheConfig(const void*, cudaFuncCache) { return R.sticky; }
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function)
{
    *attributes = {};
    attributes->maxThreadsPerBlock = kMaxThreads;
    attributes->maxDynamicSharedSizeBytes = int(dynamicLimit(function));
    return R.sticky;
}
cudaError_t cudaGetDevice(int* device) { *device = 0; return R.sticky; }
cudaError_t cudaSetDevice(int device) { return device ? failed(cudaErrorInvalidValue) : R.sticky; }
cudaError_t cudaGetDeviceCount(int* count) { *count = 1; return R.sticky; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int)
{
    *properties = {};
    std::strcpy(properties->name, "simulated GPU");
    properties->major = 8;
    properties->multiProcessorCount = 16;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = kMaxThreads;
    properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = kMaxThreads;
    properties->maxThreadsDim[2] = 64;
    properties->maxGridSize[0] = 0x7fffffff;
    properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
    properties->sharedMemPerBlock = kDefaultShared;
    properties->sharedMemPerBlockOptin = properties->sharedMemPerMultiprocessor = R.sharedLimit;
    properties->regsPerBlock = 65536;
    return R.sticky;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int)
{
    switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = 16; break;
    case cudaDevAttrWarpSize: *value = 32; break;
    case cudaDevAttrMaxThreadsPerBlock: *value = kMaxThreads; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = int(kDefaultShared); break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = int(R.sharedLimit); break;
    case cudaDevAttrComputeCapabilityMajor: *value = 8; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
    default: *value = 0; return failed(cudaErrorNotSupported);
    }
    return R.sticky;
}
}
#pragma GCC visibility pop
