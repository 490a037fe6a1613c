// CUDA threads as fibres: one block after the other, a thread runs until it waits or ends.
#include "fibers.h"
#include <algorithm>
#include <csetjmp>
#include <cstdio>

extern "C" { uint3 threadIdx, blockIdx; dim3 blockDim, gridDim; }

#if defined(__x86_64__)
asm(R"(.text
.globl cucpu_switch
.hidden cucpu_switch
.type cucpu_switch,@function
cucpu_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi); movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size cucpu_switch,.-cucpu_switch
)");
#endif

namespace cucpu {
Runtime R __attribute__((init_priority(101)));   // the learner's file registers variables before main
jmp_buf hostExit;

void abortLaunch(cudaError_t error)
{
    R.sticky = error;
    R.aborted = true;
    Context dead;
    swap(dead, R.host);
    __builtin_unreachable();
}
void abortHost() { longjmp(hostExit, 1); }

int laneOf(const Thread& thread) { return int(idOf(thread) & 31); }
int lane() { return laneOf(*R.current); }

// ---------------------------------------------------------------- choosing the next thread
static void fiberMain();

static void queueAll(std::vector<int>& threads)         // `ready` is taken from the back
{
    if (R.order != 1) std::reverse(threads.begin(), threads.end());
    R.ready.insert(R.ready.end(), threads.begin(), threads.end());
}
static int pick()
{
    if (R.ready.empty()) return -1;
    if (R.order > 1) std::swap(R.ready[R.random() % R.ready.size()], R.ready.back());
    int thread = R.ready.back();
    R.ready.pop_back();
    return thread;
}

// Who waits where, for a report: one entry a place.
static std::string waiting(std::string& key)
{
    std::map<std::pair<int, u32>, std::vector<int>> places;
    for (int t = 0; t < R.count; ++t)
        if (R.threads[t].state == State::waiting)
            places[{R.threads[t].where->id, R.threads[t].op == Op::barrier ? 0 : R.threads[t].mask}].push_back(t);
    std::string list;
    for (auto& place : places) {
        const Thread& first = R.threads[place.second[0]];
        Json json;
        json.where(first.where).num("count", place.second.size()).raw("thread", triple(first.index));
        if (first.op != Op::barrier) json.num("mask", first.mask);
        list += (list.empty() ? "" : ",") + json.end();
        key += std::to_string(first.where->id) + "/";
    }
    return "[" + list + "]";
}
// A barrier that not all threads reach, or nobody can go on.
[[noreturn]] CUCPU_COLD static void diverged(const char* kind)
{
    settlePending();
    std::string key = kind, places = waiting(key);
    R.current = nullptr;
    if (firstTime(key)) {
        const Thread* waits = nullptr;
        for (int t = 0; t < R.count && !waits; ++t) if (R.threads[t].state == State::waiting) waits = &R.threads[t];
        const Thread* other = nullptr;                  // one that has ended, else one that waits elsewhere
        for (int t = 0; t < R.count && !other; ++t) if (R.threads[t].state == State::done) other = &R.threads[t];
        Json json;
        json.str("kind", kind).str("kernel", R.kernel).raw("block", triple(blockIdx)).raw("thread", triple(waits->index))
            .where(waits->where).num("exited", R.done).raw("places", places);
        if (other) json.raw("exited_thread", triple(other->index));
        add(json.end());
    }
    abortLaunch(cudaErrorLaunchFailure);
}

static KnowledgePtr joinAll(KnowledgePtr Thread::*member, u32 first, u32 lanes)
{
    KnowledgePtr all;
    for (u32 t = first; t < u32(R.count) && t < first + lanes; ++t) all = join(all, R.threads[t].*member);
    return all;
}
static void releaseBarrier()
{
    std::vector<int> threads;
    int first = -1, sum = 0;
    for (int t = 0; t < R.count; ++t) {
        if (R.threads[t].state != State::waiting) continue;
        if (first < 0) first = t;
        if (R.threads[t].where->id != R.threads[first].where->id) diverged("divergent-barrier");
        sum += R.threads[t].predicate;
        threads.push_back(t);
    }
    if (R.done) diverged("divergent-barrier");
    if (R.knowledge) {
        KnowledgePtr knows = joinAll(&Thread::knows, 0, kMaxThreads), released = joinAll(&Thread::released, 0, kMaxThreads);
        for (int t : threads) { R.threads[t].knows = knows; R.threads[t].released = released; }
    }
    for (int t : threads) {
        Thread& thread = R.threads[t];
        int result = thread.reduce == Reduce::all ? sum == int(threads.size()) : thread.reduce == Reduce::any ? sum > 0 : sum;
        std::memcpy(thread.result, &result, sizeof result);
        thread.state = State::ready;
    }
    R.atBarrier = 0;
    ++R.stamp;
    queueAll(threads);
}
static bool answerActiveMasks();
static int next()                                       // -1: the block has ended
{
    int thread = pick();
    if (thread >= 0) return thread;
    if (R.done == R.count) return -1;
    if (answerActiveMasks()) return pick();
    if (R.atBarrier != R.count - R.done) diverged("deadlock");
    releaseBarrier();
    return pick();
}

// ---------------------------------------------------------------- switching
static void setCurrent(int thread)
{
    R.current = &R.threads[thread];
    R.ownStack = R.stacks + size_t(R.current->fiber) * kStackBytes;
    R.naps = 0;
    threadIdx = R.current->index;
}
static void dispatch(int thread, Context& from)
{
    ++R.switches;
    if (thread < 0) { R.current = nullptr; swap(from, R.host); return; }
    Thread& next = R.threads[thread];
    if (next.fiber < 0) {
        if (R.freeFibers.empty()) {
            int fiber = int(R.fibers.size());
            R.fibers.emplace_back();
            make(R.fibers[fiber], reinterpret_cast<char*>(R.stacks) + fiber * kStackBytes, kStackBytes, fiberMain);
            R.freeFibers.push_back(fiber);
        }
        next.fiber = R.freeFibers.back();
        R.freeFibers.pop_back();
    }
    setCurrent(thread);
    swap(from, R.fibers[next.fiber]);
}
static void completeWarp(int thread);
static void fiberMain()
{
    for (;;) {
        R.run(R.context);
        if (R.pending.active) settlePending();
        int me = int(idOf(*R.current)), fiber = R.current->fiber;
        R.threads[me].state = State::done;
        ++R.done;
        Warp& warp = R.warps[me / 32];
        warp.done |= 1u << (me & 31);
        if (warp.waiting)                               // the exit may be what a __syncwarp waited for
            for (int t = me & ~31; t < R.count && t < (me | 31) + 1; ++t)
                if (R.threads[t].state == State::waiting && R.threads[t].op != Op::barrier && R.threads[t].op != Op::active) completeWarp(t);
        int thread = next();
        if (thread >= 0 && R.threads[thread].fiber < 0) {   // the next thread is a fresh one: it runs on this stack
            R.threads[thread].fiber = fiber;
            setCurrent(thread);
            continue;
        }
        R.freeFibers.push_back(fiber);
        dispatch(thread, R.fibers[fiber]);
    }
}
static void wait()                                      // until somebody made this thread ready, and it is its turn
{
    int me = int(idOf(*R.current)), fiber = R.current->fiber, thread = next();
    if (thread == me) setCurrent(me); else dispatch(thread, R.fibers[fiber]);
}
void nap()
{
    R.naps = 0;
    if (R.ready.empty()) return;
    R.ready.insert(R.ready.begin(), int(idOf(*R.current)));
    int me = int(idOf(*R.current)), fiber = R.current->fiber;
    int thread = R.ready.back();
    R.ready.pop_back();
    if (thread != me) dispatch(thread, R.fibers[fiber]); else setCurrent(me);
}

// ---------------------------------------------------------------- barriers, shuffles, votes
static Thread& arrive(const Where* where, Op op, u32 mask)
{
    if (!R.current) {
        if (firstTime(std::string("host") + where->what)) add(Json().str("kind", "device-only").where(where).end());
        abortHost();
    }
    if (R.pending.active) settlePending();
    R.lastWhere = where;
    Thread& me = *R.current;
    me.op = op; me.mask = mask; me.where = where;
    if (op != Op::barrier && !(mask >> laneOf(me) & 1)) {
        if (firstTime("mask" + std::to_string(where->id)))
            add(Json().str("kind", "invalid-mask").here().where(where).num("mask", mask).num("lane", laneOf(me)).end());
        abortLaunch(cudaErrorLaunchFailure);
    }
    me.state = State::waiting;
    return me;
}
int barrier(const Where* where, Reduce reduce, bool predicate)
{
    Thread& me = arrive(where, Op::barrier, ~0u);
    me.reduce = reduce; me.predicate = predicate;
    ++R.atBarrier;
    wait();
    int result;
    std::memcpy(&result, me.result, sizeof result);
    return result;
}
static void waitForWarp(Thread& me)
{
    R.warps[idOf(me) / 32].waiting |= 1u << laneOf(me);
    completeWarp(int(idOf(me)));
    wait();
}
void warpBarrier(const Where* where, unsigned mask) { waitForWarp(arrive(where, Op::warpBarrier, mask)); }
void shuffle(const Where* where, unsigned mask, const void* in, void* out, unsigned size, int sourceLane)
{
    Thread& me = arrive(where, Op::shuffle, mask);
    std::memcpy(me.value, in, size);
    me.size = size; me.sourceLane = sourceLane;
    waitForWarp(me);
    std::memcpy(out, me.result, size);
}
unsigned vote(const Where* where, unsigned mask, bool predicate)
{
    Thread& me = arrive(where, Op::vote, mask);
    me.predicate = predicate;
    waitForWarp(me);
    unsigned ballot;
    std::memcpy(&ballot, me.result, sizeof ballot);
    return ballot;
}
unsigned gather(const Where* where, unsigned mask, uint64_t value, uint64_t values[32])
{
    Thread& me = arrive(where, Op::gather, mask);
    std::memcpy(me.value, &value, sizeof value);
    me.values = values;
    waitForWarp(me);
    unsigned lanes;
    std::memcpy(&lanes, me.result, sizeof lanes);
    return lanes;
}
// __activemask: the lanes that come to the same call before the warp can do nothing else, so as many as possible.
unsigned activeMask(const Where* where)
{
    Thread& me = arrive(where, Op::active, 1u << laneOf(*R.current));
    R.warps[idOf(me) / 32].asking = true;
    wait();
    unsigned lanes;
    std::memcpy(&lanes, me.result, sizeof lanes);
    return lanes;
}
static bool answerActiveMasks()                         // when no thread is ready
{
    std::vector<int> threads;
    for (size_t w = 0; w < R.warps.size(); ++w) {
        if (!R.warps[w].asking) continue;
        R.warps[w].asking = false;
        int first = int(w) * 32, end = std::min(first + 32, R.count);
        for (int t = first; t < end; ++t) {
            Thread& thread = R.threads[t];
            if (thread.state != State::waiting || thread.op != Op::active) continue;
            u32 lanes = 0;
            for (int k = first; k < end; ++k)
                if (R.threads[k].state != State::done && R.threads[k].op == Op::active && R.threads[k].where->id == thread.where->id) lanes |= 1u << (k & 31);
            std::memcpy(thread.result, &lanes, sizeof lanes);
            threads.push_back(t);
        }
        for (int t : threads) R.threads[t].state = State::ready;
    }
    queueAll(threads);
    return !threads.empty();
}

CUCPU_COLD static void undefinedShuffle(const Thread& thread)
{
    if (!firstTime("shuffle" + std::to_string(thread.where->id))) return;
    u32 source = (idOf(thread) & ~31u) + u32(thread.sourceLane);
    bool exists = source < u32(R.count), ended = exists && R.threads[source].state == State::done;
    Json json;
    json.str("kind", "undefined-shuffle").str("kernel", R.kernel).raw("block", triple(blockIdx)).raw("thread", triple(thread.index))
        .where(thread.where).num("lane", laneOf(thread)).num("source", thread.sourceLane).num("mask", thread.mask)
        .str("because", !exists ? "absent" : ended ? "ended" : "not in mask");
    add(json.end());
}
static void joinClocks(u32 first, u32 lanes)            // __syncwarp: everybody has seen what everybody did before
{
    u32 seen[32] = {};
    KnowledgePtr knows, released;
    for (u32 l = 0; l < 32; ++l) {
        if (!(lanes >> l & 1)) continue;
        Thread& thread = R.threads[first + l];
        if (thread.clockStamp != R.stamp) {
            std::memset(thread.seen, 0, sizeof thread.seen);
            thread.clockStamp = R.stamp; thread.clock = 1; thread.seen[l] = 1;
        }
        for (int k = 0; k < 32; ++k) seen[k] = std::max(seen[k], thread.seen[k]);
        if (R.knowledge) { knows = join(knows, thread.knows); released = join(released, thread.released); }
    }
    for (u32 l = 0; l < 32; ++l) {
        if (!(lanes >> l & 1)) continue;
        Thread& thread = R.threads[first + l];
        std::memcpy(thread.seen, seen, sizeof seen);
        thread.seen[l] = ++thread.clock;
        if (R.knowledge) { thread.knows = knows; thread.released = released; }
    }
}
// Ends the operation that `waits` is in, if every lane of its mask that has not ended is in the same one.
static void completeWarp(int waits)
{
    const Thread& model = R.threads[waits];
    u32 first = u32(waits) & ~31u, mask = model.mask;
    Warp& warp = R.warps[first / 32];
    u32 exist = R.count - first >= 32 ? ~0u : (1u << (R.count - first)) - 1;
    u32 lanes = mask & exist & ~warp.done;
    if ((warp.waiting & lanes) != lanes) return;
    for (u32 l = 0; l < 32; ++l)
        if (lanes >> l & 1) {
            const Thread& other = R.threads[first + l];
            if (other.op != model.op || other.mask != mask || other.where->id != model.where->id) return;
        }
    u32 ballot = 0;
    for (u32 l = 0; l < 32; ++l) if (lanes >> l & 1) ballot |= u32(R.threads[first + l].predicate) << l;
    if (model.op == Op::warpBarrier) joinClocks(first, lanes);
    std::vector<int> threads;
    for (u32 l = 0; l < 32; ++l) {
        if (!(lanes >> l & 1)) continue;
        Thread& thread = R.threads[first + l];
        if (thread.op == Op::vote) std::memcpy(thread.result, &ballot, sizeof ballot);
        if (thread.op == Op::gather) {
            std::memcpy(thread.result, &lanes, sizeof lanes);
            for (u32 k = 0; k < 32; ++k) if (lanes >> k & 1) std::memcpy(&thread.values[k], R.threads[first + k].value, 8);
        }
        if (thread.op == Op::shuffle) {
            if (lanes >> thread.sourceLane & 1) std::memcpy(thread.result, R.threads[first + thread.sourceLane].value, thread.size);
            else { undefinedShuffle(thread); std::memset(thread.result, R.undefined, sizeof thread.result); }
        }
        thread.state = State::ready;
        threads.push_back(int(first + l));
    }
    warp.waiting &= ~lanes;
    queueAll(threads);
}

// ---------------------------------------------------------------- a block, a launch
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
        thread.state = State::fresh; thread.op = Op::none; thread.fiber = -1; thread.clockStamp = 0; thread.predicate = false;
        if (R.knowledge) { thread.knows.reset(); thread.released.reset(); }
        if (++index.x == block.x) { index.x = 0; if (++index.y == block.y) { index.y = 0; ++index.z; } }
        R.ready[t] = R.order == 1 ? t : R.count - 1 - t;
    }
    dispatch(next(), R.host);
    R.current = nullptr;
}

