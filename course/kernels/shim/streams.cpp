// Streams: which launches are ordered by a stream, an event or a synchronisation, and which are not. They run one
// after the other here; on a GPU, two that nothing orders may overlap.
#include "state.h"
#include <algorithm>

namespace cucpu {
// stream -> last launch there that is ordered before
struct Stream { int id; bool blocking; std::map<int, u32> before; };
struct Event { std::map<int, u32> before; bool recorded; timespec time; };

static Stream legacy{0, true, {}};
static std::map<cudaStream_t, Stream*> streams;
static std::map<int, u32> host;                         // what the host has waited for
static std::map<int, u32> counts;                       // launches of each stream so far
static int nextStream = 1;

static void join(std::map<int, u32>& into, const std::map<int, u32>& from)
{
    for (auto& s : from) into[s.first] = std::max(into[s.first], s.second);
}
static bool isLegacy(cudaStream_t stream) { return !stream || stream == cudaStreamLegacy; }
static Stream& streamOf(cudaStream_t stream)
{
    if (isLegacy(stream)) return legacy;
    auto found = streams.find(stream);
    if (found != streams.end()) return *found->second;
    auto* fresh = new Stream{nextStream++, true, {}};   // a handle that came from outside, or per-thread default
    return *(streams[stream] = fresh);
}
static std::map<int, u32> all()
{
    return counts;
}
// What is ordered before the next work of this stream: its own earlier work, what it waited for, and for the default
// stream all blocking streams (and the other way round).
static std::map<int, u32> before(Stream& stream)
{
    std::map<int, u32> done = stream.before;
    join(done, host);
    if (counts.count(stream.id)) done[stream.id] = counts[stream.id];
    if (&stream == &legacy) {
        for (auto& s : streams)
            if (s.second->blocking) {
                join(done, s.second->before);
                if (counts.count(s.second->id)) done[s.second->id] = counts[s.second->id];
            }
    } else if (stream.blocking) {
        join(done, legacy.before);
        if (counts.count(0)) done[0] = counts[0];
    }
    return done;
}
void orderLaunch(cudaStream_t handle)
{
    Stream& stream = streamOf(handle);
    LaunchRecord record{R.stamp, ++counts[stream.id], stream.id, {}, R.kernel};
    --counts[stream.id];
    record.before = before(stream);
    ++counts[stream.id];
    stream.before = record.before;
    stream.before[stream.id] = record.index;
    R.orderedBefore = R.launchFirst;
    for (auto& earlier : R.launches) {                  // the first launch that may still run is the limit
        auto known = record.before.find(earlier.stream);
        if (known == record.before.end() || known->second < earlier.index) { R.orderedBefore = earlier.first; break; }
    }
    R.launches.push_back(record);
}
bool launchesOrdered(u32 stamp)                         // the launch of this stamp, before the current one?
{
    auto after = std::upper_bound(R.launches.begin(), R.launches.end(), stamp,
                                  [](u32 s, const LaunchRecord& l) { return s < l.first; });
    if (after == R.launches.begin()) return true;
    const LaunchRecord &earlier = *(after - 1), &now = R.launches.back();
    auto known = now.before.find(earlier.stream);
    return known != now.before.end() && known->second >= earlier.index;
}
} // namespace cucpu

using namespace cucpu;
static cudaError_t answer() { return R.sticky; }
#pragma GCC visibility push(default)                    // a plugin's class calls them, too
extern "C" {
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags)
{
    auto* fresh = new Stream{nextStream++, flags != cudaStreamNonBlocking, host};
    *stream = reinterpret_cast<cudaStream_t>(fresh);
    streams[*stream] = fresh;
    return answer();
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int)
{ return cudaStreamCreateWithFlags(stream, flags); }
cudaError_t cudaStreamDestroy(cudaStream_t) { return answer(); }
cudaError_t cudaStreamQuery(cudaStream_t) { return answer(); }
cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{ note("cudaStreamSynchronize", stream); join(host, before(streamOf(stream))); return answer(); }
cudaError_t cudaDeviceSynchronize() { note("cudaDeviceSynchronize"); join(host, all()); return answer(); }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    note("cudaStreamWaitEvent", stream);
    join(streamOf(stream).before, reinterpret_cast<Event*>(event)->before);
    return answer();
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned)
{
    *event = reinterpret_cast<cudaEvent_t>(new Event{{}, false, {}});
    return answer();
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) { delete reinterpret_cast<Event*>(event); return answer(); }
cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream)
{
    auto* event = reinterpret_cast<Event*>(handle);
    event->before = before(streamOf(stream));
    event->recorded = true;
    clock_gettime(CLOCK_MONOTONIC, &event->time);
    return answer();
}
cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    note("cudaEventSynchronize");
    join(host, reinterpret_cast<Event*>(event)->before);
    return answer();
}
cudaError_t cudaEventQuery(cudaEvent_t) { return answer(); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    auto *a = reinterpret_cast<Event*>(start), *b = reinterpret_cast<Event*>(end);
    if (!a->recorded || !b->recorded) return cudaErrorInvalidResourceHandle;
    *milliseconds =
        float(double(b->time.tv_sec - a->time.tv_sec) * 1e3 + double(b->time.tv_nsec - a->time.tv_nsec) / 1e6);
    return answer();
}
}
#pragma GCC visibility pop
