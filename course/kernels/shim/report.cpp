// Findings as JSON. course/kernels/report.py puts them into words.
#include "state.h"
#include <algorithm>
#include <cstdio>
#include <sys/stat.h>
#include <unistd.h>

namespace cucpu {
constexpr size_t kMostFindings = 40, kMostCalls = 1000;

std::string quoted(const std::string& text)
{
    std::string out = "\"";
    for (unsigned char c : text) {
        if (c == '"' || c == '\\') { out += '\\'; out += char(c); }
        else if (c < 0x20) { char escape[8]; snprintf(escape, sizeof escape, "\\u%04x", c); out += escape; }
        else out += char(c);
    }
    return out + "\"";
}
std::string triple(const uint3& v)
{ return "[" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + "]"; }

Json& Json::raw(const char* key, const std::string& value)
{
    text += (text.empty() ? "\"" : ",\"") + std::string(key) + "\":" + value;
    return *this;
}
Json& Json::str(const char* key, const std::string& value) { return raw(key, quoted(value)); }
Json& Json::num(const char* key, long long value) { return raw(key, std::to_string(value)); }
Json& Json::here()
{
    str("kernel", R.kernel);
    if (R.current) raw("thread", triple(R.current->index)).raw("block", triple(blockIdx));
    return *this;
}
Json& Json::site(const char* key, u32 pc) { return num(key, pc); }
Json& Json::where(const Where* where)
{ return str("what", where->what).str("file", where->file).num("line", where->line); }

uint3 threadIndex(u32 t) { return {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y}; }
uint3 blockIndex(u32 b) { return {b % gridDim.x, b / gridDim.x % gridDim.y, b / gridDim.x / gridDim.y}; }
u32 blockOfStamp(u32 stamp)
{
    auto after = std::upper_bound(R.blocks.begin(), R.blocks.end(), stamp,
                                  [](u32 s, const BlockStart& b) { return s < b.stamp; });
    return after == R.blocks.begin() ? 0 : (after - 1)->block;
}

void note(const char* name, cudaStream_t stream)
{ if (R.noting && R.calls.size() < kMostCalls) R.calls.push_back({name, stream, "", "", 0}); }
bool firstTime(const std::string& key) { return R.seen[key]++ == 0; }
void add(const std::string& json) { if (R.findings.size() < kMostFindings) R.findings.push_back(json); }

// Elements of an output that nothing wrote, and the first of them.
static void unwritten(const Region& region)
{
    if (!region.output || !region.cells) return;
    size_t missing = 0, first = 0, cell = size_t(1) << region.shift;
    for (size_t at = 0; at < region.bytes; at += cell)
        if (!region.cells[at >> region.shift].write.stamp) {
            if (!missing) first = at;
            missing += std::min(cell, region.bytes - at);
        }
    if (missing && firstTime("unwritten" + region.name))
        add(Json()
                .str("kind", "unwritten-output")
                .str("buffer", region.name)
                .num("missing", missing)
                .num("first", first)
                .num("bytes", region.bytes)
                .end());
}
static void leaked()                                    // memory of the launcher's cudaMalloc that it never gave back
{
    for (Region* region : regions)
        if (!region->freed && region->name.rfind("cudaMalloc", 0) == 0 && firstTime("leak" + region->name))
            add(Json().str("kind", "memory-leak").str("buffer", region->name).num("bytes", region->bytes).end());
}
std::string findingsJson()                              // until now: what is allocated may still be given back
{
    if (R.pending.active) settlePending();
    if (checked && !R.sticky)                           // after an abort much is unwritten, for that reason
        for (Region* region : regions) unwritten(*region);
    std::string list;
    for (auto& finding : R.findings) list += (list.empty() ? "" : ",") + finding;
    return "[" + list + "]";
}
std::string reportJson()
{
    if (checked && !R.sticky) leaked();
    std::string list = findingsJson(), names;
    for (Region* region : regions) names += (names.empty() ? "" : ",") + quoted(region->name);
    std::string shared;
    for (SharedVariable* variable : sharedVariables) shared += (shared.empty() ? "" : ",") + quoted(variable->name);
    std::map<std::string, int> kernels;
    for (LaunchRecord& record : R.launches) kernels[record.kernel] = 1;
    std::string launched;
    for (auto& kernel : kernels) launched += (launched.empty() ? "" : ",") + quoted(kernel.first);
    return Json()
        .raw("launched", "[" + launched + "]")
        .raw("findings", list)
        .num("accesses", R.accesses)
        .num("switches", R.switches)
        .num("trace", R.traceCount)
        .raw("regions", "[" + names + "]")
        .raw("shared", "[" + shared + "]")
        .num("status", R.sticky)
        .end();
}
void writeReply(const std::string& text)
{
    if (R.replyFile < 0) return;
    if (ftruncate(R.replyFile, 0) || lseek(R.replyFile, 0, SEEK_SET)) {}
    for (size_t at = 0; at < text.size();) {
        ssize_t n = write(R.replyFile, text.data() + at, text.size() - at);
        if (n <= 0) return;
        at += size_t(n);
    }
}
} // namespace cucpu
