// What the learner's translation unit and the runtime share: where a call stands, and the runtime's entry points.
#pragma once
#include <cuda_runtime.h>
#include <cstddef>
#include <cstdint>

namespace cucpu {

// A call of __syncthreads, __shfl_sync ... in the learner's source. `id` tells two calls on one line apart.
struct Where {
    const char* what;
    const char* file;
    int line;
    int id;
};

// Scheduling. Every function returns when the CUDA thread may go on.
enum class Reduce { none, count, all, any };
int barrier(const Where* where, Reduce reduce, bool predicate);
void warpBarrier(const Where* where, unsigned mask);
void shuffle(const Where* where, unsigned mask, const void* in, void* out, unsigned size, int sourceLane);
unsigned vote(const Where* where, unsigned mask, bool predicate);
// Every lane of the mask gets all 32 values (8 bytes each) and the lanes that took part.
unsigned gather(const Where* where, unsigned mask, uint64_t value, uint64_t values[32]);
unsigned activeMask(const Where* where);
void nap();   // a thread that waits for another one lets the others go on
int lane();

// Memory.
void beforeAtomic(const void* address, unsigned size, void* returnAddress);
void fence(const Where* where);
void* dynamicShared();

struct SharedVariable {
    size_t bytes, alignment;
    const char *name, *file;
    int line;
    unsigned offset, lastLaunch;
    SharedVariable(size_t bytes, size_t alignment, const char* name, const char* file, int line);
    void* address();
};
void* deviceVariable(const void* initial, size_t bytes, const char* name, bool constant);

// Launches.
struct LaunchSpec {
    const char *kernel, *file;
    int line;
    dim3 grid, block;
    size_t sharedBytes;
    cudaStream_t stream;
    const void* function;       // nullptr where the kernel's address cannot be had
};
void launch(const LaunchSpec& spec, void (*run)(void*), void* context);
void launchBounds(const Where* where, unsigned maxThreads);     // first thing in a kernel that has __launch_bounds__

// The learner's extern "C" functions, and how to call them. The code is there twice: in variant 0 local variables
// without a value hold a pattern, in variant 1 they hold zero.
struct Export {
    using Call = int64_t (*)(const uint64_t* slots);
    Export(const char* name, const char* parameters, const char* types, Call call, int variant);
};

} // namespace cucpu
