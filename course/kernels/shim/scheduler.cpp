// CUDA threads as fibres: a thread runs until it waits or ends; then the next one is chosen.
#include "schedule.h"
#include <algorithm>
#include <csetjmp>
#include <cstdio>

extern "C" { uint3 threadIdx, blockIdx; dim3 blockDim, gridDim; }

#if defined(CUCPU_SWITCH)
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

void queueAll(std::vector<int>& threads)         // `ready` is taken from the back
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
        json.str("kind", kind)
            .str("kernel", R.kernel)
            .raw("block", triple(blockIdx))
            .raw("thread", triple(waits->index))
            .where(waits->where)
            .num("exited", R.done)
            .raw("places", places);
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
        KnowledgePtr knows = joinAll(&Thread::knows, 0, kMaxThreads),
                     released = joinAll(&Thread::released, 0, kMaxThreads);
        for (int t : threads) { R.threads[t].knows = knows; R.threads[t].released = released; }
    }
    for (int t : threads) {
        Thread& thread = R.threads[t];
        int result = thread.reduce == Reduce::all   ? sum == int(threads.size())
                     : thread.reduce == Reduce::any ? sum > 0
                                                    : sum;
        std::memcpy(thread.result, &result, sizeof result);
        thread.state = State::ready;
    }
    R.atBarrier = 0;
    ++R.stamp;
    queueAll(threads);
}
int next()                                       // -1: the block has ended
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
void dispatch(int thread, Context& from)
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
                if (R.threads[t].state == State::waiting && R.threads[t].op != Op::barrier
                    && R.threads[t].op != Op::active)
                    completeWarp(t);
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
void wait()                                      // until somebody made this thread ready, and it is its turn
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

// ---------------------------------------------------------------- waiting for others
Thread& arrive(const Where* where, Op op, u32 mask)
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
} // namespace cucpu
