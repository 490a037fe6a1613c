// The two functions of CUPTI that launch_counts.cpp calls, and one by which a test calls CUDA.
#include <cstdint>

using Callback = void (*)(void*, int, uint32_t, const void*);
static Callback callback = nullptr;
static bool enabled[8] = {};

extern "C" int cuptiSubscribe(void** subscriber, Callback given, void*) {
    if (callback) return 39;  // CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED
    callback = given;
    *subscriber = &callback;
    return 0;
}

extern "C" int cuptiEnableDomain(uint32_t on, void* subscriber, int domain) {
    if (subscriber != &callback || domain < 1 || domain > 2) return 1;  // CUPTI_ERROR_INVALID_PARAMETER
    enabled[domain] = on;
    return 0;
}

// A call of the runtime's, within which one of the driver's may lie, or of the driver's alone: names, or null.
extern "C" void fake_call(const char* runtime, const char* driver) {
    struct {
        int site;
        const char* name;
    } calls[] = {{0, runtime}, {0, driver}, {1, driver}, {1, runtime}};
    const int domains[] = {2, 1, 1, 2};
    for (int index = 0; index < 4; ++index)
        if (callback && calls[index].name && enabled[domains[index]]) callback(nullptr, domains[index], 0, &calls[index]);
}
