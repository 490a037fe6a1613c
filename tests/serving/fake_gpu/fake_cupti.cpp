// The two functions of CUPTI that launch_counts.cpp calls, and one by which a test launches.
#include <cstdint>

using Callback = void (*)(void*, int, uint32_t, const void*);
static Callback callback = nullptr;
static bool enabled[1024] = {};

extern "C" int cuptiSubscribe(void** subscriber, Callback given, void*) {
    if (callback) return 39;  // CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED
    callback = given;
    *subscriber = &callback;
    return 0;
}

extern "C" int cuptiEnableCallback(uint32_t on, void* subscriber, int domain, uint32_t id) {
    if (subscriber != &callback || domain != 1 || id >= 1024) return 1;
    enabled[id] = on;
    return 0;
}

extern "C" void fake_launch(uint32_t id) {
    if (!callback || !enabled[id]) return;
    for (int site = 0; site < 2; ++site) callback(nullptr, 1, id, &site);  // entered, then left
}
