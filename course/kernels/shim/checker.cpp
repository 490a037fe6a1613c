// Every load and store of the learner's code comes here: bounds, alignment, reads of what nobody wrote, races.
//
// GCC's -fsanitize=thread puts a call of __tsan_readN or __tsan_writeN before each access; this file stands in for its
// runtime library. A race is two accesses that nothing orders (happens-before), whatever order they ran in: for each
// 1, 2 or 4 bytes a Cell keeps the last write and two reads, from different warps where there are such. That is enough
// to find one conflicting pair, except where __syncwarp with a part of a warp orders some lanes and not others.
#include "state.h"
#include <algorithm>
#include <cstring>

namespace cucpu {

// ---------------------------------------------------------------- happens-before
KnowledgePtr join(const KnowledgePtr& a, const KnowledgePtr& b)
{
    if (!a || a == b) return b;
    if (!b) return a;
    auto both = std::make_shared<Knowledge>(*a);
    for (auto& block : b->blocks) {
        Known& mine = both->blocks[block.first];
        mine.before = std::max(mine.before, block.second.before);
        for (auto& thread : block.second.threads) {
            auto& known = mine.threads[thread.first];
            known = std::max(known, thread.second);
        }
    }
    return both;
}
static u32 blockFirstOf(u32 stamp)
{
    auto after = std::upper_bound(R.blocks.begin(), R.blocks.end(), stamp,
                                  [](u32 s, const BlockStart& b) { return s < b.stamp; });
    return after == R.blocks.begin() ? 0 : (after - 1)->stamp;
}
// Was it made known to this thread through a fence and an atomic?
CUCPU_COLD static bool known(const Access& before)
{
    const KnowledgePtr& knows = R.current->knows;
    if (!knows) return false;
    auto block = knows->blocks.find(blockFirstOf(before.stamp));
    if (block == knows->blocks.end()) return false;
    if (before.stamp < block->second.before) return true;
    auto thread = block->second.threads.find(before.thread);
    return thread != block->second.threads.end()
           && std::make_pair(u32(before.stamp), u32(before.clock)) <= thread->second;
}
static inline u32 clockOf(const Thread& thread) { return thread.clockStamp == R.stamp ? thread.clock : 1; }
// Does nothing order `before` and what the current thread does now?
static inline bool unordered(const Access& before, bool shared)
{
    if (before.stamp < R.orderedBefore) return false;                   // an earlier launch, or the host, or never
    if (before.stamp == R.stamp) {                                      // this block, since the last barrier
        u32 me = idOf(*R.current);
        if (before.thread == me) return false;
        if ((before.thread ^ me) < 32 && R.current->clockStamp == R.stamp
            && before.clock <= R.current->seen[before.thread & 31])
            return false;                                               // a __syncwarp lies between
        return !(R.knowledge && known(before));
    }
    if (before.stamp >= R.blockFirst) return false;                     // this block, before a barrier
    if (shared) return false;                                           // another block's shared memory
    if (before.stamp < R.launchFirst && launchesOrdered(before.stamp)) return false;
    return !(R.knowledge && known(before));
}
static inline bool otherWarp(const Access& a, const Access& b)
{ return a.stamp != b.stamp || (a.thread ^ b.thread) >= 32; }
static inline bool stale(const Access& read)
{ return read.stamp < R.orderedBefore || (read.stamp >= R.blockFirst && read.stamp != R.stamp); }
static inline void remember(Cell& cell, const Access& now)
{
    if (!stale(cell.read) && (cell.read.thread != now.thread || cell.read.stamp != now.stamp))
        if (otherWarp(cell.read, now) || stale(cell.otherRead) || !otherWarp(cell.otherRead, now))
            cell.otherRead = cell.read;
    cell.read = now;
}

// ---------------------------------------------------------------- reports
static const char* spaceOf(const Region& region)
{ return region.space == Space::shared ? "shared" : region.space == Space::constant ? "constant" : "global"; }
static const char* nameOf(const Access& access) { return access.relaxed ? "atomic" : access.write ? "write" : "read"; }
static const char* nameOf(u32 flags) { return flags & kAtomic ? "atomic" : flags & kWrite ? "write" : "read"; }
static Json& at(Json& json, const Region& region, uptr address)
{
    return json.str("space", spaceOf(region))
        .str("buffer", region.name)
        .num("offset", (long long)(address - region.base))
        .num("bytes", region.bytes);
}
CUCPU_COLD static void outOfBounds(uptr address, u32 bytes, u32 flags, u32 pc)
{
    Region* region = isDevice(address) ? nearest(address) : nullptr;
    if (firstTime("bounds" + std::to_string(pc))) {
        Json json;
        json.str("kind", region && region->freed ? "use-after-free" : "out-of-bounds")
            .here()
            .site("pc", pc)
            .str("access", nameOf(flags))
            .num("size", bytes);
        if (region) at(json, *region, address);
        else if (address - R.stacks < kMaxThreads * kStackBytes) json.str("space", "another thread's local");
        else
            json.str("space", address < 4096                  ? "null"
                              : address - arena < kArenaBytes ? "nowhere"
                              : isDevice(address)             ? "unallocated"
                                                              : "host");
        add(json.end());
    }
    abortLaunch(cudaErrorIllegalAddress);
}
CUCPU_COLD static void misaligned(const Region* region, uptr address, u32 bytes, u32 flags, u32 pc)
{
    if (firstTime("align" + std::to_string(pc))) {
        Json json;
        json.str("kind", "misaligned").here().site("pc", pc).str("access", nameOf(flags)).num("size", bytes);
        if (region) at(json, *region, address);
        add(json.end());
    }
    abortLaunch(cudaErrorMisalignedAddress);
}
CUCPU_COLD static void uninitialised(const Region& region, uptr address, u32 bytes, u32 flags, u32 pc)
{
    if (!firstTime("uninitialised" + std::to_string(pc))) return;
    Json json;
    at(json.str("kind", "uninitialized-read").here().site("pc", pc).str("access", nameOf(flags)).num("size", bytes),
       region, address);
    add(json.end());
}
CUCPU_COLD static void writeToInput(const Region& region, uptr address, u32 bytes, u32 flags, u32 pc)
{
    if (!firstTime("input" + region.name + std::to_string(pc))) return;
    Json json;
    at(json.str("kind", "write-to-input").here().site("pc", pc).str("access", nameOf(flags)).num("size", bytes), region,
       address);
    add(json.end());
}
CUCPU_COLD static void race(const Region& region, uptr address, u32 bytes, u32 flags, u32 pc, const Access& before)
{
    std::string key =
        "race" + std::to_string(std::min(pc, u32(before.pc))) + "/" + std::to_string(std::max(pc, u32(before.pc)));
    Json other;
    other.site("pc", before.pc)
        .raw("thread", triple(threadIndex(before.thread)))
        .raw("block", triple(blockIndex(blockOfStamp(before.stamp))))
        .str("access", nameOf(before));
    const char* scope = before.stamp < R.launchFirst ? "streams" : before.stamp < R.blockFirst ? "blocks"
        : (before.thread ^ idOf(*R.current)) < 32 ? "warp" : "block";
    Json json;
    at(json.str("kind", "race").here().site("pc", pc).str("access", nameOf(flags)).num("size", bytes), region, address)
        .str("scope", scope).raw("other", other.end());
    if (!(flags & kWrite) || (flags & kAtomic) || !before.write || before.relaxed || bytes > sizeof R.pending.old) {
        if (firstTime(key)) add(json.end());
        return;
    }
    // Two plain writes: it is a race only if they write different values, which shows after the store that comes now.
    if (R.pending.active) return;
    R.pending.active = true;
    R.pending.address = address; R.pending.bytes = bytes;
    std::memcpy(R.pending.old, reinterpret_cast<void*>(address), bytes);
    R.pending.key = key; R.pending.text = json.end();
}
void settlePending()
{
    R.pending.active = false;
    if (std::memcmp(R.pending.old, reinterpret_cast<void*>(R.pending.address), R.pending.bytes) != 0
        && firstTime(R.pending.key))
        add(R.pending.text);
}
CUCPU_COLD static void hostAccess(uptr address, u32 bytes, u32 flags, u32 pc)
{
    if (firstTime("host" + std::to_string(pc))) {
        Region* region = nearest(address);
        Json json;
        json.str("kind", "host-access").site("pc", pc).str("access", nameOf(flags)).num("size", bytes);
        if (region) at(json, *region, address);
        add(json.end());
    }
    abortHost();
}

// ---------------------------------------------------------------- the record of cells
// A whole struct is copied with the bytes between its members, which nobody writes: no finding if a part of the same
// word was written.
CUCPU_COLD static bool isPadding(const Region& region, const Cell* cell, bool shared)
{
    size_t cells = size_t(4) >> region.shift, first = size_t(cell - region.cells) / cells * cells;
    for (size_t i = first; i < first + cells && i << region.shift < region.bytes; ++i)
        if (region.cells[i].write.stamp >= (shared ? R.blockFirst : 1u)) return true;
    return false;
}
static inline void touch(Region& region, uptr address, u32 bytes, u32 flags, u32 pc)
{
    const bool shared = region.space == Space::shared, write = flags & kWrite;
    // A volatile write announces something only behind a fence; a volatile read may see such, or an atomic.
    const bool relaxed = flags & kAtomic || (flags & kVolatile && !shared && (!write || R.current->released));
    if (bytes < 1u << region.shift || (address - region.base) & ((1u << region.shift) - 1))
        refine(region, bytes == 1 || address & 1 ? 0 : bytes == 2 || address & 2 ? 1 : 2);
    Access now;
    now.stamp = R.stamp;
    now.thread = idOf(*R.current);
    now.clock = clockOf(*R.current);
    now.pc = pc;
    now.write = write;
    now.relaxed = relaxed;
    Cell* cell = region.cells + ((address - region.base) >> region.shift);
    Cell* end = region.cells + ((address + bytes - 1 - region.base) >> region.shift) + 1;
    for (; cell != end; ++cell) {
        if (!region.initialised && (!write || flags & kAtomic) && cell->write.stamp < (shared ? R.blockFirst : 1u)
            && !(flags & kUnaligned && isPadding(region, cell, shared)))
            uninitialised(region, address, bytes, flags, pc);
        if (!(relaxed && cell->write.relaxed) && unordered(cell->write, shared))
            race(region, address, bytes, flags, pc, cell->write);
        else if (write || cell->read.write || cell->otherRead.write) {
            for (const Access* read : {&cell->read, &cell->otherRead})
                if ((write || read->write) && !(relaxed && read->relaxed) && unordered(*read, shared)) {
                    race(region, address, bytes, flags, pc, *read);
                    break;
                }
        }
        if (write) cell->write = now;
        if (!write || relaxed) remember(*cell, now);
    }
}
static void acquire(uptr address)
{
    auto found = R.synchronised.find(address);
    if (found == R.synchronised.end()) return;
    R.current->knows = join(R.current->knows, found->second);
    R.knowledge = true;
}
static void release(uptr address)
{
    if (R.current->released) R.synchronised[address] = join(R.synchronised[address], R.current->released);
}
void fence(const Where* where)  // __threadfence: what I did is there for who sees what I do next
{
    if (!R.current) return;
    R.lastWhere = where;
    if (!checked) return;
    R.fences = R.knowledge = true;
    Thread& me = *R.current;
    u32 id = idOf(me), lane = id & 31;
    auto mine = std::make_shared<Knowledge>();
    Known& block = mine->blocks[R.blockFirst];
    block.before = R.stamp;
    if (me.clockStamp != R.stamp) {
        std::memset(me.seen, 0, sizeof me.seen);
        me.clockStamp = R.stamp; me.clock = 1; me.seen[lane] = 1;
    }
    for (u32 l = 0; l < 32; ++l) if (me.seen[l]) block.threads[(id & ~31u) + l] = {R.stamp, me.seen[l]};
    me.seen[lane] = ++me.clock;
    me.released = join(join(me.released, me.knows), mine);
}

static void record(const Region& region, uptr address, u32 bytes, u32 flags, u32 pc)
{
    if (R.traceCount < R.traceCapacity)
        R.trace[R.traceCount] = {u64(address - region.base), R.blocks.back().block, pc,
                                 u16(idOf(*R.current)), u16(region.id), u8(bytes), u8(flags), u16(R.launchIndex)};
    ++R.traceCount;
}

void access(uptr address, u32 bytes, u32 flags, void* returnAddress)
{
    const u32 pc = u32(uptr(returnAddress) - 1 - R.imageBase);
    if (!R.current) {
        if (arena && isDevice(address)) hostAccess(address, bytes, flags, pc);
        return;
    }
    if (address - R.ownStack < kStackBytes) return;     // a thread's own variables
    ++R.accesses;
    R.lastPc = pc;
    if (R.pending.active) settlePending();
    Region* region;
    if (address - arena < kArenaBytes) region = findGlobal(address);
    else if (address - sharedArena < kStaticSharedBytes + kDynamicSharedBytes) region = findShared(address);
    else if (isModuleData(address)) return;             // tables and constants of the program itself
    else region = nullptr;
    if (!region || address < region->base || address + bytes > region->base + region->bytes || region->freed)
        outOfBounds(address, bytes, flags, pc);
    if (!(flags & kUnaligned) && bytes <= 16 && address & (bytes - 1)) misaligned(region, address, bytes, flags, pc);
    if (R.trace) record(*region, address, bytes, flags, pc);
    if (flags & kWrite && !region->writable) { writeToInput(*region, address, bytes, flags, pc); return; }
    if (flags & (kAtomic | kVolatile)) {
        if (R.fences && region->space == Space::global) { acquire(address); if (flags & kWrite) release(address); }
        if (++R.naps > 512) nap();                      // it may wait for another thread
    }
    if (region->cells) touch(*region, address, bytes, flags, pc);
}
void beforeAtomic(const void* pointer, unsigned bytes, void* returnAddress)
{
    if (checked) { access(uptr(pointer), bytes, kWrite | kAtomic, returnAddress); return; }
    if (R.current && ++R.naps > 512) nap();
}
} // namespace cucpu
