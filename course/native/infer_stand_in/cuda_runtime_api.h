// A stand-in for CUDA's runtime, for examining cpp/infer.cpp without a GPU. Nothing here is NVIDIA's.
//
// It is as late as the real thing may be: whatever was put on a stream is done when somebody waits for it, in order, and
// not before. Memory is full of NaN until something was copied there. "fail=..." in the plan makes one call fail.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorIllegalAddress = 700, cudaErrorUnknown = 999 };
enum cudaMemcpyKind { cudaMemcpyHostToHost, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice, cudaMemcpyDefault };
constexpr unsigned cudaStreamNonBlocking = 1;
struct CUstream_st { std::vector<std::function<cudaError_t()>> queue; };
struct CUevent_st {};
using cudaStream_t = CUstream_st*;
using cudaEvent_t = CUevent_st*;

namespace stand_in {
inline std::map<char*, std::size_t> on_gpu, locked;   // begin -> bytes
inline std::string fail;                              // the call that fails, from the plan
inline cudaStream_t default_stream() { static CUstream_st stream; return &stream; }
inline bool inside(const std::map<char*, std::size_t>& known, const void* place, std::size_t bytes) {
    auto* begin = static_cast<char*>(const_cast<void*>(place));
    auto next = known.upper_bound(begin);
    return next != known.begin() && begin + bytes <= std::prev(next)->first + std::prev(next)->second;
}
// Whether the memory is there still: work that nobody waited for may come when its owner has given it back.
inline bool alive(const void* place, std::size_t bytes) { return inside(on_gpu, place, bytes) || inside(locked, place, bytes); }
inline void* filled(std::map<char*, std::size_t>& known, std::size_t bytes) {
    const std::size_t count = bytes / sizeof(float) + 1;
    auto* memory = static_cast<float*>(std::malloc(count * sizeof(float)));
    for (std::size_t i = 0; i < count; ++i) memory[i] = std::numeric_limits<float>::quiet_NaN();
    known[reinterpret_cast<char*>(memory)] = bytes;
    return memory;
}
inline cudaError_t forget(std::map<char*, std::size_t>& known, void* memory) {
    if (!known.erase(static_cast<char*>(memory))) return cudaErrorInvalidValue;
    std::free(memory);
    return cudaSuccess;
}
inline cudaError_t drain(cudaStream_t stream) {
    cudaError_t first = cudaSuccess;
    for (auto& work : stream->queue)
        if (const cudaError_t status = work(); first == cudaSuccess) first = status;
    stream->queue.clear();
    return first;
}
}  // namespace stand_in

inline const char* cudaGetErrorString(cudaError_t status) {
    return status == cudaSuccess ? "no error" : status == cudaErrorInvalidValue ? "invalid argument" :
           status == cudaErrorIllegalAddress ? "an illegal memory access was encountered" : "unknown error";
}
inline cudaError_t cudaGetDeviceCount(int* count) { *count = 1; return cudaSuccess; }
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { *stream = new CUstream_st; return cudaSuccess; }
inline cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) { stand_in::drain(stream); delete stream; return cudaSuccess; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    const cudaError_t status = stand_in::drain(stream ? stream : stand_in::default_stream());
    return stand_in::fail == "cudaStreamSynchronize" ? cudaErrorIllegalAddress : status;
}
inline cudaError_t cudaEventCreate(cudaEvent_t* event) { *event = new CUevent_st; return cudaSuccess; }
inline cudaError_t cudaEventDestroy(cudaEvent_t event) { delete event; return cudaSuccess; }
inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaErrorUnknown; }  // there is no clock here
inline cudaError_t cudaEventElapsedTime(float*, cudaEvent_t, cudaEvent_t) { return cudaErrorUnknown; }
inline cudaError_t cudaMallocAsync(void** memory, std::size_t bytes, cudaStream_t) { *memory = stand_in::filled(stand_in::on_gpu, bytes); return cudaSuccess; }
inline cudaError_t cudaMallocHost(void** memory, std::size_t bytes) { *memory = stand_in::filled(stand_in::locked, bytes); return cudaSuccess; }
inline cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream) {
    stream->queue.push_back([=] { return stand_in::forget(stand_in::on_gpu, memory); });
    return cudaSuccess;
}
inline cudaError_t cudaFreeHost(void* memory) { return stand_in::forget(stand_in::locked, memory); }
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream = nullptr) {
    const bool up = stand_in::inside(stand_in::on_gpu, to, bytes), down = stand_in::inside(stand_in::on_gpu, from, bytes);
    const bool host_to = stand_in::inside(stand_in::locked, to, bytes), host_from = stand_in::inside(stand_in::locked, from, bytes);
    if (stand_in::fail == "cudaMemcpyAsync" || !((up && host_from) || (down && host_to) || (up && down))) return cudaErrorInvalidValue;
    if ((kind == cudaMemcpyHostToDevice && !(up && host_from)) || (kind == cudaMemcpyDeviceToHost && !(down && host_to))) return cudaErrorInvalidValue;
    (stream ? stream : stand_in::default_stream())->queue.push_back([=] {
        if (!stand_in::alive(to, bytes) || !stand_in::alive(from, bytes)) return cudaErrorIllegalAddress;
        std::memcpy(to, from, bytes);
        return cudaSuccess;
    });
    return cudaSuccess;
}
inline cudaError_t cudaDeviceSynchronize() { return stand_in::drain(stand_in::default_stream()); }
