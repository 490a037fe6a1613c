// Counts what a process asks the GPU to run: launches of CUDA graphs, and launches of kernels one by one.
//
// CUDA's driver loads this library into each process that CUDA_INJECTION64_PATH names it to, when the process first calls
// cuInit, and calls InitializeInjection. CUPTI then calls `count` at each launch, whoever asks for it: TensorRT, PyTorch, a
// library. The counts lie in a file of LAUNCH_COUNTS_FOLDER, one for each process, which is mapped: they are there at once,
// and stay when the process dies.
//
// CUPTI (LAUNCH_COUNTS_CUPTI) is opened at run time, and its few names are written out here, so that neither its headers
// nor CUDA's are needed to compile this. The numbers are part of CUPTI's binary interface: new ones are added at the end.
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace {

constexpr int DRIVER_API = 1, ENTER = 0;  // CUPTI_CB_DOMAIN_DRIVER_API, CUPTI_API_ENTER

enum Launch : uint32_t {                  // CUPTI_DRIVER_TRACE_CBID_...
    cuLaunchKernel = 307,
    cuLaunchKernel_ptsz = 442,
    cuLaunchCooperativeKernel = 477,
    cuLaunchCooperativeKernel_ptsz = 478,
    cuGraphLaunch = 514,
    cuGraphLaunch_ptsz = 515,
    cuLaunchKernelEx = 652,
    cuLaunchKernelEx_ptsz = 653,
};
constexpr Launch ALL[] = {cuLaunchKernel, cuLaunchKernel_ptsz, cuLaunchCooperativeKernel, cuLaunchCooperativeKernel_ptsz,
                          cuGraphLaunch, cuGraphLaunch_ptsz, cuLaunchKernelEx, cuLaunchKernelEx_ptsz};

struct Counts {                           // read by autograder/checks/launch_counts.py
    char magic[8];                        // "LAUNCHES"
    std::atomic<uint64_t> error;          // 0, or what kept it from counting: CUPTI's number, or NO_CUPTI
    std::atomic<uint64_t> graphs;
    std::atomic<uint64_t> kernels;
};
constexpr uint64_t NO_CUPTI = 1000000;
Counts* counts = nullptr;

void count(void*, int domain, uint32_t id, const void* data) {
    int site;                             // the first field of CUpti_CallbackData
    std::memcpy(&site, data, sizeof site);
    if (domain != DRIVER_API || site != ENTER) return;
    auto& counter = id == cuGraphLaunch || id == cuGraphLaunch_ptsz ? counts->graphs : counts->kernels;
    counter.fetch_add(1, std::memory_order_relaxed);
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
    auto enable = reinterpret_cast<int (*)(uint32_t, void*, int, uint32_t)>(dlsym(library, "cuptiEnableCallback"));
    if (!subscribe || !enable) return NO_CUPTI;
    void* subscriber = nullptr;
    if (const int error = subscribe(&subscriber, count, nullptr)) return error;
    for (const Launch each : ALL)
        if (const int error = enable(1, subscriber, DRIVER_API, each)) return error;
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
