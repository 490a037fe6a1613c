// Counts what a process asks the GPU to run: launches of CUDA graphs, and launches of kernels one by one.
//
// CUDA's driver loads this library into each process whose CUDA_INJECTION64_PATH names it, when the process first calls
// cuInit, and calls InitializeInjection. CUPTI then calls `seen` at each call of CUDA's runtime and driver, whoever makes it:
// TensorRT, PyTorch, a library. The counts lie in a file of LAUNCH_COUNTS_FOLDER, one for each process, which is mapped:
// they are there at once, and stay when the process dies.
//
// Both interfaces are watched, because TensorRT and PyTorch launch by the runtime, others by the driver, and not every launch of
// the runtime shows as one of the driver. Where it does, it lies within the runtime's call and is not counted again.
//
// CUPTI (LAUNCH_COUNTS_CUPTI) is opened at run time, and the little of it that is needed is written out here, so that neither
// its headers nor CUDA's are needed to compile this, and any version of it will do. Calls are known by their names.
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <initializer_list>
#include <sys/mman.h>
#include <unistd.h>

namespace {

constexpr int DRIVER_API = 1, RUNTIME_API = 2;  // CUPTI_CB_DOMAIN_...
constexpr int ENTER = 0;                        // CUPTI_API_ENTER; 1 is CUPTI_API_EXIT

struct Call {  // how CUpti_CallbackData begins
    int site;
    const char* name;
};

struct Counts {  // read by autograder/checks/launch_counts.py
    char magic[8];  // "LAUNCHES"
    std::atomic<uint64_t> error;  // 0, or what kept it from counting: CUPTI's number, or NO_CUPTI
    std::atomic<uint64_t> graphs;
    std::atomic<uint64_t> kernels;
};
constexpr uint64_t NO_CUPTI = 1000000;
Counts* counts = nullptr;
thread_local int depth = 0;  // of launches within launches

bool begins(const char* name, const char* with) { return std::strncmp(name, with, std::strlen(with)) == 0; }

std::atomic<uint64_t>* counter_of(const char* name) {
    if (begins(name, "cudaGraphLaunch") || begins(name, "cuGraphLaunch")) return &counts->graphs;
    if (std::strstr(name, "LaunchHostFunc")) return nullptr;  // runs on the CPU
    for (const char* with : {"cudaLaunch", "__cudaLaunch", "cuLaunch"})
        if (begins(name, with)) return &counts->kernels;
    return nullptr;
}

void seen(void*, int, uint32_t, const void* data) {
    const auto* call = static_cast<const Call*>(data);
    std::atomic<uint64_t>* counter = call->name ? counter_of(call->name) : nullptr;
    if (!counter) return;
    if (call->site != ENTER) --depth;
    else if (depth++ == 0) counter->fetch_add(1, std::memory_order_relaxed);
}

Counts* opened(const char* folder) {
    char path[4096];
    std::snprintf(path, sizeof path, "%s/%d.launches", folder, static_cast<int>(getpid()));
    const int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0) return nullptr;
    void* memory = MAP_FAILED;
    if (ftruncate(file, sizeof(Counts)) == 0)
        memory = mmap(nullptr, sizeof(Counts), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    return memory == MAP_FAILED ? nullptr : static_cast<Counts*>(memory);
}

uint64_t subscribed() {
    using Callback = void (*)(void*, int, uint32_t, const void*);
    const char* name = std::getenv("LAUNCH_COUNTS_CUPTI");
    void* library = dlopen(name ? name : "libcupti.so", RTLD_NOW | RTLD_LOCAL);
    if (!library) return NO_CUPTI;
    auto subscribe = reinterpret_cast<int (*)(void**, Callback, void*)>(dlsym(library, "cuptiSubscribe"));
    auto enable = reinterpret_cast<int (*)(uint32_t, void*, int)>(dlsym(library, "cuptiEnableDomain"));
    if (!subscribe || !enable) return NO_CUPTI;
    void* subscriber = nullptr;
    if (const int error = subscribe(&subscriber, seen, nullptr)) return error;
    for (const int domain : {RUNTIME_API, DRIVER_API})
        if (const int error = enable(1, subscriber, domain)) return error;
    return 0;
}

}  // namespace

extern "C" int InitializeInjection() {
    const char* folder = std::getenv("LAUNCH_COUNTS_FOLDER");
    if (counts || !folder || !(counts = opened(folder))) return 1;  // 1: the process goes on as it would without
    std::memcpy(counts->magic, "LAUNCHES", sizeof counts->magic);
    counts->error = subscribed();
    return 1;
}