CUCPU_COLD static bool refuse(const LaunchSpec& spec, const char* why, long long value, long long limit, cudaError_t error)
{
    R.error = error;
    if (firstTime(std::string("launch") + why + spec.kernel))
        add(Json().str("kind", "invalid-launch").str("kernel", spec.kernel).str("file", spec.file).num("line", spec.line)
                .str("because", why).num("value", value).num("limit", limit)
                .raw("grid", triple({spec.grid.x, spec.grid.y, spec.grid.z})).raw("blocksize", triple({spec.block.x, spec.block.y, spec.block.z})).end());
    return false;
}
size_t dynamicLimit(const void* function);              // host_api.cpp
static bool valid(const LaunchSpec& spec)
{
    const dim3 &g = spec.grid, &b = spec.block;
    u64 threads = u64(b.x) * b.y * b.z;
    auto bad = [&](const char* why, u64 value, u64 limit) { return refuse(spec, why, value, limit, cudaErrorInvalidConfiguration); };
    if (!threads) return bad("empty block", threads, 1);
    if (!g.x || !g.y || !g.z) return bad("empty grid", 0, 1);
    if (threads > kMaxThreads || b.z > 64) return bad(b.z > 64 ? "block z" : "threads", b.z > 64 ? b.z : threads, b.z > 64 ? 64 : kMaxThreads);
    if (g.x > 0x7fffffffu) return bad("grid x", g.x, 0x7fffffffu);
    if (g.y > 65535 || g.z > 65535) return bad(g.y > 65535 ? "grid y" : "grid z", std::max(g.y, g.z), 65535);
    if (u64(g.x) * g.y * g.z >> 31) return bad("grid blocks", u64(g.x) * g.y * g.z, 0x7fffffffu);
    size_t limit = dynamicLimit(spec.function);
    if (spec.sharedBytes > limit)
        return refuse(spec, limit < R.sharedLimit ? "dynamic shared" : "shared", spec.sharedBytes, limit, cudaErrorInvalidValue);
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
        if (firstTime("nested")) add(Json().str("kind", "unsupported").here().str("file", spec.file).num("line", spec.line).str("what", "a launch from device code").end());
        abortLaunch(cudaErrorNotSupported);
    }
    R.kernel = spec.kernel; R.launchFile = spec.file; R.launchLine = spec.line;
    if (!valid(spec)) return;
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
