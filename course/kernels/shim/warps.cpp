// Operations of a warp: __syncwarp, shuffles, votes, __activemask.
#include "schedule.h"
#include <algorithm>

namespace cucpu {
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
bool answerActiveMasks()                         // when no thread is ready
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
                if (R.threads[k].state != State::done && R.threads[k].op == Op::active
                    && R.threads[k].where->id == thread.where->id)
                    lanes |= 1u << (k & 31);
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
    json.str("kind", "undefined-shuffle")
        .str("kernel", R.kernel)
        .raw("block", triple(blockIdx))
        .raw("thread", triple(thread.index))
        .where(thread.where)
        .num("lane", laneOf(thread))
        .num("source", thread.sourceLane)
        .num("mask", thread.mask)
        .str("because", !exists ? "absent"
                        : ended ? "ended"
                                : "not in mask");
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
void completeWarp(int waits)
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
            for (u32 k = 0; k < 32; ++k)
                if (lanes >> k & 1) std::memcpy(&thread.values[k], R.threads[first + k].value, 8);
        }
        if (thread.op == Op::shuffle) {
            if (lanes >> thread.sourceLane & 1)
                std::memcpy(thread.result, R.threads[first + thread.sourceLane].value, thread.size);
            else { undefinedShuffle(thread); std::memset(thread.result, R.undefined, sizeof thread.result); }
        }
        thread.state = State::ready;
        threads.push_back(int(first + l));
    }
    warp.waiting &= ~lanes;
    queueAll(threads);
}

} // namespace cucpu
