// A launch: what the GPU would refuse, then one block after the other.
#include "schedule.h"
#include <algorithm>

namespace cucpu {
static void runBlock(dim3 block)
{
    R.blockFirst = ++R.stamp;
    R.blocks.push_back({R.stamp, blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z)});
    R.done = R.atBarrier = 0;
    fillShared();
    std::fill(R.warps.begin(), R.warps.end(), Warp{0, 0, false});
    R.ready.resize(R.count);
    uint3 index{0, 0, 0};
    for (int t = 0; t < R.count; ++t) {
        Thread& thread = R.threads[t];
        thread.index = index;
        thread.state = State::fresh;
        thread.op = Op::none;
        thread.fiber = -1;
        thread.clockStamp = 0;
        thread.predicate = false;
        if (R.knowledge) { thread.knows.reset(); thread.released.reset(); }
        if (++index.x == block.x) { index.x = 0; if (++index.y == block.y) { index.y = 0; ++index.z; } }
        R.ready[t] = R.order == 1 ? t : R.count - 1 - t;
    }
    dispatch(next(), R.host);
    R.current = nullptr;
}

CUCPU_COLD static bool refuse(const LaunchSpec& spec, const char* why, long long value, long long limit,
                              cudaError_t error)
{
    R.error = error;
    if (firstTime(std::string("launch") + why + spec.kernel))
        add(Json()
                .str("kind", "invalid-launch")
                .str("kernel", spec.kernel)
                .str("file", spec.file)
                .num("line", spec.line)
                .str("because", why)
                .num("value", value)
                .num("limit", limit)
                .raw("grid", triple({spec.grid.x, spec.grid.y, spec.grid.z}))
                .raw("blocksize", triple({spec.block.x, spec.block.y, spec.block.z}))
                .end());
    return false;
}
size_t dynamicLimit(const void* function);              // host_api.cpp
static bool valid(const LaunchSpec& spec)
{
    const dim3 &g = spec.grid, &b = spec.block;
    u64 threads = u64(b.x) * b.y * b.z;
    auto bad = [&](const char* why, u64 value, u64 limit) {
        return refuse(spec, why, value, limit, cudaErrorInvalidConfiguration);
    };
    if (!threads) return bad("empty block", threads, 1);
    if (!g.x || !g.y || !g.z) return bad("empty grid", 0, 1);
    if (threads > kMaxThreads || b.z > 64)
        return bad(b.z > 64 ? "block z" : "threads", b.z > 64 ? b.z : threads, b.z > 64 ? 64 : kMaxThreads);
    if (g.x > 0x7fffffffu) return bad("grid x", g.x, 0x7fffffffu);
    if (g.y > 65535 || g.z > 65535) return bad(g.y > 65535 ? "grid y" : "grid z", std::max(g.y, g.z), 65535);
    if (u64(g.x) * g.y * g.z >> 31) return bad("grid blocks", u64(g.x) * g.y * g.z, 0x7fffffffu);
    size_t limit = dynamicLimit(spec.function);
    if (spec.sharedBytes > limit)
        return refuse(spec, limit < R.sharedLimit ? "dynamic shared" : "shared", spec.sharedBytes, limit,
                      cudaErrorInvalidValue);
    return true;
}
void launchBounds(const Where* where, unsigned maxThreads)
{
    if (u32(R.count) <= maxThreads) return;
    LaunchSpec spec{R.kernel.c_str(), where->file, R.launchLine, gridDim, blockDim, R.dynamicBytes, nullptr, nullptr};
    refuse(spec, "launch bounds", R.count, maxThreads, cudaErrorInvalidConfiguration);
    abortLaunch(cudaErrorInvalidConfiguration);
}
static void runGrid(u32 blocks)
{
    auto one = [&](u32 k) {
        blockIdx = {k % gridDim.x, k / gridDim.x % gridDim.y, k / gridDim.x / gridDim.y};
        runBlock(blockDim);
        if (R.aborted) { R.fibers.clear(); R.freeFibers.clear(); R.ready.clear(); R.error = R.sticky; }
    };
    if (R.order <= 1) {
        for (u32 i = 0; i < blocks && !R.aborted; ++i) one(R.order == 1 ? blocks - 1 - i : i);
        return;
    }
    std::vector<u32> order(blocks);
    for (u32 i = 0; i < blocks; ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), R.random);
    for (u32 i = 0; i < blocks && !R.aborted; ++i) one(order[i]);
}
void launch(const LaunchSpec& spec, void (*run)(void*), void* context)
{
    initialise();
    if (R.current) {                                    // dynamic parallelism
        if (firstTime("nested"))
            add(Json()
                    .str("kind", "unsupported")
                    .here()
                    .str("file", spec.file)
                    .num("line", spec.line)
                    .str("what", "a launch from device code")
                    .end());
        abortLaunch(cudaErrorNotSupported);
    }
    R.kernel = spec.kernel; R.launchFile = spec.file; R.launchLine = spec.line;
    if (R.noting) R.calls.push_back({"launch", spec.stream, spec.kernel, spec.file, spec.line});
    if (!valid(spec)) return;
    if (R.failing) { R.error = cudaErrorInvalidConfiguration; return; }
    if (R.sticky) { R.error = R.sticky; return; }
    R.run = run; R.context = context; R.aborted = false;
    gridDim = spec.grid; blockDim = spec.block;
    R.count = int(blockDim.x * blockDim.y * blockDim.z);
    R.threads.resize(R.count);
    R.warps.resize((R.count + 31) / 32);
    if (R.order > 1) R.random.seed(R.order);
    ++R.launchIndex;
    R.launchFirst = ++R.stamp;
    orderLaunch(spec.stream);
    R.synchronised.clear();
    R.fences = R.knowledge = false;
    beginLaunchMemory(spec.sharedBytes);
    runGrid(gridDim.x * gridDim.y * gridDim.z);
}
} // namespace cucpu
